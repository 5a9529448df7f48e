"""Guess what the columns of a table are: text, label, reason, or none of these."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tutelage.core.errors import DataError
from tutelage.core.labels import number_of, spelled
from tutelage.data.row_parser import nested

_LABELS = (
    "label", "gold_label", "labels", "gold", "class", "class_index", "category", "intent",
    "sentiment", "target", "entailment_judgment", "entailment_label", "judgment", "polarity",
    "topic", "stance", "verdict", "emotion", "choices", "choice", "queue", "answer", "rating",
    "stars", "annotation", "y",
)  # fmt: skip
"""Names of label columns; the earlier one wins."""

_REASON = re.compile(
    r"(free_)?(explanations?|reasons?|reasoning|rationales?|justifications?|why|cot|chain_of_thought"
    r"|label_(explanation|reason|rationale))_?([0-9]*)"
)
"""Names of columns that say why the label is right."""

_ABOUT_ROWS = re.compile(
    r"(.*_)?(id|ids|uid|guid|idx|index|pairid|captionid|promptid|worker|workerid|annotators?|rater|"
    r"coder|reviewer|author|user|username|agent|by|date|time|timestamp|created|updated|created_at|"
    r"updated_at|split|fold|source|genre|domain|lang|language|locale|country|gender|platform|version|"
    r"round|batch|url|link|email|phone|lead|lead_time|tags|parse|binary_parse|marked|highlighted|"
    r"confidence)(_?[0-9]+)*"
)
"""Names of columns that describe a row or how it was made, and neither text nor label."""

_PAIRS = (
    ("premise", "hypothesis"), ("context", "hypothesis"), ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"), ("sentence_a", "sentence_b"), ("text_a", "text_b"),
    ("text1", "text2"), ("question1", "question2"), ("passage", "question"),
    ("context", "question"), ("article", "question"), ("document", "question"),
    ("question", "sentence"), ("evidence", "claim"), ("document", "claim"),
)  # fmt: skip
"""Names of two texts that are judged together; the first may be shared by several rows."""

TITLES = ("title", "subject", "headline")
"""Names of the short part of a text in two parts."""

_TEXTS = (
    "text", "sentence", "review", "review_text", "content", "body", "message", "comment", "tweet",
    "utterance", "query", "question", "document", "description", "input", "ticket", "post",
    "statement", "claim", "abstract", "passage", "article",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of the sample.

    values: those that are not missing or blank
    """

    name: str
    values: Sequence[object] = field(repr=False)

    @property
    def plain_name(self) -> str:
        """The name in lower case with words joined by `_`; of a path its last part."""
        last = self.name.rpartition(".")[2] or self.name
        joined = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", last)
        return re.sub(r"\W+", "_", joined).strip("_").lower()

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Rows by spelling of the value, most frequent first; empty for lists and the like."""
        try:
            return dict(Counter(spelled(value) or "" for value in self.values).most_common())
        except TypeError:
            return {}

    @property
    def holds_lists(self) -> bool:
        """Whether a value is a list."""
        return any(isinstance(value, list) for value in self.values)

    @property
    def is_reason(self) -> bool:
        """Whether it is named as the reason of the label, or inside of what is."""
        parts = [Column(part, ()).plain_name for part in self.name.split(".")]
        return any(_REASON.fullmatch(part) for part in parts)

    @property
    def is_about_rows(self) -> bool:
        """Whether its name says that it describes the row, as an id or an annotator."""
        compact = self.plain_name.replace("_", "")
        return bool(_ABOUT_ROWS.fullmatch(self.plain_name) or _ABOUT_ROWS.fullmatch(compact))

    @property
    def is_text(self) -> bool:
        """Whether most values are texts of several words, or of a script that has no spaces."""
        texts = [value.strip() for value in self.values if isinstance(value, str)]
        if not texts or len(texts) < len(self.values) / 2:
            return False
        words = sum(" " in text for text in texts)
        unspaced = sum(_unspaced(text) for text in texts)
        return words + unspaced > len(texts) / 2

    def may_be_label(self, *, named: bool = False) -> bool:
        """Whether few values come again and again; of a column that is named as a label, half as
        many values as rows are few."""
        kinds, rows = len(self.counts), len(self.values)
        if kinds < 2 or any(len(text) > 80 for text in self.counts):
            return False
        fractions = [number_of(text) for text in self.counts]
        if all(n is not None for n in fractions) and any(
            n is not None and n % 1 for n in fractions
        ):
            return False  # measurements, not classes
        return kinds <= 20 or kinds <= (rows / 2 if named else min(rows / 5, 1000))


def _unspaced(text: str) -> bool:
    beyond = sum(not letter.isascii() and letter.isalpha() for letter in text)
    return " " not in text and len(text) >= 6 and beyond > len(text) / 2


def columns_of(rows: Sequence[Mapping[str, object]], names: Sequence[str] | None) -> list[Column]:
    """The columns of rows; of nested values by their paths."""
    found: dict[str, None] = dict.fromkeys(names or ())
    if names is None or any(
        isinstance(v, Mapping | list) for row in rows[:50] for v in row.values()
    ):
        found = {}
        for row in rows[:2000]:
            for key, value in row.items():
                found.update(dict.fromkeys(_paths(key, value)))
    columns = []
    for name in found:
        values = [row[name] if name in row else nested(row, name) for row in rows]
        kept = [
            v
            for v in values
            if not (v is None or v == [] or (isinstance(v, str) and not v.strip()))
        ]
        columns.append(Column(name, kept))
    return columns


def _paths(path: str, value: object) -> list[str]:
    """The paths of the plain values inside of a value."""
    if isinstance(value, Mapping):
        return [inner for key, part in value.items() for inner in _paths(f"{path}.{key}", part)]
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return [
            inner for part in value if isinstance(part, Mapping) for inner in _paths(path, part)
        ]
    return [path]


def label_column(columns: Sequence[Column], texts: Sequence[str], where: object) -> Column:
    """The column that holds the label: by its name, else the only one that it can be.

    Raises DataError where there is none, or several.
    """
    free = [c for c in columns if c.name not in texts and not c.is_reason and c.values]
    for name in _LABELS:
        for column in free:
            if name in (column.plain_name, column.plain_name.replace("_", "")):
                if column.holds_lists and not column.counts:
                    raise DataError(
                        f"column {column.name!r} holds lists of labels, expected one label in each "
                        "row: write one row for each label, or name another column with "
                        "--label-column",
                        path=str(where),
                    )
                if column.may_be_label(named=True) or (
                    len(column.counts) == 1 and not column.is_text
                ):
                    return column
    possible = [c for c in free if c.may_be_label() and not c.is_about_rows]
    named = [c for c in possible if not c.is_text] or possible
    if len(named) > 1:
        words = [c for c in named if any(number_of(text) is None for text in c.counts)]
        named = words if len(words) == 1 else named
    if len(named) == 1:
        return named[0]
    others = named or [c for c in free if c.may_be_label()]
    listed = ", ".join(f"{c.name!r} ({len(c.counts)} values)" for c in others)
    if len(named) > 1:
        problem = f"several columns may hold the label: {listed}"
    else:
        problem = "no column looks like a label" + (
            f"; these have few values: {listed}"
            if others
            else " among " + ", ".join(repr(c.name) for c in columns)
        )
    raise DataError(f"{problem}: name it with --label-column", path=str(where))


def reason_columns(columns: Sequence[Column], taken: Sequence[str]) -> list[str]:
    """The columns that say why the label is right, in the order of their numbers."""
    found = []
    for column in columns:
        match = _REASON.fullmatch(column.plain_name)
        if match and "." not in column.name and column.name not in taken:
            found.append((int(match[match.re.groups] or 0), column.name))
    return [name for _, name in sorted(found, key=lambda part: part[0])]


def text_columns(columns: Sequence[Column], label: Column, where: object) -> list[str]:
    """The columns of the student's input: a known pair, else a known text with its title, else all
    that hold text.

    Raises DataError where no column is clearly text.
    """
    free = [
        c for c in columns
        if c.name != label.name and not c.is_reason and not c.holds_lists and c.values
    ]  # fmt: skip
    by_name: dict[str, str] = {}
    for column in free:
        if all(isinstance(value, str) for value in column.values):
            by_name.setdefault(column.plain_name, column.name)
    for first, second in _PAIRS:
        if first in by_name and second in by_name:
            return [by_name[first], by_name[second]]
    texts = [by_name[name] for name in _TEXTS if name in by_name][:1]
    titles = [by_name[name] for name in TITLES if name in by_name][:1]
    if texts:
        return titles + texts
    shaped = [c.name for c in free if c.is_text and not c.is_about_rows]
    if shaped:
        return shaped
    reasons = [c.name for c in columns if c.is_reason and c.is_text]
    if reasons:
        raise DataError(
            f"the only text is in {reasons[0]!r}, which is taken for the reason of the label and "
            f"not for the input: if it is the input, say --text-columns {reasons[0]}",
            path=str(where),
        )
    raise DataError(
        f"no column of text among {', '.join(repr(c.name) for c in columns)}, where {label.name!r} "
        "is the label: name one with --text-columns",
        path=str(where),
    )
