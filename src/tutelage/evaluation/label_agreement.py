"""How good a teacher's labels are, from its answers about rows whose labels are known.

    counts = label_counts(gold, answers, labels)      rows of each label × labels answered
    accuracy_interval(right, groups)                  of the share that is right
    estimated_shares(counts, answered)                of the labels in rows that nobody has labelled
    precision(counts, shares)                         of what it labels there

Why shares are estimated: a teacher's precision depends on how frequent a label is. On rows of
which 70, 20 and 10% have the labels neutral, entailment and contradiction, a teacher that is right
on 87% of balanced rows, and takes neutral rows for contradictions in 5.5% of cases, is right on 67%
of those that it calls contradictions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.metrics import balanced_interval
from tutelage.evaluation.statistics import wilson_interval

Counts = npt.NDArray[np.int64]
"""Rows by gold label × answered label, both in the task's order; the last column counts answers
without a label."""

_STEPS, _STILL = 10_000, 1e-10
"""Iterations at most, and the change of every share below which they end."""


def label_counts(
    gold: Sequence[str], answers: Sequence[str | None], labels: Sequence[str]
) -> Counts:
    """How often each gold label was answered with each label.

    answers: in the order of `gold`; None: without a label
    """
    place = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    for label, answer in zip(gold, answers, strict=True):
        counts[place[label], len(labels) if answer is None else place[answer]] += 1
    return counts


def accuracy_interval(
    right: Sequence[bool], groups: Sequence[Hashable], labels: Sequence[str] | None = None
) -> tuple[tuple[float, float], str]:
    """The 95% interval of the share of right answers over the rows of a sample, and its method in
    words.

    groups: the unit that each row belongs to. Where rows share one, the units are the independent
            observations; else the interval is Wilson's.
    labels: the gold label of each row, where the interval is to be that of balanced accuracy
            (`metrics.balanced_interval`)
    """
    if labels is not None:
        table = np.asarray(right, dtype=np.float64)[:, None]
        return balanced_interval(table, groups, labels)
    if len(set(groups)) == len(groups):
        return wilson_interval(sum(right), len(right)), "Wilson interval over rows of this sample"
    table = np.asarray(right, dtype=np.float64)[:, None]
    found = crossed_random_effects(table, groups, bounds=(0.0, 1.0))
    method = f"interval over {len(set(groups))} groups of rows of this sample"
    return (found.ci_low, found.ci_high), method


def estimated_shares(counts: Counts, answered: Mapping[int, int]) -> tuple[float, ...]:
    """The shares of the labels among rows about which only the answers are known.

    counts:   of rows with known labels
    answered: number of a label -> how many of the other rows were answered with it

    The shares that make the answers most likely, where rows of one label are answered alike in both
    samples (the labels' frequencies differ, not the texts of a label): found by expectation and
    maximisation (Saerens, Latinne, Decaestecker 2002, Neural Computation 14), which stays between 0
    and 1 where inverting the table does not. Answers without a label are left out on both sides.
    A label that no row of `counts` with an answer has gets the share 0.

    The plain shares of the answers would be too even: a teacher's mistakes add most to the rare
    labels. Raises ValueError where no answer can be explained.
    """
    named = counts[:, :-1].astype(np.float64)
    of_label = named.sum(axis=1)
    known = of_label > 0
    # One half is added to each cell of a known label: a mistake that 200 rows do not show is rare,
    # and not impossible.
    given = np.zeros_like(named)
    given[known] = (named[known] + 0.5) / (of_label[known] + 0.5 * named.shape[1])[:, None]
    seen = np.array([answered.get(number, 0) for number in range(named.shape[1])], dtype=np.float64)
    if not seen.sum() or not known.any():
        raise ValueError(f"got {int(seen.sum())} answers and {int(known.sum())} known labels")
    share = known / known.sum()
    for _ in range(_STEPS):
        joint = share[:, None] * given
        belongs = joint / np.maximum(joint.sum(axis=0), np.finfo(float).tiny)
        new = belongs @ seen / seen.sum()
        moved, share = float(np.abs(new - share).max()), new
        if moved < _STILL:
            break
    return tuple(float(each) for each in share / share.sum())


def precision(counts: Counts, shares: Sequence[float]) -> tuple[float | None, ...]:
    """For each label the share of right answers among the rows that get it, where the labels have
    these shares: π_l P(l | l) / Σ_g π_g P(l | g).

    None where no row would get the label, or a label with a share has no row in `counts`.
    """
    of_label = counts.sum(axis=1)
    weights = np.asarray(shares, dtype=np.float64)
    if ((of_label == 0) & (weights > 0)).any():
        return (None,) * len(shares)
    given = counts[:, :-1] / np.maximum(of_label, 1)[:, None]
    joint = weights[:, None] * given
    total = joint.sum(axis=0)
    return tuple(
        float(joint[number, number] / total[number]) if total[number] > 0 else None
        for number in range(len(shares))
    )


def label_shares(labels: Sequence[str], order: Sequence[str]) -> tuple[float, ...]:
    """The share of each label, in this order."""
    found = Counter(labels)
    return tuple(found[label] / max(1, len(labels)) for label in order)
