"""What rows share, in the task's own word: 600 rows (200 premises), not 200 groups of rows."""

from __future__ import annotations

from tutelage.core.results import Comparison
from tutelage.core.wording import plural, several

_NAMELESS = "groups of rows"
"""As the descriptions of tests in results.json have it: `crossed random effects over 200 …`."""


def with_units(text: str, context: str | None) -> str:
    """A test's description from results.json, with its groups of rows called by name."""
    return text.replace(_NAMELESS, _units(context))


def rows_in_words(counted: Comparison, context: str | None) -> str:
    """`600 rows (200 premises)`: the units too, where the test takes them and not the rows."""
    rows, units = several(counted.n, "row"), units_in_words(counted, context)
    return f"{rows} ({units})" if units else rows


def units_in_words(counted: Comparison, context: str | None) -> str:
    """`200 premises`; empty where rows are the units themselves."""
    return "" if counted.groups == counted.n else f"{counted.groups:,} {_units(context)}"


def _units(context: str | None) -> str:
    if context is None:
        return _NAMELESS
    # A plural of `text_a` would read like another field.
    return plural(context) if context.isalpha() else f"{_NAMELESS} with one {context}"
