"""Names what rows share by the task's own word: 200 premises, not 200 groups of rows."""

from __future__ import annotations

from tutelage.core.results import Comparison
from tutelage.core.wording import plural, several

_UNNAMED = "groups of rows"
"""As the descriptions of tests in the results have it: `crossed random effects over 200 …`."""


def with_units(text: str, context: str | None) -> str:
    """The description of a test, with its groups of rows called by their name."""
    return text.replace(_UNNAMED, _units(context))


def rows_in_words(comparison: Comparison, context: str | None) -> str:
    """`600 rows`; `600 rows from 200 premises` where premises are the units of the test."""
    rows, units = several(comparison.n, "row"), units_in_words(comparison, context)
    return f"{rows} {'from' if context else 'in'} {units}" if units else rows


def units_in_words(comparison: Comparison, context: str | None) -> str:
    """`200 premises`; empty where rows are the units."""
    if comparison.groups == comparison.n:
        return ""
    return f"{comparison.groups:,} {_units(context)}"


def _units(context: str | None) -> str:
    if context is None:
        return _UNNAMED
    # A plural of `text_a` would look like another field.
    return plural(context) if context.isalpha() else f"{_UNNAMED} with one {context}"
