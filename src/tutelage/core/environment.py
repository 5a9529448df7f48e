"""Expand environment variables in paths and addresses: `${NAME}` and `${NAME:-default}`."""

from __future__ import annotations

import os
import re

from tutelage.core.errors import UsageError

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")


def expand_variables(text: str) -> str:
    """Replace every `${NAME}` and `${NAME:-default}` in `text`.

    As in a shell, the default replaces a variable that is unset or empty. Any other `$` stays.

    Raises UsageError for a variable with neither a value nor a default.
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
