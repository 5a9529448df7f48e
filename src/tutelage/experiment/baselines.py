"""`baselines` of results.json: what needs no student, to read the arms' accuracies by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.config.design_rules import rationale_arms
from tutelage.config.recipe import Recipe
from tutelage.core.task import Task
from tutelage.core.types import Prediction, Rationale
from tutelage.evaluation.majority import majority_class, majority_label
from tutelage.evaluation.metrics import evaluate
from tutelage.experiment.prepare import Splits
from tutelage.teacher.annotate import Annotation


def describe_baselines(
    recipe: Recipe, splits: Splits, annotations: Mapping[str, Annotation]
) -> dict[str, Any]:
    """`baselines`: those that the recipe names; the others are null, or an empty list.

    Students that do not see the context are arms, and are not among them.
    """
    wanted = recipe.baselines
    return {
        "majority": describe_majority(splits, recipe.resolved_task())
        if "majority" in wanted
        else None,
        "teacher_labels": describe_teacher_labels(recipe, splits, annotations)
        if "teacher_labels" in wanted
        else [],
    }


def describe_majority(splits: Splits, task: Task) -> dict[str, Any]:
    """`majority`: the training rows' most frequent label, as the answer to every test row."""
    groups = {e.uid: task.group(e.uid, e.fields) for e in splits.test}
    found = majority_class(splits.train, splits.test, task, groups)
    return {
        "label": majority_label([example.label for example in splits.train], task),
        "n": found.n,
        "accuracy": found.accuracy,
        "ci95": list(found.ci95),
        "ci_method": found.ci_method,
    }


def describe_teacher_labels(
    recipe: Recipe, splits: Splits, annotations: Mapping[str, Annotation]
) -> list[dict[str, Any]]:
    """`teacher_labels`: what teachers' own labels are worth on the training rows.

    One entry a question that has any such label, named by the first arm that asks it. `rows` are
    all training rows, `labelled` those whose answer holds one of the task's labels; the accuracy is
    over these, and `accuracy_of_all` counts the others as wrong.
    """
    task = recipe.resolved_task()
    entries: dict[tuple[Any, ...], dict[str, Any]] = {}
    for arm in rationale_arms(recipe.arms):
        if arm.annotation_key in entries:
            continue
        found = _labels_against_gold(splits, annotations[arm.name].rationales, task)
        if found is not None:
            teacher = recipe.teacher_of(arm)
            entries[arm.annotation_key] = {
                "arm": arm.name,
                "strategy": arm.strategy,
                "model": None if teacher is None else teacher.model,
                **found,
            }
    return list(entries.values())


def _labels_against_gold(
    splits: Splits, rationales: Sequence[Rationale], task: Task
) -> dict[str, Any] | None:
    """Accuracy of the teacher's own labels over rows (or their groups); None where it gave none.

    Its answers are one reading of each row: the interval says nothing of asking it again.
    """
    predictions = [
        Prediction(example.uid, rationale.label, {rationale.label: 1.0}, example.label)
        for example, rationale in zip(splits.train, rationales, strict=True)
        if rationale.label is not None
    ]
    if not predictions:
        return None
    groups = {e.uid: task.group(e.uid, e.fields) for e in splits.train}
    found = evaluate({0: predictions}, task, groups)
    return {
        "rows": len(splits.train),
        "labelled": found.n,
        "accuracy": found.accuracy,
        "accuracy_of_all": found.accuracy * found.n / len(splits.train),
        "ci95": list(found.ci95),
        "ci_method": found.ci_method,
    }
