"""Hold out dev or test rows by groups, and check what the splits share.

The task defines the groups: in NLI, all hypotheses of a premise. Rows that train shares with dev or
test are an error, because the student would memorise them. Shared contexts are counted, because the
report says how many test rows have an unseen one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.core.errors import DataError, UsageError
from tutelage.core.task import Task
from tutelage.core.types import Example


@dataclass(frozen=True, slots=True)
class Overlap:
    """The contexts that splits share; their rows are already known to be distinct.

    dev_rows, test_rows: rows whose context is one of train's
    unseen_test:         uids of the test rows whose context train does not have
    """

    dev_rows: int
    test_rows: int
    unseen_test: frozenset[str]


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

    Groups are not divided. They are taken in an order that `seed` shuffles, and a group goes to dev
    where that brings dev's size nearer to its target. Labels are not balanced.

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
    for index, example in enumerate(examples):
        groups.setdefault(task.group(example.uid, example.fields), []).append(index)
    order = list(groups.values())
    random.Random(f"tutelage/hold-out/{seed}").shuffle(order)
    held: set[int] = set()
    for group in order:
        if abs(len(held) + len(group) - target) <= abs(len(held) - target):
            held.update(group)
    if not target <= 2 * len(held) <= 4 * target or len(held) == len(examples):
        unit = "rows" if task.context is None else f"groups of rows with one {task.context}"
        raise DataError(
            f"cannot hold out about {target} of {len(examples)} rows: they form {len(groups)} "
            f"{unit}, the largest of {max(map(len, order), default=0)}, and the nearest choice "
            f"holds {len(held)}: choose another size, or give dev as a separate file"
        )
    train = [example for index, example in enumerate(examples) if index not in held]
    return train, [examples[index] for index in sorted(held)]


def check_splits(
    train: Sequence[Example], dev: Sequence[Example], test: Sequence[Example], task: Task
) -> Overlap:
    """Check that the splits share no rows, and count the contexts that they share.

    Two rows are the same where their uids are equal, or their fields up to case and white space.

    Raises DataError for uids that repeat within a split, and for rows that two splits share.
    """
    for name, split in (("train", train), ("dev", dev), ("test", test)):
        _refuse_repeated(name, split)
    problems = [
        problem
        for name, split in (("dev", dev), ("test", test))
        if (problem := _shared("train", train, name, split, task))
    ]
    if problems:
        raise DataError(
            "; ".join(problems) + ": correct the files, or drop these rows from train with "
            "data: {overlap: drop}"
        )
    problem = _shared("dev", dev, "test", test, task)
    if problem:
        raise DataError(
            f"{problem}: rows that choose the configuration must not evaluate it: remove these "
            "rows from one of the files, or hold dev out of train"
        )
    contexts = {task.group(example.uid, example.fields) for example in train}
    unseen = frozenset(e.uid for e in test if task.group(e.uid, e.fields) not in contexts)
    seen_dev = sum(task.group(e.uid, e.fields) in contexts for e in dev)
    return Overlap(seen_dev, len(test) - len(unseen), unseen)


def drop_overlap(
    train: Sequence[Example], dev: Sequence[Example], test: Sequence[Example], task: Task
) -> tuple[list[Example], int]:
    """Remove from train the rows that dev or test also has; return train and how many these were.

    Raises DataError where no row would remain.
    """
    uids = {example.uid for split in (dev, test) for example in split}
    contents = {_content(example, task) for split in (dev, test) for example in split}
    kept = [e for e in train if e.uid not in uids and _content(e, task) not in contents]
    if train and not kept:
        raise DataError(
            f"all {len(train)} rows of train are also in dev or test, so none is left to train on: "
            "name another file as train"
        )
    return kept, len(train) - len(kept)


def _content(example: Example, task: Task) -> tuple[str, ...]:
    return tuple(" ".join(example.fields[name].split()).casefold() for name in task.fields)


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


def _shared(
    name: str, rows: Sequence[Example], other_name: str, others: Sequence[Example], task: Task
) -> str | None:
    """Describe the rows that two splits share, or None."""
    by_uid = {example.uid: example for example in others}
    by_content = {_content(example, task): example for example in others}
    same_text = [
        (example.uid, by_content[content].uid)
        for example in rows
        if (content := _content(example, task)) in by_content
    ]
    texts = {uid for uid, _ in same_text}
    same_id = [e.uid for e in rows if e.uid in by_uid and e.uid not in texts]
    found = []
    if same_text:
        mine, theirs = same_text[0]
        found.append(f"{len(same_text)} rows (for example {mine!r}, there {theirs!r})")
    if same_id:
        found.append(
            f"{len(same_id)} ids of different texts (for example {same_id[0]!r}; where ids only "
            'number the rows of a file, ignore them with columns: {uid: ""})'
        )
    return f"{name} shares with {other_name} " + " and ".join(found) if found else None
