"""An opened source of rows, and the errors that name a place in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import overload

from tutelage.core.errors import DataError

Row = Mapping[str, object] | DataError
"""The values of a row by column, or why it cannot be read."""

Block = tuple[Sequence[int], Sequence[Row]]
"""The places of some rows, and the rows."""


class CellRows(Sequence[Mapping[str, object]]):
    """Rows of a table that are kept by column. A row is made when it is asked for."""

    def __init__(self, columns: Mapping[str, Sequence[object]], count: int) -> None:
        self.columns = columns
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Mapping[str, object]: ...
    @overload
    def __getitem__(self, index: slice) -> CellRows: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, object] | CellRows:
        if not isinstance(index, slice):
            return {name: values[index] for name, values in self.columns.items()}
        kept = {name: values[index] for name, values in self.columns.items()}
        return CellRows(kept, len(range(self._count)[index]))

    def __iter__(self) -> Iterator[Mapping[str, object]]:
        names = tuple(self.columns)
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(names, values))  # noqa: B905  of equal length, and quicker


class RowsInBlocks(Iterable[tuple[int, Row]]):
    """The rows of a source that has several at a time. They are there once."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self.blocks = blocks

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        for places, rows in self.blocks:
            yield from zip(places, rows, strict=True)


def in_blocks(rows: Iterable[tuple[int, Row]], size: int) -> Iterator[Block]:
    """The rows in blocks of at most `size`, or in those in which the source has them. What the
    source raises is raised after the rows before it."""
    if isinstance(rows, RowsInBlocks):
        yield from rows.blocks
        return
    pending = iter(rows)
    failed: Exception | None = None
    while failed is None:
        block: list[tuple[int, Row]] = []
        try:
            deque(map(block.append, islice(pending, size)), maxlen=0)
        except Exception as error:  # noqa: BLE001  raised after the rows before it
            failed = error
        if block:
            places, found = zip(*block, strict=True)
            yield places, found
        elif failed is None:
            return
    raise failed


def without_first(rows: Iterable[tuple[int, Row]], count: int) -> Iterable[tuple[int, Row]]:
    """The rows after the first `count`, still in blocks where they are there in blocks."""
    if not isinstance(rows, RowsInBlocks):
        return islice(rows, count, None)

    def rest(left: int) -> Iterator[Block]:
        for places, block in rows.blocks:
            if left < len(block):
                yield places[left:], block[left:]
            left = max(left - len(block), 0)

    return RowsInBlocks(rest(count))


@dataclass(frozen=True, slots=True)
class Source:
    """An opened source of rows.

    name:    path or hub name, for messages
    columns: the columns of every row; None where rows may differ (JSON lines)
    rows:    (place, row); place is a line or row number, counted from 1
    lines:   whether places are lines of a text file
    names:   column -> names of the numbers 0, 1, 2, … in it, where the source declares them
    locate:  place -> the file and the place in it, where the source has several files
    headed:  whether the columns have their names from the first row
    """

    name: str
    columns: Sequence[str] | None
    rows: Iterable[tuple[int, Row]]
    lines: bool
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    locate: Callable[[int], tuple[str, int]] | None = None
    headed: bool = False

    def error(self, message: str, place: int, field: str | None = None) -> DataError:
        """Make a DataError for the row at `place`."""
        name, place = (self.name, place) if self.locate is None else self.locate(place)
        if self.lines:
            return DataError(message, path=name, line=place, field=field)
        return DataError(f"row {place}: {message}", path=name, field=field)


def first_line(error: BaseException) -> str:
    """The first line of another package's error message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).strip()


class RepeatedNameError(DataError):
    """Two columns of a table have one name."""


def refuse_repeated(names: Sequence[str], path: object, line: int | None = None) -> None:
    """Raise RepeatedNameError for a table in which two columns have one name; several may be
    without a name."""
    repeated = sorted({name for name in names if name and list(names).count(name) > 1})
    if repeated:
        raise RepeatedNameError(
            f"has two columns of one name: {', '.join(repeated)}: rename one, or say header: false "
            "if the first row is data",
            path=str(path),
            line=line,
        )


def named(header: Sequence[str]) -> list[str]:
    """The names of columns, of which blank ones are the column's number: none is left out."""
    return [name if name.strip() else f"column {number}" for number, name in enumerate(header, 1)]
