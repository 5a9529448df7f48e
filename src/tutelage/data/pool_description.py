"""Describe a file of unlabelled rows that is to be read as the labelled ones are."""

from __future__ import annotations

from dataclasses import replace

from tutelage.core.errors import DataError
from tutelage.core.types import Example
from tutelage.core.words import text_key
from tutelage.data.describe import Description, PoolDescription
from tutelage.data.faults import Faults
from tutelage.data.row_ids import NotedIds
from tutelage.data.row_parser import RowParser
from tutelage.data.sample import Sample, sample_of


def describe_pool(spec: str, found: Description, train: str) -> PoolDescription:
    """Examine a sample of the unlabelled rows that `spec` names.

    found: what the labelled rows were taken for; the others are read in the same way
    train: the labelled rows, of which a sample is compared with these

    Raises DataError where the file cannot be read so: it lacks a column of text, say, or no row of
    the sample has text.
    """
    sample = sample_of(spec, found.layout)
    parser = RowParser(found.task, found.layout, labelled=False, ignores_labels=True)
    try:
        rows, faults = _rows(sample, parser)
    except DataError as error:
        raise DataError(
            f"{error}: unlabelled rows are read as the labelled ones of {train} are, so give their "
            "columns the same names"
        ) from error
    if not rows:
        faults.raise_any()
        raise DataError("holds no rows, expected unlabelled ones", path=spec)
    known, _ = _rows(sample_of(train, found.layout), parser)
    texts = {_text(row) for row in known}
    first = faults.error()
    return PoolDescription(
        source=spec,
        rows=len(sample.rows),
        complete=sample.complete,
        unreadable=faults.count,
        first_fault=None if first is None else str(first),
        labelled=sum(parser.has_label(row) for row in sample.rows),
        known=sum(_text(row) in texts for row in rows),
        repeated=len(rows) - len({_text(row) for row in rows}),
        example=next(iter(rows[0].fields.values())),
    )


def _rows(sample: Sample, parser: RowParser) -> tuple[list[Example], Faults]:
    source = replace(sample.source, rows=enumerate(sample.rows, 1), lines=False)
    rows: list[Example] = []
    faults = Faults(source)
    for place, row in parser.each(source, NotedIds()):
        if isinstance(row, DataError):
            faults.add(place, row)
        elif row is not None:
            rows.append(row)
    return rows, faults


def _text(row: Example) -> tuple[str, ...]:
    return tuple(text_key(text) for text in row.fields.values())
