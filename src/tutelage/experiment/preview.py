"""What a bag of words makes of each arm's rows: a preview in seconds, before students are trained.

It sees no rationale, so that arms that differ in rationales alone get the same figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tutelage.config.recipe import Recipe
from tutelage.core.main_metric import MetricName, metric_in_words
from tutelage.core.results import PreviewedArm
from tutelage.core.types import Example
from tutelage.core.wording import percent
from tutelage.evaluation.bag_of_words import bag_of_words
from tutelage.experiment.arm_rows import self_training_pool
from tutelage.experiment.learnt_rows import ArmRows
from tutelage.experiment.prepare import Splits


def preview(recipe: Recipe, splits: Splits, rows: ArmRows) -> tuple[PreviewedArm, ...]:
    """The recipe's metric on dev of a bag of words on every arm's rows, by seed.

    Arms with the same rows in all seeds are fitted once. A self-training arm's labels come from the
    bag of words of that seed's gold rows. Dev chooses the strength of the penalty, so the figures
    are somewhat too high, for all arms alike. Classifiers and arms that omit fields are left out.
    """
    task = recipe.resolved_task()
    fitted: dict[tuple[tuple[str, str], ...], float] = {}

    def accuracy(training: Sequence[Example]) -> float:
        key = tuple(sorted((row.uid, row.label) for row in training))
        if key not in fitted:
            found = bag_of_words(training, splits.dev, splits.dev[:1], task, recipe.metric)
            fitted[key] = max(found.dev_accuracy)
        return fitted[key]

    previewed = []
    for arm in recipe.arms:
        if arm.omits or arm.classifier is not None:
            continue
        figures = []
        for seed in recipe.replicates:
            if arm.control == "self_training":
                gold = rows.learnt[recipe.baseline.name][seed].gold
                pool = self_training_pool(recipe, arm, rows)[seed]
                answers = bag_of_words(gold, splits.dev, pool, task, recipe.metric).predictions
                labelled = [
                    dataclasses.replace(row, label=answer.label)
                    for row, answer in zip(pool, answers, strict=True)
                ]
                figures.append(accuracy([*gold, *labelled]))
            else:
                learnt = rows.learnt[arm.name][seed]
                figures.append(accuracy([*learnt.gold, *learnt.pool]))
        previewed.append(PreviewedArm(arm.name, tuple(figures)))
    return tuple(previewed)


def preview_line(previewed: Sequence[PreviewedArm], metric: MetricName = "accuracy") -> str:
    """`a bag of words on each arm's rows, on dev: labels 54.4%, teacher-labels 60.0%`."""
    of = "" if metric == "accuracy" else f"{metric_in_words(metric)} "
    parts = [f"{each.arm} {percent(each.dev_accuracy)}" for each in previewed]
    return f"a bag of words on each arm's rows, {of}on dev: {', '.join(parts)}"
