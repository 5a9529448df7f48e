"""Describe a data file: its columns, and which of them are probably text, label and reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError
from tutelage.core.labels import folded, may_be_nothing, number_of
from tutelage.core.task import NLI, PRESETS, SENTIMENT, YES_NO, PresetName, Task
from tutelage.data.cells import as_id
from tutelage.data.columns import (
    TITLES,
    Column,
    columns_of,
    id_columns,
    label_column,
    reason_columns,
    remarks,
    text_columns,
)
from tutelage.data.label_values import LabelFound, LabelValues
from tutelage.data.load import parse_spec
from tutelage.data.sample import Sample, sample_of
from tutelage.data.source import RepeatedNameError
from tutelage.data.text_files import name_encoding

_NO_HEADER = "header: its first row is taken for data, so that columns have numbers"


@dataclass(frozen=True, slots=True)
class PoolDescription:
    """What a file of unlabelled rows holds, if it is read as the labelled ones are.

    source:      the data spec
    rows:        how many were examined
    complete:    whether these are all
    unreadable:  those without text; first_fault: why the first of them is
    labelled:    those that have a label, which nothing will look at
    known:       those with the text of a labelled row of the sample, which will be left out
    repeated:    those with the text of an earlier one, which will be left out
    example:     the first field of the first row
    """

    source: str
    rows: int
    complete: bool
    unreadable: int
    first_fault: str | None
    labelled: int
    known: int
    repeated: int
    example: str


@dataclass(frozen=True, slots=True)
class Description:
    """A guess at what a file's columns mean, for the user to check.

    rows:         how many were examined
    complete:     whether these are all
    preset:       the preset whose fields and labels these are; None: a task of the file's own
    label_column: the file's column of labels
    found:        each label, most frequent first
    unlabelled:   rows that have no label
    undecided:    values that may be labels, or mean that a row has none (-1, `-`)
    layout:      how the file is read, as far as it differs from the defaults
    left_aside:   columns that are not used
    notes:        what else the user should check, one sentence each
    pool:         the unlabelled rows that go with it; None where none are named
    """

    rows: int
    complete: bool
    task: Task
    preset: PresetName | None
    label_column: str
    found: tuple[LabelFound, ...]
    unlabelled: int
    undecided: tuple[LabelFound, ...]
    layout: LayoutSettings
    left_aside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = field(default=())
    pool: PoolDescription | None = None


def describe_file(
    data: str | Path,
    *,
    label: str | None = None,
    texts: Sequence[str] = (),
    labels: Sequence[str] = (),
    layout: LayoutSettings | None = None,
    others: Sequence[str] = (),
) -> Description:
    """Examine a sample of what a data spec names.

    label, texts: the columns to use; guessed where not given
    labels:       the labels to use; other spellings of them in the file are read as them
    layout:      how the file is read, as far as the user says
    others:       files that are read in the same way; a column of ids has to fit them too

    Raises DataError where no label is found, or a named column is missing, and UsageError where
    values of the file could be one label or several.
    """
    spec = str(data)
    layout = (layout or LayoutSettings()).layout()
    sample, layout, notes = _readable(spec, layout)
    if not sample.rows:
        raise sample.faults[0] if sample.faults else DataError("holds no rows", path=spec)
    columns = columns_of(sample.rows, sample.source.columns)
    by_name = {column.name: column for column in columns}
    label = label or _said(layout, "label")
    texts = list(texts) or _said_texts(layout, by_name)
    for wanted in (label, *texts):
        if wanted is not None and wanted not in by_name:
            listed = ", ".join(by_name)
            raise DataError(f"no column {wanted!r}: expected one of {listed}", path=spec)
    chosen = by_name[label] if label else label_column(columns, texts, spec)
    inputs = list(texts) or text_columns(columns, chosen, spec)
    names = layout.label_names or list(sample.source.names.get(chosen.name, ()))
    found = LabelValues(sample, chosen, inputs, names, layout, spec)
    preset, fields = _preset(inputs, found, by_name, labels)
    plain = [by_name[name].plain_name for name in inputs]
    task = PRESETS[preset] if preset else _own_task(inputs, plain, fields, found, labels, sample)
    mapping: dict[str, Any] = dict(zip(fields, inputs, strict=True)) | {"label": chosen.name}
    mapping = {ours: theirs for ours, theirs in mapping.items() if ours != theirs}
    reasons = reason_columns(columns, [*inputs, chosen.name])
    if reasons and reasons != ["reason"]:
        mapping["reason"] = reasons[0] if len(reasons) == 1 else reasons
    ids = id_columns(columns, [*inputs, chosen.name, *reasons])
    mapping |= _ids(ids, sample, layout, others)
    mapping |= {k: v for k, v in layout.columns.items() if k in ("uid", "reason", "tags")}
    used = {*inputs, chosen.name, *reasons, "uid", "tags", "inference_tags"}
    used |= {v for v in mapping.values() if isinstance(v, str)}
    labelled, blank, undecided = found.read(task)
    if not labels and not found.only_numbers:
        notes += [
            f"labels: {one.label!r} in {one.count:,} rows is taken for a label, because there is "
            "only one other"
            for one in labelled
            if may_be_nothing(one.label)
        ]
    notes += remarks(columns, chosen)
    if mapping.get("uid") and "uid" not in layout.columns and not sample.complete:
        notes.append(
            f"ids: in the sample no value of {mapping['uid']!r} comes twice; where one does, say "
            'columns: {uid: ""}'
        )
    return Description(
        rows=len(sample.rows),
        complete=sample.complete,
        task=task,
        preset=preset,
        label_column=chosen.name,
        found=labelled,
        unlabelled=blank,
        undecided=undecided,
        layout=layout.replace(columns=mapping),
        left_aside=tuple(name for name in by_name if name not in used),
        notes=tuple(notes),
        text_columns=tuple(inputs),
    )


def _ids(
    names: Sequence[str], sample: Sample, layout: LayoutSettings, others: Sequence[str]
) -> dict[str, str]:
    """What the mapping says of ids: the first of these columns of which no value comes twice, in
    this sample and in those of the other files together."""
    try:
        further = [sample_of(spec, layout) for spec in others if names]
    except DataError:
        return {}  # a file that cannot be read is reported when it is loaded
    rows = [row for one in (sample, *further) for row in one.rows[: one.first]]
    for name in names:
        ids = {as_id(row.get(name)) for row in rows}
        if None not in ids and len(ids) == len(rows):
            return {} if name == "uid" else {"uid": name}
    return {"uid": ""} if "uid" in names else {}


def _said(layout: LayoutSettings, name: str) -> str | None:
    said = layout.columns.get(name)
    return said if isinstance(said, str) else None


def _said_texts(layout: LayoutSettings, by_name: Mapping[str, Column]) -> list[str]:
    """The columns that the layout maps to fields of the task."""
    return [
        column
        for ours, column in layout.columns.items()
        if ours not in ("label", "uid", "reason", "tags") and isinstance(column, str)
    ]


def _readable(spec: str, layout: LayoutSettings) -> tuple[Sample, LayoutSettings, list[str]]:
    """The sample, read with an encoding and a header that fit; what was found is said in notes."""
    notes = []
    try:
        sample = sample_of(spec, layout)
    except RepeatedNameError:
        # Of a table without a header: names of columns are not numbers.
        layout = layout.replace(header=False)
        sample = sample_of(spec, layout)
        if not any(number_of(str(value)) is not None for value in sample.rows[0].values()):
            raise
        notes.append(_NO_HEADER)
    except DataError as error:
        path = Path(parse_spec(spec).place)
        guess = name_encoding(path) if layout.encoding is None and path.is_file() else None
        if guess is None or "which is not UTF-8" not in str(error):
            raise
        layout = layout.replace(encoding=guess)
        sample = sample_of(spec, layout)
        shown = _beyond_ascii(sample)
        notes.append(f"encoding: it is not UTF-8 and looks like {guess}: check {shown!r}")
    if layout.header and _first_row_is_data(sample):
        layout = layout.replace(header=False)
        sample = sample_of(spec, layout)
        notes.append(_NO_HEADER)
    return sample, layout, notes


def _beyond_ascii(sample: Sample) -> str:
    texts = (v for row in sample.rows for v in row.values() if isinstance(v, str))
    text = next((text for text in texts if not text.isascii()), "")
    at = next((i for i, letter in enumerate(text) if not letter.isascii()), 0)
    return text[max(at - 20, 0) : at + 20]


def _first_row_is_data(sample: Sample) -> bool:
    """Whether a name of a column is also one of its values, or all names are numbers."""
    names = sample.source.columns
    if names is None or not sample.source.headed or not sample.rows:
        return False
    if all(number_of(name) is not None for name in names):
        return True
    return any(name.strip() and row.get(name) == name for row in sample.rows for name in names)


def _preset(
    inputs: Sequence[str], found: LabelValues, by_name: Mapping[str, Column], labels: Sequence[str]
) -> tuple[PresetName | None, list[str]]:
    """The preset that these columns and labels are, and the field of each input column."""
    plain = [by_name[name].plain_name for name in inputs]
    if labels:
        return None, _field_names(inputs, by_name)
    if len(inputs) == 2:
        of_nli = any(name.startswith(("premise", "hypothesis")) for name in plain)
        if (of_nli or not found.only_numbers) and found.fit(NLI):
            reverse = plain[0].startswith("hypothesis") or plain[1].startswith("premise")
            return "nli", ["hypothesis", "premise"] if reverse else ["premise", "hypothesis"]
        if "question" in plain and found.fit(YES_NO):
            return "yes_no", ["question" if n == "question" else "passage" for n in plain]
    # The names alone: a file that has `pos` and `neg` keeps its own labels.
    named = {folded(text) for text in found.values()} == set(SENTIMENT.labels)
    if len(inputs) == 1 and named and found.fit(SENTIMENT):
        return "sentiment", ["text"]
    return None, _field_names(inputs, by_name)


def _field_names(inputs: Sequence[str], by_name: Mapping[str, Column]) -> list[str]:
    """A name for each input field: the column's, where it can be one."""
    names: list[str] = []
    for number, column in enumerate(inputs, 1):
        name = column
        if not name.isidentifier():
            name = by_name[column].plain_name
        if not name.isidentifier():
            name = "text" if len(inputs) == 1 else f"text{number}"
        if name in ("label", "uid", "reason", "tags"):
            name += "_text"
        names.append(name if name not in names else f"{name}{number}")
    return names


def _own_task(
    inputs: Sequence[str],
    plain: Sequence[str],
    fields: list[str],
    found: LabelValues,
    labels: Sequence[str],
    sample: Sample,
) -> Task:
    given = tuple(labels) or found.checked()
    if len(inputs) == 2 and any("entail" in label.casefold() for label in given):
        fields[:] = ["premise", "hypothesis"]
    spellings = found.spellings(given) if labels else {}
    context = _context(inputs, plain, fields, sample)
    return Task("task", tuple(fields), given, spellings, context=context)


def _context(
    inputs: Sequence[str], plain: Sequence[str], fields: Sequence[str], sample: Sample
) -> str | None:
    """The field of a pair that several rows share, if there is one. A title and its text are one
    text in two parts, and no such pair."""
    if len(inputs) != 2 or plain[0] in TITLES:
        return None
    if fields[0] in ("premise", "passage", "context", "article", "evidence"):
        return fields[0]
    kinds = [len({str(row.get(column)) for row in sample.rows}) for column in inputs]
    fewest = min(range(2), key=lambda i: kinds[i])
    return fields[fewest] if kinds[fewest] <= 0.8 * len(sample.rows) else None
