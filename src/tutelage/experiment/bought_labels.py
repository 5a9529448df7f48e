"""Which bought answers are learnt: those that name a label, agree, or fit the row's own label."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from tutelage.core.storage import digest
from tutelage.core.types import Example, Rationale
from tutelage.experiment.purchases import Bought

OTHER_LABEL = "argues for another label than the row's own"
"""Why a rationale of a gold row is not learnt whose teacher, who did not see the label, came to
another one."""


def of_its_label(rationale: Rationale, example: Example) -> Rationale:
    """A rationale that was written without the gold label counts only if it comes to it."""
    if rationale.status != "ok" or rationale.label in (None, example.label):
        return rationale
    return dataclasses.replace(rationale, status="failed", detail=OTHER_LABEL)


def labelled_rows(
    rows: Sequence[Bought], *, agreeing: bool
) -> tuple[list[tuple[Bought, str]], dict[str, int]]:
    """The rows that got a label, with it, and how many did not, by reason."""
    kept: list[tuple[Bought, str]] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        bad = next((a for a in row.answers if a.label is None or a.status != "ok"), None)
        if bad is not None:
            reason = "no label in the answer" if bad.status in ("ok", "failed") else bad.status
            left_out[reason] += 1
            continue
        labels = [answer.label for answer in row.answers if answer.label is not None]
        if agreeing and len(set(labels)) > 1:
            left_out["the teachers disagree"] += 1
            continue
        kept.append((row, labels[0]))
    return kept, dict(left_out)


def random_filter(
    rows: Sequence[Bought], kept: Sequence[tuple[Bought, str]], seed: int
) -> list[tuple[Bought, str]]:
    """As many rows of each label of the first teacher as `kept` has, whatever the second says."""
    wanted = Counter(label for _, label in kept)
    chosen: list[tuple[Bought, str]] = []
    pool, _ = labelled_rows(
        [dataclasses.replace(row, answers=row.answers[:1]) for row in rows], agreeing=False
    )
    order = sorted(pool, key=lambda each: digest(["random filter", seed, each[0].example.uid]))
    taken: Counter[str] = Counter()
    for row, label in order:
        if taken[label] < wanted[label]:
            taken[label] += 1
            chosen.append((row, label))
    return chosen
