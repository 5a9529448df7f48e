"""Faulty rows, counted by kind, so that one message gives all of a file's problems."""

from __future__ import annotations

from dataclasses import dataclass, field

from tutelage.core.errors import DataError
from tutelage.data.source import Source

_SHOWN = 3
"""Kinds of problems, and rows of each kind, that a message shows."""


@dataclass
class _Kind:
    first: DataError
    places: list[int] = field(default_factory=list)
    count: int = 0


class Faults:
    """Collects the errors of a source's rows. What was expected makes the kind of a problem."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kinds: dict[tuple[str | None, str], _Kind] = {}

    def add(self, place: int, error: DataError) -> None:
        """Count an error of the row at `place`."""
        message = str(error)
        key = (error.field, message.partition("expected")[2] or message)
        if key not in self._kinds and len(self._kinds) >= 1000:
            key = (None, "further kinds")
        kind = self._kinds.setdefault(key, _Kind(error))
        kind.count += 1
        if len(kind.places) < _SHOWN:
            kind.places.append(place)

    @property
    def count(self) -> int:
        """How many rows were added."""
        return sum(kind.count for kind in self._kinds.values())

    def raise_any(self) -> None:
        """Raise what `error` gives, if anything was added."""
        error = self.error()
        if error is not None:
            raise error

    def error(self) -> DataError | None:
        """A DataError for what was added, if anything was: it locates the first fault, and gives
        the first of each kind with their number."""
        if not self._kinds:
            return None
        kinds = list(self._kinds.values())
        parts = [self._message(kind) for kind in kinds[:_SHOWN]]
        if len(kinds) > _SHOWN:
            parts.append(f"and {sum(kind.count for kind in kinds[_SHOWN:]):,} rows of other kinds")
        first = kinds[0].first
        if len(kinds) == 1 and kinds[0].count == 1:
            return first
        error = DataError("; ".join(parts))
        error.path, error.line, error.field = first.path, first.line, first.field
        return error

    def _message(self, kind: _Kind) -> str:
        if kind.count == 1:
            return str(kind.first)
        word = "line" if self._source.lines else "row"
        others = kind.places[1:]
        listed = f"{word}{'s' * (len(others) > 1)} {' and '.join(map(self._place, others))}"
        return f"{kind.first} (so in {listed}; {kind.count:,} rows in all)"

    def _place(self, place: int) -> str:
        if self._source.locate is None:
            return f"{place:,}"
        name, inner = self._source.locate(place)
        return f"{inner:,} of {name}"
