"""CSV files and their relatives: which character separates cells, and whether quotes do."""

from __future__ import annotations

import csv
import itertools
import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError
from tutelage.data.source import Block, CellRows, RowsInBlocks, Source, named, refuse_repeated
from tutelage.data.text_files import text_lines

if TYPE_CHECKING:
    from _csv import Reader as _Reader

_CANDIDATES = (",", "\t", ";", "|")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SAID = re.compile(r"sep=(.)\r?\n?")
_PEEKED = 50
"""Lines from which the separating character is found."""
_BLOCK = 250
"""Records that are read together."""


def open_delimited(path: Path, layout: LayoutSettings, delimiter: str | None) -> Source:
    """Open a file of separated cells. `delimiter` is what the file's suffix promises, if anything.

    Raises DataError for a blank file, a header that names a column twice, or a file in which no
    character separates cells, where none is promised.
    """
    # A passage may be longer than the 131,072 characters that the module allows by default.
    csv.field_size_limit(sys.maxsize)
    lines = text_lines(path, layout.encoding, newline="")
    peeked = list(itertools.islice(lines, _PEEKED))
    if not "".join(peeked).strip() and next(lines, None) is None:
        raise DataError("is blank, expected rows", path=path)
    before = 0
    said = _SAID.fullmatch(peeked[0]) if peeked else None
    if said is not None:  # Excel's line before the header
        peeked, before = peeked[1:], 1
    chosen = layout.delimiter or (said and said[1]) or delimiter or _sniff(peeked)
    marks = chosen != "\t" or _quotes_are_marks(path, layout)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if marks else csv.QUOTE_NONE
    lines = itertools.chain(peeked, lines) if peeked else lines
    # strict: otherwise an unclosed quote silently swallows the rest of the file.
    # A quote after a separator and a space encloses a cell as well.
    spaced = any(f'{chosen} "' in line for line in peeked[:2])
    reader = csv.reader(
        lines, strict=True, delimiter=chosen, quoting=quoting, skipinitialspace=marks and spaced
    )

    blocks = _blocks(reader, before + 1, path)
    places, records = next(blocks)
    first = records[0]
    if layout.header:
        refuse_repeated(first, path, places[0])
        header = named(first)
        places, records = places[1:], records[1:]
    else:
        header = [str(number) for number in range(1, len(first) + 1)]

    def rows() -> Iterator[Block]:
        for lines, block in itertools.chain([(places, records)] if records else [], blocks):
            if set(map(len, block)) == {len(header)}:
                columns = dict(zip(header, zip(*block, strict=True), strict=True))
                yield lines, CellRows(columns, len(block))
                continue
            yield (
                lines,
                [
                    dict(zip(header, record, strict=True))
                    if len(record) == len(header)
                    else _wrong_count(path, line, record, header, chosen)
                    for line, record in zip(lines, block, strict=True)
                ],
            )

    return Source(str(path), header, RowsInBlocks(rows()), lines=True, headed=layout.header)


def _blocks(
    reader: _Reader, line: int, path: Path
) -> Iterator[tuple[Sequence[int], list[list[str]]]]:
    """Some records at a time, none of them blank, and the line at which each begins.

    line: that of the reader's next record
    """
    failed: Exception | None = None
    while failed is None:
        records: list[list[str]] = []
        before = reader.line_num
        try:
            deque(map(records.append, itertools.islice(reader, _BLOCK)), maxlen=0)
        except Exception as error:  # noqa: BLE001  raised after the records before it
            failed = error
        if failed is None and not records:
            return
        begin = line
        line += len(records)
        lines: Sequence[int] = range(begin, line)
        if failed is not None or reader.line_num - before > len(records):
            # A record has as many line ends inside of its cells as it has further lines.
            counts = [1 + sum(map(_line_ends, record)) for record in records]
            *begins, line = itertools.accumulate(counts, initial=begin)
            lines = begins
        if not all(record and record[0].strip() for record in records):
            there = [any(map(str.strip, record)) for record in records]
            lines = list(itertools.compress(lines, there))
            records = list(itertools.compress(records, there))
        if records:
            yield lines, records
    if not isinstance(failed, csv.Error):
        raise failed
    # The rest of the file may be inside of the quote: nothing after it can be read.
    raise DataError(
        f"is not valid CSV ({failed}), in the row that begins here", path=path, line=line
    ) from failed


def _line_ends(cell: str) -> int:
    """The line ends in a cell, as the lines of its file were counted."""
    if "\r" not in cell:
        return cell.count("\n")
    return cell.count("\r") + cell.count("\n") - cell.count("\r\n")


def _wrong_count(
    path: Path, line: int, record: list[str], header: list[str], delimiter: str
) -> DataError:
    return DataError(
        f"got {len(record)} cells, expected {len(header)} as in the header "
        f"(a cell that holds {_named(delimiter)} needs quotes; another character between cells is "
        "delimiter:)",
        path=path,
        line=line,
    )


def _named(delimiter: str) -> str:
    names = {",": "a comma", "\t": "a tab", ";": "a semicolon"}
    return names.get(delimiter, repr(delimiter))


def _sniff(lines: list[str]) -> str:
    """The first character that separates every row of the sample into as many cells, two or more;
    else a comma."""
    for candidate in _CANDIDATES:
        counts = []
        try:
            for record in csv.reader(lines, strict=True, delimiter=candidate):
                if record:
                    counts.append(len(record))
        except csv.Error:
            pass  # a row that the end of the sample cuts, or no CSV: then the reader says so
        if counts and counts[0] > 1 and len(set(counts)) == 1:
            return candidate
    header = next((line for line in lines if line.strip()), "")
    return next((candidate for candidate in _CANDIDATES if candidate in header), ",")


def _quotes_are_marks(path: Path, layout: LayoutSettings) -> bool:
    """Whether the quotes of a tab-separated file enclose cells, as spreadsheets write them.

    Many data sets are written without any quoting, and a quote is a character of the text. A
    program that encloses cells encloses every cell with a quote in it. So quotes are characters
    where a cell has one without being enclosed, and every line has as many cells as the first.
    """
    stray, count = False, 0
    for line in text_lines(path, layout.encoding, newline=""):
        cells = line.rstrip("\r\n").split("\t")
        count = count or len(cells)
        if len(cells) != count and line.strip():
            return True
        if '"' in line and not stray:
            stray = any('"' in cell and not _QUOTED.fullmatch(cell) for cell in cells)
    return not stray
