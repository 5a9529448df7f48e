"""Guess what the columns of a table are: text, label, reason, or none of these."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tutelage.core.errors import DataError
from tutelage.core.labels import number_of, spelled
from tutelage.data.cells import nested

_LABELS = (
    "label", "gold_label", "labels", "gold", "class", "class_index", "target",
    "entailment_judgment", "entailment_label", "judgment", "annotation", "y", "choices", "choice",
    "accept",
)  # fmt: skip
"""Names of label columns; the earlier one wins."""

_SUBJECTS = (
    "category", "intent", "sentiment", "polarity", "topic", "stance", "verdict", "emotion", "queue",
    "answer", "rating", "stars",
)  # fmt: skip
"""What labels are about. A file may have several of these, of which none is the label more than
another."""

_NAMES_OF = re.compile(r"(.+)_(text|names?|str|string|desc|description|title)")
"""Names of columns that say in words what another column has as a number."""

_MACHINE = re.compile(
    r"(.*_)?(pred|preds|predicted|predictions?|suggested|suggestions?|model|machine|auto)(_.*)?"
)
"""Names of columns, or of objects that hold them, whose values a model guessed."""

_REVIEW = {"accept", "reject", "ignore", "true", "false"}
"""Values that say whether an annotation counts, in columns of the names below."""

_REVIEWED = re.compile(r"answer|(was_)?(cancelled|canceled|skipped|rejected|discarded|ignored)")

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
    r"confidence|(unnamed|column)_[0-9]+)(_?[0-9]+)*"
)
"""Names of columns that describe a row or how it was made, and neither text nor label."""

_IDS = re.compile(r"(.*_)?(id|uid|guid|uuid)|(pair|example|row|caption|prompt|item|doc|sent)id")
"""Names of columns whose values may name the rows. A number called `idx` or `index` only counts the
rows of its file, and those of another file have the same ones."""

_IDS_OF_OTHERS = re.compile(
    r"(.*_)?(worker|annotator|rater|coder|reviewer|author|user|agent|customer|client|model|session|"
    r"label|class|topic|category|source|assignment|hit)_?(id|uid|guid|uuid)"
)
"""Names of columns that name somebody or something else, even where no value comes twice."""

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
        # Marks belong to letters: Hindi and Thai write vowels with them.
        kept = (c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in joined)
        return "_".join("".join(kept).split()).lower()

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
    def is_guess(self) -> bool:
        """Whether it is named as what a model guessed, or inside of what is."""
        parts = [Column(part, ()).plain_name for part in self.name.split(".")]
        return any(_MACHINE.fullmatch(part) for part in parts)

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
        if not named and kinds == rows:
            return False
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
    free = [
        c for c in columns
        if c.name not in texts and not c.is_reason and not c.is_guess and c.values
    ]  # fmt: skip
    for name in _LABELS:
        for column in free:
            if _is_label(column, name, where):
                return _in_words(column, free)
    subjects = [c for name in _SUBJECTS for c in free if _is_label(c, name, where)]
    if any(c.name != subjects[0].name and not _one_to_one(c, subjects[0]) for c in subjects):
        listed = ", ".join(f"{c.name!r} ({len(c.counts)} values)" for c in subjects)
        raise DataError(
            f"several columns may hold the label: {listed}: name it with --label-column",
            path=str(where),
        )
    if subjects:
        return _in_words(subjects[0], free)
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


def _is_label(column: Column, name: str, where: object) -> bool:
    """Whether a column has this name of labels, and what can be labels."""
    if name not in (column.plain_name, column.plain_name.replace("_", "")):
        return False
    if column.holds_lists and not column.counts:
        raise DataError(
            f"column {column.name!r} holds lists of labels, expected one label in each row: write "
            "one row for each label, or name another column with --label-column",
            path=str(where),
        )
    if column.plain_name == "accept" and not column.holds_lists:
        return False
    if column.plain_name == "answer" and set(column.counts) <= _REVIEW - {"true", "false"}:
        return False
    few = column.may_be_label(named=True)
    return few or (len(column.counts) == 1 and not column.is_text)


def _one_to_one(one: Column, other: Column) -> bool:
    """Whether each value of one column goes with one value of the other, in all rows."""
    if len(one.values) != len(other.values) or not one.counts or not other.counts:
        return False
    together = {(spelled(a), spelled(b)) for a, b in zip(one.values, other.values, strict=True)}
    return len(one.counts) == len(other.counts) == len(together)


def _in_words(label: Column, columns: Sequence[Column]) -> Column:
    """The column that has the label in words, where this one has numbers: `label_text`."""
    if all(number_of(text) is not None for text in label.counts):
        for column in columns:
            named = _NAMES_OF.fullmatch(column.plain_name)
            if named and named[1] == label.plain_name and _one_to_one(label, column):
                return column
    return label


def remarks(columns: Sequence[Column], label: Column) -> list[str]:
    """What other columns say against using every row with its label, one sentence each."""
    found = []
    for column in columns:
        reviewed = _REVIEWED.fullmatch(column.plain_name)
        values = {text.casefold() for text in column.counts}
        if reviewed and column.name != label.name and len(values) > 1 and values <= _REVIEW:
            listed = ", ".join(f"{text} ({n:,} rows)" for text, n in column.counts.items())
            found.append(
                f"rows: {column.name!r} is {listed}, and all of them are read: leave out of the "
                "file those that do not count"
            )
    return found


def reason_columns(columns: Sequence[Column], taken: Sequence[str]) -> list[str]:
    """The columns that say why the label is right, in the order of their numbers."""
    found = []
    for column in columns:
        match = _REASON.fullmatch(column.plain_name)
        if match and "." not in column.name and column.name not in taken:
            found.append((int(match[match.re.groups] or 0), column.name))
    return [name for _, name in sorted(found, key=lambda part: part[0])]


def id_columns(columns: Sequence[Column], taken: Collection[str]) -> list[str]:
    """The columns that are named as ids of the rows: `uid`, then those with short names first.

    taken: columns that hold something else
    """
    found = []
    for column in columns:
        name = column.plain_name
        named = _IDS.fullmatch(name) and not _IDS_OF_OTHERS.fullmatch(name)
        if named and "." not in column.name and column.name not in taken:
            found.append(column.name)
    return sorted(found, key=lambda name: (name != "uid", len(name)))


def text_columns(columns: Sequence[Column], label: Column, where: object) -> list[str]:
    """The columns of the student's input: a known pair, else a known text with its title, else all
    that hold text.

    Raises DataError where no column is clearly text.
    """
    free = [
        c for c in columns
        if c.name != label.name and not c.is_reason and not c.holds_lists and not c.is_guess
        and c.values
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
    shaped = [c.name for c in free if c.is_text and not c.is_about_rows and len(set(c.values)) > 1]
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
