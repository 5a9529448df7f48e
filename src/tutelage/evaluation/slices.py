"""Accuracy on parts of the test rows: by label, by tag, by length, or any other name of theirs.

    by_label, by_tag, by_length   how rows fall into slices; a row may be in several, or in none
    accuracy_by                   one arm's accuracy in each slice
    difference_by                 two arms compared in each slice, with Holm over the slices

A slice shows where to look next. It does not replace the comparison on all rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tutelage.core.errors import UsageError
from tutelage.core.results.measurements import Comparison, SliceAccuracy
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction
from tutelage.evaluation.compare import compare
from tutelage.evaluation.metrics import evaluate
from tutelage.evaluation.statistics import holm

Slices = Mapping[str, frozenset[str]]
"""Name of the slice -> uids, in the order in which they are to be shown."""


@dataclass(frozen=True, slots=True)
class SliceComparison:
    """Two arms on some rows; `comparison.p_adjusted` is Holm's over the slices."""

    name: str
    comparison: Comparison


def by_label(examples: Iterable[Example], task: Task) -> Slices:
    """One slice a label, in the task's order; labels that no row has are left out."""
    rows = list(examples)
    slices = {
        label: frozenset(example.uid for example in rows if example.label == label)
        for label in task.labels
    }
    return {name: uids for name, uids in slices.items() if uids}


def by_tag(examples: Iterable[Example]) -> Slices:
    """One slice a tag, those with most rows first. Rows without a tag are in none."""
    slices: dict[str, set[str]] = {}
    for example in examples:
        for tag in example.tags:
            slices.setdefault(tag, set()).add(example.uid)
    ordered = sorted(slices.items(), key=lambda item: (-len(item[1]), item[0]))
    return {tag: frozenset(uids) for tag, uids in ordered}


def by_length(examples: Iterable[Example], field: str, bins: int = 4) -> Slices:
    """Slices by a field's length in words, about as many rows in each, shortest first.

    Rows of equal length stay together, so there may be fewer slices than asked for.
    """
    if bins < 1:
        raise ValueError(f"got {bins} bins, expected at least one")
    lengths = {example.uid: len(example.fields[field].split()) for example in examples}
    if not lengths:
        return {}
    words = np.array(list(lengths.values()))
    edges = np.unique(np.quantile(words, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    place = np.searchsorted(edges, words, side="left")
    slices = {}
    for number in np.unique(place):
        inside = words[place == number]
        low, high = int(inside.min()), int(inside.max())
        name = f"{low} words" if low == high else f"{low} to {high} words"
        slices[name] = frozenset(
            uid for uid, where in zip(lengths, place, strict=True) if where == number
        )
    return slices


def accuracy_by(
    slices: Slices,
    predictions_by_seed: Mapping[int, Sequence[Prediction]],
    task: Task,
    groups: Mapping[str, Hashable] | None = None,
) -> list[SliceAccuracy]:
    """Accuracy in each slice; slices without a predicted row are left out.

    Raises as `metrics.evaluate` does.
    """
    results = []
    for name, uids in slices.items():
        rows = _only(predictions_by_seed, uids)
        if any(rows.values()):
            found = evaluate(rows, task, groups)
            results.append(
                SliceAccuracy(name, found.n, found.accuracy, found.ci95, found.ci_method)
            )
    return results


def difference_by(
    slices: Slices,
    predictions: Mapping[str, Mapping[int, Sequence[Prediction]]],
    pair: tuple[str, str],
    task: Task,
    groups: Mapping[str, Hashable] | None = None,
) -> list[SliceComparison]:
    """Arm minus baseline in each slice, with Holm over the slices.

    Whether two slices differ from each other is a separate matter, and not shown by one
    being significant and the other not. Raises as `compare` does, and UsageError for an arm that
    is not in `predictions`.
    """
    if missing := [name for name in pair if name not in predictions]:
        raise UsageError(f"got no predictions of {missing}, expected those of both {list(pair)}")
    found = []
    for name, uids in slices.items():
        arms = {arm: _only(predictions[arm], uids) for arm in pair}
        if any(rows for of_arm in arms.values() for rows in of_arm.values()):
            found.append((name, compare(arms, [pair], task, groups)[0]))
    adjusted = holm([comparison.p_value for _, comparison in found])
    return [
        SliceComparison(name, replace(comparison, p_adjusted=p, family=len(found)))
        for (name, comparison), p in zip(found, adjusted, strict=True)
    ]


def _only(
    by_seed: Mapping[int, Sequence[Prediction]], uids: frozenset[str]
) -> dict[int, list[Prediction]]:
    return {seed: [p for p in rows if p.uid in uids] for seed, rows in by_seed.items()}
