"""An opened source of rows, and the errors that name a place in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tutelage.core.errors import DataError

Row = Mapping[str, object] | DataError
"""The values of a row by column, or why it cannot be read."""


@dataclass(frozen=True, slots=True)
class Source:
    """An opened source of rows.

    name:    path or hub name, for messages
    columns: the columns of every row; None where rows may differ (JSON lines)
    rows:    (place, row); place is a line or row number, counted from 1
    lines:   whether places are lines of a text file
    names:   column -> names of the numbers 0, 1, 2, … in it, where the source declares them
    locate:  place -> the file and the place in it, where the source has several files
    """

    name: str
    columns: Sequence[str] | None
    rows: Iterable[tuple[int, Row]]
    lines: bool
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    locate: Callable[[int], tuple[str, int]] | None = None

    def error(self, message: str, place: int, field: str | None = None) -> DataError:
        """Make a DataError for the row at `place`."""
        name, place = (self.name, place) if self.locate is None else self.locate(place)
        if self.lines:
            return DataError(message, path=name, line=place, field=field)
        return DataError(f"row {place}: {message}", path=name, field=field)


def first_line(error: BaseException) -> str:
    """The first line of another package's error message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).strip()


def refuse_repeated(names: Sequence[str], path: object, line: int | None = None) -> None:
    """Raise DataError for a table in which two columns have one name."""
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise DataError(
            f"has two columns of one name: {', '.join(repeated)}",
            path=str(path),
            line=line,
        )
