"""Rows as examples, column by column: the quick way for rows in which all is as usual.

Whatever is unusual in any row, a fault or a value of a rare kind, makes `examples_by_column` give
None for all of them, before an id is learnt: then `RowParser` goes through them row by row, which
alone decides what is wrong with a row and says so.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, repeat
from operator import itemgetter
from typing import Any

from tutelage.core.errors import DataError
from tutelage.core.labels import LabelReader
from tutelage.core.types import Example
from tutelage.data.cells import as_id, cell_value, nested, reasons_of, tags_of
from tutelage.data.row_ids import Ids, content_ids
from tutelage.data.source import CellRows, Source

NO_REFERENCES: Mapping[str, str] = {}
"""One for all examples, of which there may be millions."""

_LABEL_KINDS = frozenset((str, int, float, bool))
"""Types of labels. Equal values of two of them, 1 and True, may be different labels."""

Rows = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Which columns of a row hold what; None or empty where none does.

    reader: of the label's column
    fields: the task's fields in order, each with its column
    """

    label: str | None
    reader: LabelReader | None
    fields: tuple[tuple[str, str], ...]
    uid: str | None
    reasons: tuple[str, ...]
    tags: str | None


class _UnusualError(Exception):
    """A row of them has to be looked at by itself."""


def examples_by_column(
    source: Source,
    places: Sequence[int],
    rows: Rows,
    plan: RowPlan,
    ids: Ids,
    *,
    labelled: bool,
) -> tuple[list[Example | None], Mapping[int, int]] | None:
    """The example of each row, None where it has no label; and the place of an earlier row by that
    of one with the same id. None where a row has to be looked at by itself.

    plan:     of every one of these rows
    ids:      learns the ids of the examples, in their order
    labelled: whether a row needs a label; otherwise its label is "" where there is none
    """
    try:
        labels = _labels(rows, plan)
        chosen = None
        if labelled and plan.label is not None and None in labels:
            chosen = [label is not None for label in labels]
            rows, places = list(compress(rows, chosen)), list(compress(places, chosen))
            labels = list(compress(labels, chosen))
        known = [label or "" for label in labels]
        fields = {name: _texts(rows, column) for name, column in plan.fields}
        reasons, references = _reasons(source, places, rows, plan)
        tags = _tags(source, places, rows, plan)
        given = None if plan.uid is None else _given_ids(rows, plan.uid)
    except (_UnusualError, DataError):
        return None
    earlier: Mapping[int, int] = {}
    uids: Sequence[str]
    if given is not None:
        uids, earlier = given, ids.all_given(given, places)
    else:
        uids = ids.all_computed(content_ids(fields, known), places)
    found = _examples(
        len(rows),
        uid=uids,
        fields=_mappings(fields),
        label=known,
        reason=reasons,
        tags=tags,
        references=references,
    )
    if chosen is not None:
        pending = iter(found)
        found = [next(pending) if there else None for there in chosen]
    return found, earlier


def _column(rows: Rows, name: str) -> Sequence[Any]:
    if isinstance(rows, CellRows) and name in rows.columns:
        return rows.columns[name]
    try:
        return list(map(itemgetter(name), rows))
    except KeyError:
        return [row[name] if name in row else nested(row, name) for row in rows]


def _labels(rows: Rows, plan: RowPlan) -> list[str | None]:
    """The label of each row, read once for each value that is there."""
    if plan.label is None or plan.reader is None:
        return [""] * len(rows)
    values = _column(rows, plan.label)
    kinds = set(map(type, values)) - {type(None)}
    if len(kinds) > 1 or not kinds <= _LABEL_KINDS:
        raise _UnusualError
    different = set(values)
    if kinds == {str}:
        _check_characters(value for value in different if value is not None)
    try:
        known = {value: plan.reader.read(value) for value in different}
    except ValueError as error:
        raise _UnusualError from error
    return list(map(known.__getitem__, values))


def _texts(rows: Rows, column: str) -> Sequence[str]:
    """The texts of a field, none of them blank."""
    values = _column(rows, column)
    if set(map(type, values)) - {str} or not all(map(str.strip, values)):
        raise _UnusualError
    _check_characters(values)
    return values


def _check_characters(texts: Iterable[str]) -> None:
    """Leave texts with half of a character to those who look at each row."""
    whole = "".join(texts)
    if not whole.isascii():
        try:
            whole.encode()
        except UnicodeEncodeError as error:
            raise _UnusualError from error


def _given_ids(rows: Rows, column: str) -> list[str]:
    values = _column(rows, column)
    if set(map(type, values)) - {str, int}:
        raise _UnusualError
    uids = [uid for uid in map(as_id, values) if uid is not None]
    if len(uids) < len(values):
        raise _UnusualError
    _check_characters(uids)
    return uids


def reason_of(
    source: Source, place: int, row: Mapping[str, object], columns: Sequence[str]
) -> tuple[str | None, Mapping[str, str]]:
    """The first reason of a row, and those of further annotators, which are kept as references.
    Raises DataError."""
    reasons: dict[str, None] = {}
    for column in columns:
        value = cell_value(source, place, row, column)
        reasons.update(dict.fromkeys(reasons_of(source, place, value, column)))
    if not reasons:
        return None, NO_REFERENCES
    first, *others = reasons
    if not others:
        return first, NO_REFERENCES
    return first, {f"human-{number}": text for number, text in enumerate(others, 2)}


def _reasons(
    source: Source, places: Sequence[int], rows: Rows, plan: RowPlan
) -> tuple[Iterable[str | None], Iterable[Mapping[str, str]]]:
    if not plan.reasons or not rows:
        return repeat(None), repeat(NO_REFERENCES)
    found = [reason_of(source, *pair, plan.reasons) for pair in zip(places, rows, strict=True)]
    first, further = zip(*found, strict=True)
    return first, further


def _tags(
    source: Source, places: Sequence[int], rows: Rows, plan: RowPlan
) -> Iterable[tuple[str, ...]]:
    column = plan.tags
    if column is None:
        return repeat(())
    return [
        tags_of(source, place, cell_value(source, place, row, column), column)
        for place, row in zip(places, rows, strict=True)
    ]


def _mappings(fields: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """The fields of each row."""
    if len(fields) == 1:
        ((name, values),) = fields.items()
        return [{name: value} for value in values]
    names = tuple(fields)
    return [dict(zip(names, values)) for values in zip(*fields.values())]  # noqa: B905  quicker


def _examples(count: int, **columns: Iterable[Any]) -> list[Any]:
    """`count` examples from the values of each of their fields.

    Equal to a call of `Example` for each, in less than half of its time: the constructor of a
    frozen dataclass sets its fields one by one through `object.__setattr__`; here one loop in C
    sets a field of all of them, through the descriptor of its slot.
    """
    made = list(map(object.__new__, repeat(Example, count)))
    for field in dataclasses.fields(Example):
        setter = getattr(Example, field.name).__set__
        deque(map(setter, made, columns.pop(field.name)), maxlen=0)
    assert not columns
    return made
