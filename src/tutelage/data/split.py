"""Hold out dev or test rows by groups, and check what the splits share and lack.

Groups are rows that share a context (in NLI, the hypotheses of a premise) or nearly the same text
(`duplicates.py`). Rows that two splits share are an error unless they are dropped, because the
student would memorise them. Shared contexts are counted, because the report says how many test rows
have an unseen one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.core.errors import DataError, UsageError
from tutelage.core.results import DroppedRows, Duplicates
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.core.wording import joined, several
from tutelage.core.words import text_key
from tutelage.data.duplicates import Kind, Likeness, compare_texts, units_of


@dataclass(frozen=True, slots=True)
class Overlap:
    """The contexts that splits share; their rows are already known to be distinct.

    dev_rows, test_rows: rows whose context is one of train's, up to case, punctuation, white space
    unseen_test:         uids of the test rows whose context train does not have
    """

    dev_rows: int
    test_rows: int
    unseen_test: frozenset[str]


@dataclass(frozen=True)
class CheckedSplits:
    """Three splits without a row in common.

    train, dev, test: rows, in the old order; test is whole
    overlap:    contexts that dev and test share with train
    duplicates: what was dropped, what is grouped, and texts with two labels
    units:      uid -> unit of the statistics, for the rows of dev and test
    notes:      what a reader should know of the duplicates, one sentence each
    """

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    overlap: Overlap
    duplicates: Duplicates
    units: Mapping[str, str]
    notes: tuple[str, ...]


def hold_out(
    examples: Sequence[Example],
    task: Task,
    *,
    share: float | None = None,
    rows: int | None = None,
    seed: int = 0,
) -> tuple[list[Example], list[Example]]:
    """Split `examples` into (train, dev), each in the old order.

    share: the share of rows that dev takes, about; rows: their number, about

    Groups (rows of one context, or of nearly the same text) are not divided. They are taken in an
    order that `seed` shuffles, and a group goes to dev where that brings dev's size nearer to its
    target. Labels are not balanced.

    Raises UsageError unless exactly one of share (between 0 and 1) and rows (from 1 up) is given,
    DataError where no such split exists: either side would be empty, or dev would be smaller than
    half or larger than twice its target.
    """
    if (share is None) == (rows is None):
        raise UsageError(f"hold_out: got share={share}, rows={rows}; expected exactly one of them")
    if share is not None and not 0 < share < 1:
        raise UsageError(f"hold_out: got share={share}, expected a number between 0 and 1")
    if rows is not None and rows < 1:
        raise UsageError(f"hold_out: got rows={rows}, expected 1 or more")
    target = rows if rows is not None else max(1, round((share or 0) * len(examples)))
    groups: dict[str, list[int]] = {}
    for index, unit in enumerate(units_of(examples, task)):
        groups.setdefault(unit, []).append(index)
    order = list(groups.values())
    random.Random(f"tutelage/hold-out/{seed}").shuffle(order)
    held: set[int] = set()
    for group in order:
        if abs(len(held) + len(group) - target) <= abs(len(held) - target):
            held.update(group)
    if not target <= 2 * len(held) <= 4 * target or len(held) == len(examples):
        shared = "" if task.context is None else f"one {task.context} or "
        unit = f"groups of rows with {shared}nearly the same text"
        raise DataError(
            f"cannot hold out about {target} of {len(examples)} rows: they form {len(groups)} "
            f"{unit}, the largest of {max(map(len, order), default=0)}, and the nearest choice "
            f"holds {len(held)}: choose another size, or give dev as a separate file"
        )
    train = [example for index, example in enumerate(examples) if index not in held]
    return train, [examples[index] for index in sorted(held)]


def check_splits(
    train: Sequence[Example],
    dev: Sequence[Example],
    test: Sequence[Example],
    task: Task,
    *,
    drop: bool = False,
) -> CheckedSplits:
    """Check that the splits share no rows, and count the contexts that they share.

    drop: leave out what is shared: train loses what dev or test has, dev what test has

    Two rows are the same where their ids are equal, or their texts by `duplicates.py`. Rows that
    test has twice stay, as one unit of the statistics.

    Raises DataError for ids that repeat within a split, for rows that two splits share unless they
    are to be dropped, and where dropping them leaves nothing.
    """
    splits = {"train": train, "dev": dev, "test": test}
    for name, split in splits.items():
        _refuse_repeated(name, split)
    likeness = compare_texts(list(splits.values()), task, [1, 2])
    shared = [
        found
        for name, other in (("train", "dev"), ("train", "test"), ("dev", "test"))
        if (found := _shared(splits, name, other, likeness)).rows
    ]
    if shared and not drop:
        raise DataError(
            f"{'; '.join(each.text for each in shared)}, for example {shared[0].example(task)}: "
            "correct the files, or drop these rows from train (and from dev what test has) with "
            "data: {overlap: drop}"
        )
    kept = {name: _without(name, splits, shared) for name in splits}
    contexts = {_context(example, task) for example in kept["train"]}
    unseen = frozenset(e.uid for e in test if _context(e, task) not in contexts)
    seen_dev = sum(_context(e, task) in contexts for e in kept["dev"])
    units = {
        example.uid: unit
        for number, split in ((1, dev), (2, test))
        for example, unit in zip(split, units_of(split, task, likeness, number), strict=True)
    }
    alike = _alike(likeness, 2)
    two_labels = {
        name: _with_two_labels(split, likeness.texts[number].tolist())
        for number, (name, split) in enumerate(splits.items())
    }
    duplicates = Duplicates(
        dropped=tuple(each.counts for each in shared),
        test_rows_alike=sum(alike.values()),
        test_groups_alike=len(alike),
        two_labels={name: len(rows) for name, rows in two_labels.items()},
    )
    notes = [
        f"{each.text}, for example {each.example(task)}: dropped from {each.name}"
        for each in shared
    ]
    if alike:
        notes.append(
            f"test: {several(sum(alike.values()), 'row')} have nearly the same text as another "
            f"test row; they form {several(len(alike), 'group')}, each of which counts as one unit "
            "in the statistics"
        )
    notes += [
        f"{name}: {several(len(rows), 'row')} have a text that another row has under another "
        f"label, for example {_quoted(splits[name][rows[0]], task)} as "
        f"{joined([repr(label) for label in _labels(name, splits, likeness, rows[0])])}"
        for name, rows in two_labels.items()
        if rows
    ]
    return CheckedSplits(
        kept["train"],
        kept["dev"],
        kept["test"],
        Overlap(seen_dev, len(test) - len(unseen), unseen),
        duplicates,
        units,
        tuple(notes),
    )


def check_labels(
    train: Sequence[Example], dev: Sequence[Example], test: Sequence[Example], task: Task
) -> list[str]:
    """Check that the labels allow a comparison; return what a reader should know, in sentences.

    Raises DataError for a test set of one label, and for a label of dev or test that train lacks.
    """
    counts = {
        name: Counter(example.label for example in split)
        for name, split in (("train", train), ("dev", dev), ("test", test))
    }
    if len(counts["test"]) == 1:
        (label,) = counts["test"]
        raise DataError(
            f"test: all of its {several(len(test), 'row')} have the label {label!r}, so that "
            "nothing can be compared: expected rows of two labels or more; is the file sorted by "
            "label?"
        )
    for name in ("test", "dev"):
        unknown = [each for each in counts[name] if not counts["train"][each]]
        if unknown:
            rows = sum(counts[name][label] for label in unknown)
            raise DataError(
                f"train: has no row with the label {joined([repr(label) for label in unknown])}, "
                f"which {several(rows, 'row')} of {name} have: no student can learn it; add such "
                f"rows to train, or remove them from {name}"
            )
    return [
        f"{name}: has no row with the label {joined([repr(label) for label in missing])}, so {what}"
        for name, what in (
            ("test", "the results say nothing about such rows"),
            ("dev", "such rows have no part in choosing a configuration"),
        )
        if (missing := [label for label in task.labels if not counts[name][label]])
    ]


_How = Kind | Literal["same_id"]


@dataclass(frozen=True)
class _Shared:
    """The rows of split `name` that split `other` has too.

    rows: row -> (row of `other`, how)
    """

    name: str
    other: str
    rows: Mapping[int, tuple[int, _How]]
    splits: Mapping[str, Sequence[Example]]

    @property
    def counts(self) -> DroppedRows:
        by_kind = Counter(kind for _, kind in self.rows.values())
        return DroppedRows(
            split=self.name,
            other=self.other,
            equal=by_kind["equal"],
            swapped=by_kind["swapped"],
            near=by_kind["near"],
            same_id=by_kind["same_id"],
            other_label=sum(
                self.splits[self.name][row].label != self.splits[self.other][theirs].label
                for row, (theirs, kind) in self.rows.items()
                if kind in ("equal", "near")
            ),
        )

    @property
    def text(self) -> str:
        """`train shares 3 rows with test (2 equal up to …, 1 near-duplicate by …)`."""
        counts = self.counts
        kinds = [
            f"{number:,} {words}"
            for number, words in (
                (counts.equal, "equal up to case, punctuation and white space"),
                (counts.swapped, "equal with the two fields swapped"),
                (counts.near, "nearly equal by overlap of word trigrams"),
                (
                    counts.same_id,
                    "with the id of another text; where ids only number the rows of a file, ignore "
                    'them with columns: {uid: ""}',
                ),
                (counts.other_label, "of these under another label"),
            )
            if number
        ]
        return (
            f"{self.name} shares {several(len(self.rows), 'row')} with {self.other} "
            f"({', '.join(kinds)})"
        )

    def example(self, task: Task) -> str:
        """`'a' and 'z': “A dog runs. | It moves.”`, both texts where they are not equal."""
        row, (other, kind) = next(iter(self.rows.items()))
        mine, theirs = self.splits[self.name][row], self.splits[self.other][other]
        both = "" if kind == "equal" else f" and {_quoted(theirs, task)}"
        return f"{mine.uid!r} and {theirs.uid!r}: {_quoted(mine, task)}{both}"


_LONGEST_QUOTE = 60


def _quoted(example: Example, task: Task) -> str:
    text = " | ".join(" ".join(example.fields[name].split()) for name in task.fields)
    return f"“{text}”" if len(text) <= _LONGEST_QUOTE else f"“{text[:_LONGEST_QUOTE]}…”"


def _shared(
    splits: Mapping[str, Sequence[Example]], name: str, other: str, likeness: Likeness
) -> _Shared:
    numbers = {split: number for number, split in enumerate(splits)}
    rows: dict[int, tuple[int, _How]] = {**likeness.duplicates(numbers[name], numbers[other])}
    by_uid = {example.uid: row for row, example in enumerate(splits[other])}
    for row, example in enumerate(splits[name]):
        if row not in rows and example.uid in by_uid:
            rows[row] = by_uid[example.uid], "same_id"
    return _Shared(name, other, rows, splits)


def _without(
    name: str, splits: Mapping[str, Sequence[Example]], shared: Sequence[_Shared]
) -> list[Example]:
    """A split without the rows that it shares."""
    lost = {row for each in shared if each.name == name for row in each.rows}
    kept = [example for row, example in enumerate(splits[name]) if row not in lost]
    if lost and not kept:
        use = {"train": "train on", "dev": "choose by"}[name]
        others = joined([each.other for each in shared if each.name == name])
        raise DataError(
            f"all {len(splits[name])} rows of {name} are also in {others}, so none is left to "
            f"{use}: name another file as {name}"
        )
    return kept


def _context(example: Example, task: Task) -> str:
    return example.uid if task.context is None else text_key(example.fields[task.context])


def _alike(likeness: Likeness, split: int) -> dict[int, int]:
    """The groups of nearly equal rows within a split, and the number of their rows."""
    sizes = Counter(likeness.components[split].tolist())
    return {group: size for group, size in sizes.items() if size > 1}


def _with_two_labels(rows: Sequence[Example], texts: Sequence[int]) -> list[int]:
    """The rows whose text, up to case, punctuation and white space, has several labels here."""
    labels: dict[int, set[str]] = {}
    for row, text in zip(rows, texts, strict=True):
        labels.setdefault(text, set()).add(row.label)
    return [number for number, text in enumerate(texts) if len(labels[text]) > 1]


def _labels(
    name: str, splits: Mapping[str, Sequence[Example]], likeness: Likeness, row: int
) -> list[str]:
    """The labels of one row's text in its split, in alphabetical order."""
    texts = likeness.texts[list(splits).index(name)].tolist()
    same = (e for e, text in zip(splits[name], texts, strict=True) if text == texts[row])
    return sorted({example.label for example in same})


def _refuse_repeated(name: str, split: Sequence[Example]) -> None:
    first: dict[str, int] = {}
    repeated = []
    for number, example in enumerate(split, 1):
        if first.setdefault(example.uid, number) != number:
            repeated.append((example.uid, first[example.uid], number))
    if repeated:
        uid, before, after = repeated[0]
        raise DataError(
            f"{name}: {len(repeated)} rows repeat an id, for example {uid!r} (rows {before} and "
            f'{after}): give each row its own, or ignore the ids with columns: {{uid: ""}}'
        )
