"""Look at a part of a data source: all of a small one, rows from everywhere of a large one."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError
from tutelage.data.load import open_source, parse_spec
from tutelage.data.readers import format_of
from tutelage.data.source import Source
from tutelage.data.tables import parquet_sample

_FIRST = 20_000
"""Rows that are read from the beginning."""

_PLACES, _ROWS = 400, 10
"""Places in a large file, and rows that are read at each. A file sorted by label
has others there than at its beginning."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of a source.

    rows:     those that can be read, in order
    first:    how many of them are from the beginning; the others may be rows of these again
    complete: whether these are all
    faults:   errors of rows that cannot be read, the first few
    """

    source: Source
    rows: list[Mapping[str, object]]
    first: int
    complete: bool
    faults: list[DataError]


def sample_of(spec: str, layout: LayoutSettings) -> Sample:
    """Read a sample of what a data spec names; always the same one. Raises as opening it does."""
    source = open_source(spec, layout)
    rows: list[Mapping[str, object]] = []
    faults: list[DataError] = []
    places: list[int] = []
    numbered = iter(source.rows)
    for place, row in itertools.islice(numbered, _FIRST):
        places.append(place)
        if not isinstance(row, DataError):
            rows.append(row)
        elif len(faults) < 3:
            faults.append(row)
    if next(numbered, None) is None:
        return Sample(source, rows, len(rows), True, faults)
    # Where records have several lines, the middle of one could be taken for a row.
    first, path = len(rows), Path(parse_spec(spec).place)
    if places[-1] - places[0] == len(places) - 1 and path.is_file():
        rows += _from_everywhere(path, source, layout)
    return Sample(source, rows, first, False, faults)


def _from_everywhere(
    path: Path, source: Source, layout: LayoutSettings
) -> Iterator[Mapping[str, object]]:
    suffix = format_of(path)
    if suffix == ".parquet":
        yield from parquet_sample(path, _PLACES, _ROWS)
        return
    if suffix != path.suffix.lower() or layout.encoding or suffix in (".txt", ".json"):
        return
    columns = source.columns
    if suffix in (".jsonl", ".ndjson"):
        columns = None
    elif suffix not in (".csv", ".tsv") or columns is None:
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        for number in range(_PLACES):
            file.seek(size * (number + 1) // (_PLACES + 1))
            file.readline()
            for line in itertools.islice(file, _ROWS):
                row = _row(line, columns, layout, suffix)
                if row is not None:
                    yield row


def _row(
    line: bytes, columns: object, layout: LayoutSettings, suffix: str
) -> Mapping[str, object] | None:
    try:
        text = line.decode("utf-8").rstrip("\r\n")
        if columns is None:
            row = json.loads(text)
            return row if isinstance(row, dict) else None
        assert isinstance(columns, list)
        delimiters = [layout.delimiter or "\t"] if suffix == ".tsv" else [layout.delimiter or ","]
        if suffix == ".csv" and layout.delimiter is None:
            delimiters += ["\t", ";", "|"]
        for delimiter in delimiters:
            spaced = f'{delimiter} "' in text
            (cells,) = csv.reader([text], strict=True, delimiter=delimiter, skipinitialspace=spaced)
            if len(cells) == len(columns):
                return dict(zip(columns, cells, strict=True))
    except (ValueError, csv.Error):
        pass  # not a row of its own; the whole file is checked when it is loaded
    return None
