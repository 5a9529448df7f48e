"""Describe a data file: its columns, and which of them are probably text and label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tutelage.core.errors import DataError
from tutelage.core.task import NLI
from tutelage.data.readers import open_file

_ROWS = 2000
"""Rows that are examined, from the beginning of the file."""

_MOST_LABELS = 20
"""A column with more distinct values than this is not taken as a label."""

_LABEL_NAMES = ("label", "gold_label", "labels", "class", "category", "target", "sentiment", "y")
_PREMISES = ("premise", "context", "sentence1", "text_a")
_HYPOTHESES = ("hypothesis", "sentence2", "text_b")


@dataclass(frozen=True, slots=True)
class Description:
    """A guess at what a file's columns mean, for the user to check.

    rows:    how many were examined
    columns: our field -> the file's column, where the names differ
    counts:  rows for each value of the label column, most frequent first
    labels:  the task's labels
    is_nli:  whether the file looks like NLI: premise, hypothesis and three labels
    """

    rows: int
    fields: tuple[str, ...]
    label_column: str
    labels: tuple[str, ...]
    columns: Mapping[str, str]
    is_nli: bool
    counts: Mapping[str, int]


def describe_file(
    path: Path, *, label_column: str | None = None, text_columns: Sequence[str] = ()
) -> Description:
    """Examine the first rows of a `.jsonl`, `.csv` or `.parquet` file.

    label_column, text_columns: the columns to use; guessed where not given

    Raises DataError where no label is found, or a named column is missing.
    """
    rows = [row for _, row in islice(open_file(path).rows, _ROWS)]
    if not rows:
        raise DataError("holds no rows", path=path)
    names = list(rows[0])
    for wanted in (label_column, *text_columns):
        if wanted is not None and wanted not in names:
            raise DataError(f"no column {wanted!r}: expected one of {', '.join(names)}", path=path)
    values = {name: [str(row[name]) for row in rows if row.get(name) is not None] for name in names}
    label = label_column or _label_column(names, values, text_columns, path)
    counts = dict(Counter(values[label]).most_common())
    labels = tuple(counts)
    if len(labels) < 2:
        raise DataError(
            f"column {label!r} holds {len(labels)} distinct labels, expected two or more", path=path
        )
    texts = list(text_columns) or [n for n in names if n != label and _is_text(values[n])]
    if not texts:
        raise DataError(
            f"no column of text among {names}, where {label!r} is the label: name one with "
            "--text-columns",
            path=path,
        )
    premise, hypothesis = _first(texts, _PREMISES), _first(texts, _HYPOTHESES)
    if text_columns and len(texts) == 2:
        premise, hypothesis = texts
    if premise and hypothesis and _are_nli_labels(labels):
        mapping = {"premise": premise, "hypothesis": hypothesis, "label": label}
        changed = {ours: theirs for ours, theirs in mapping.items() if ours != theirs}
        return Description(len(rows), NLI.fields, label, NLI.labels, changed, True, counts)
    changed = {} if label == "label" else {"label": label}
    return Description(len(rows), tuple(texts), label, labels, changed, False, counts)


def _label_column(
    names: Sequence[str],
    values: Mapping[str, Sequence[str]],
    texts: Sequence[str],
    path: Path,
) -> str:
    few = [n for n in names if 2 <= len(set(values[n])) <= _MOST_LABELS and n not in texts]
    label = next((n for w in _LABEL_NAMES for n in names if n.lower() == w and n in few), None)
    if label is None:
        label = few[-1] if few else None
    if label is None:
        raise DataError(
            f"no column looks like a label (2 to {_MOST_LABELS} distinct values) among "
            f"{list(names)}: name it with --label-column, or write the recipe by hand",
            path=path,
        )
    return label


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((n for w in wanted for n in names if n.lower() == w), None)


def _is_text(values: Sequence[str]) -> bool:
    """Whether most values hold several words."""
    return bool(values) and sum(" " in value.strip() for value in values) > len(values) / 2


def _are_nli_labels(labels: Sequence[str]) -> bool:
    try:
        return {NLI.parse_label(label) for label in labels} - {None} == set(NLI.labels)
    except ValueError:
        return False
