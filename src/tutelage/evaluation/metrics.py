"""Scores one arm's predictions: accuracy, per-label scores, and their intervals.

Nothing is dropped from a denominator: a prediction that is missing for one seed raises an error,
and an undefined score is None, never 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError, UsageError
from tutelage.core.results.measurements import Evaluation, LabelScores
from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.evaluation.balanced import label_of_one_unit, label_recalls
from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.numeric import shared_groups
from tutelage.evaluation.statistics import wilson_interval

Ints = NDArray[np.int64]


def confusion_matrix(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> Ints:
    """Counts, gold (rows) × predicted (columns), in the order of `labels`.

    Raises ValueError for a label that is not among `labels`, no rows, or unequal lengths.
    """
    if len(gold) != len(predicted) or not len(gold):
        raise ValueError(
            f"got {len(gold)} gold labels and {len(predicted)} predictions, expected the same "
            "number of each, at least one"
        )
    position = {label: index for index, label in enumerate(labels)}
    unknown = sorted({*gold, *predicted} - set(position))
    if unknown:
        raise ValueError(f"got labels {unknown}, expected only {list(labels)}")
    table = np.zeros((len(position), len(position)), dtype=np.int64)
    np.add.at(table, ([position[g] for g in gold], [position[p] for p in predicted]), 1)
    return table


def per_label(confusion: Ints, labels: Sequence[str]) -> dict[str, LabelScores]:
    """Precision, recall and F1 of each label from a gold × predicted table.

    Precision TP / (TP + FP) is undefined, and None, for a label that was never predicted; recall
    TP / (TP + FN) for one that no row has; F1 = 2 TP / (2 TP + FP + FN) only where both are true.
    """
    scores = {}
    for index, label in enumerate(labels):
        hits = int(confusion[index, index])
        predicted, support = int(confusion[:, index].sum()), int(confusion[index].sum())
        scores[label] = LabelScores(
            precision=_ratio(hits, predicted),
            recall=_ratio(hits, support),
            f1=_ratio(2 * hits, predicted + support),
            support=support,
        )
    return scores


def macro_f1(scores: Mapping[str, LabelScores]) -> float | None:
    """Mean F1 of the labels; labels with an undefined F1 are left out; None if all are."""
    defined = [score.f1 for score in scores.values() if score.f1 is not None]
    return sum(defined) / len(defined) if defined else None


def evaluate(
    predictions_by_seed: Mapping[int, Sequence[Prediction]],
    task: Task,
    groups: Mapping[str, Hashable] | None = None,
    *,
    balanced: bool = False,
) -> Evaluation:
    """Scores of the predictions of one arm's seeds.

    groups:   uid -> key of the row's unit (`task.group`), where rows share units
    balanced: whether `accuracy`, its values by seed and its interval are of balanced accuracy

    The interval of the mean accuracy is Wilson's for one seed and independent rows (no two rows
    share a group); otherwise, and for balanced accuracy, it is that of `crossed_random_effects`
    over rows (or groups) and seeds. Balanced accuracy has none where all rows of a label are of one
    unit, since nothing shows how its recall varies: then it is from 0 to 1.

    Raises DataError where the seeds cover different rows, the gold label of a row differs, a uid is
    repeated or a label is not one of the task's; UsageError where there are no seeds.
    """
    if not predictions_by_seed:
        raise UsageError("got no predictions, expected those of at least one seed")
    seeds = tuple(sorted(predictions_by_seed))
    tables = {seed: by_uid(predictions_by_seed[seed], f"seed {seed}", task) for seed in seeds}
    first = tables[seeds[0]]
    for seed in seeds[1:]:
        check_same_rows(first, f"seed {seeds[0]}", tables[seed], f"seed {seed}")
    uids = list(first)
    correct = correctness(tables, uids)

    labels = task.labels
    gold = [first[uid].gold for uid in uids]
    by_seed = [
        confusion_matrix(gold, [tables[seed][uid].label for uid in uids], labels) for seed in seeds
    ]
    confusion = np.sum(by_seed, axis=0)
    scores = {
        label: LabelScores(s.precision, s.recall, s.f1, s.support // len(seeds))
        for label, s in per_label(confusion, labels).items()
    }
    keys = None if groups is None else group_keys(uids, groups)
    values = correct.mean(axis=0)
    if balanced:
        values = label_recalls(correct, gold).mean(axis=0)
        ci95, ci_method = balanced_interval(correct, keys, gold)
    elif len(seeds) == 1 and (keys is None or shared_groups(keys, len(uids)) is None):
        ci95 = wilson_interval(int(correct.sum()), len(uids))
        ci_method = "Wilson interval over rows of one seed: applies to this model only"
    else:
        crossed = crossed_random_effects(correct, keys, bounds=(0.0, 1.0))
        ci95, ci_method = (crossed.ci_low, crossed.ci_high), crossed.method
    return Evaluation(
        n=len(uids),
        seeds=seeds,
        accuracy=float(values.mean()),
        accuracy_by_seed=tuple(float(value) for value in values),
        ci95=ci95,
        ci_method=ci_method,
        macro_f1=macro_f1(scores),
        labels=labels,
        per_label=scores,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        truncated=sum(any(tables[seed][uid].truncated for seed in seeds) for uid in uids),
    )


def balanced_interval(
    correct: NDArray[np.float64], keys: Sequence[Hashable] | None, gold: Sequence[str]
) -> tuple[tuple[float, float], str]:
    """The 95% interval of a balanced accuracy, and how it was computed; 0 to 1 where there is none.

    correct: rows × seeds; keys: the unit of each row, None where rows are independent
    """
    if (alone := label_of_one_unit(gold, keys)) is not None:
        return (0.0, 1.0), f"no interval: all rows of the label {alone} are one, or of one group"
    crossed = crossed_random_effects(correct, keys, bounds=(0.0, 1.0), labels=gold)
    return (crossed.ci_low, crossed.ci_high), f"{crossed.method}, within labels"


def by_uid(predictions: Sequence[Prediction], whose: str, task: Task) -> dict[str, Prediction]:
    """The predictions by uid. Raises DataError for none, a repeated uid, or an unknown label."""
    if not predictions:
        raise DataError(f"{whose}: got no predictions, expected one for each row: predict again")
    table: dict[str, Prediction] = {}
    for prediction in predictions:
        if prediction.uid in table:
            raise DataError(
                f"{whose}: got two predictions for row {prediction.uid!r}, expected one: predict "
                "again"
            )
        for what, label in (("predicted", prediction.label), ("gold", prediction.gold)):
            if label not in task.labels:
                raise DataError(
                    f"{whose}, row {prediction.uid!r}: got the {what} label {label!r}, expected "
                    f"one of {', '.join(task.labels)}"
                )
        table[prediction.uid] = prediction
    return table


def check_same_rows(
    first: Mapping[str, Prediction], name: str, other: Mapping[str, Prediction], other_name: str
) -> None:
    """Raises DataError unless both cover the same uids with the same gold labels."""
    if first.keys() != other.keys():
        missing, extra = first.keys() - other.keys(), other.keys() - first.keys()
        example = min(missing or extra)
        raise DataError(
            f"{other_name} lacks {len(missing)} rows of {name} and has {len(extra)} others "
            f"(such as {example!r}), expected the same rows: predict both on the same file"
        )
    differing = [uid for uid, prediction in first.items() if prediction.gold != other[uid].gold]
    if differing:
        uid = differing[0]
        raise DataError(
            f"{name} and {other_name} disagree on the gold label of {len(differing)} rows (such as "
            f"{uid!r}: {first[uid].gold!r} and {other[uid].gold!r}): predict both on the same file"
        )


def correctness(
    tables: Mapping[int, Mapping[str, Prediction]], uids: Sequence[str]
) -> NDArray[np.float64]:
    """1.0 where correct and 0.0 where wrong, uids × seeds, seeds in rising order."""
    right = [
        [float(tables[seed][uid].label == tables[seed][uid].gold) for seed in sorted(tables)]
        for uid in uids
    ]
    return np.array(right, dtype=np.float64)


def group_keys(uids: Sequence[str], groups: Mapping[str, Hashable]) -> list[Hashable]:
    """The group of each row. Raises DataError for a row without one."""
    missing = [uid for uid in uids if uid not in groups]
    if missing:
        raise DataError(
            f"got no group for {len(missing)} rows (such as {missing[0]!r}), expected one for each"
        )
    return [groups[uid] for uid in uids]


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
