"""Environment variables in a path or address of a recipe: `${NAME}` and `${NAME:-default}`."""

from __future__ import annotations

import os
import re

from tutelage.core.errors import UsageError

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")


def expand_variables(text: str) -> str:
    """`text` with every `${NAME}` and `${NAME:-default}` replaced.

    As in a shell, the default stands for a variable that is unset or empty. Raises UsageError for
    a variable that has neither a value nor a default. Any other `$` is left as it is.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = os.environ.get(name) or default
        if found is None:
            raise UsageError(
                f"{text!r}: the environment variable {name} is not set: set it, or write "
                f"${{{name}:-a default}}"
            )
        return found

    return _REFERENCE.sub(value, text)
