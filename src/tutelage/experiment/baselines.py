"""`Results.baselines`: majority class, bag of words, and the labels in the teacher's own answers.

Baselines that are trained with the arms' seeds and search are arms: students that do not see the
context, and classifiers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.config.design_rules import treatment_arms
from tutelage.config.recipe import Recipe
from tutelage.core.main_metric import score_of_labels
from tutelage.core.results import BagOfWordsBaseline, MajorityBaseline, TeacherLabelsBaseline
from tutelage.core.types import Example, Prediction, Rationale
from tutelage.evaluation.bag_of_words import STRENGTHS, BagOfWords, bag_of_words
from tutelage.evaluation.majority import majority_class, majority_label
from tutelage.evaluation.metrics import evaluate
from tutelage.experiment.prepare import Splits
from tutelage.teacher.annotate import Annotation


def describe_majority(recipe: Recipe, splits: Splits) -> MajorityBaseline | None:
    """The most frequent training label as the answer to every test row; None where the recipe
    leaves this baseline out."""
    if "majority" not in recipe.baselines:
        return None
    task = recipe.resolved_task()
    groups = splits.groups(splits.test, task)
    found = majority_class(splits.train, splits.test, task, groups, balanced=recipe.balanced)
    return MajorityBaseline(
        label=majority_label([example.label for example in splits.train], task),
        n=found.n,
        accuracy=found.accuracy,
        ci95=found.ci95,
        ci_method=found.ci_method,
    )


def fit_bag_of_words(
    recipe: Recipe, splits: Splits, drawn: Mapping[int, Sequence[Example]] | None = None
) -> dict[int, BagOfWords]:
    """Logistic regression on the words of the rows, by seed; empty where the recipe leaves it out.

    drawn: seed -> the gold rows that it draws; None where all seeds learn all of train: there is
           then one for all of them, under the first seed
    """
    if "bag_of_words" not in recipe.baselines:
        return {}
    task = recipe.resolved_task()
    by_seed = drawn or {recipe.replicates[0]: splits.train}
    return {
        seed: bag_of_words(rows, splits.dev, splits.test, task, recipe.metric)
        for seed, rows in by_seed.items()
    }


def describe_bag_of_words(
    found: Mapping[int, BagOfWords], recipe: Recipe, splits: Splits
) -> BagOfWordsBaseline | None:
    """Its scores on the test set. Where all seeds learn the same rows, nothing about it depends on
    a seed: the interval is over rows (or groups of rows) alone, as the majority class's is."""
    if not found:
        return None
    task = recipe.resolved_task()
    predictions = {seed: list(each.predictions) for seed, each in found.items()}
    groups = splits.groups(splits.test, task)
    scores = evaluate(predictions, task, groups, balanced=recipe.balanced)
    first = next(iter(found.values()))
    return BagOfWordsBaseline(
        strengths=STRENGTHS,
        dev_accuracy=first.dev_accuracy,
        strength=first.strength,
        features=first.features,
        n=scores.n,
        accuracy=scores.accuracy,
        ci95=scores.ci95,
        ci_method=scores.ci_method,
    )


def describe_teacher_labels(
    recipe: Recipe, splits: Splits, annotations: Mapping[str, Annotation]
) -> tuple[TeacherLabelsBaseline, ...]:
    """The labels in the teacher's own answers, compared with the gold labels of the training rows.

    One entry for each set of answers that names any label, under the first arm that uses it; none
    where the recipe leaves this baseline out.
    """
    if "teacher_labels" not in recipe.baselines:
        return ()
    task = recipe.resolved_task()
    entries: dict[tuple[Any, ...], TeacherLabelsBaseline] = {}
    for arm in treatment_arms(recipe.arms):
        if arm.annotation_key in entries:
            continue
        if arm.learns_pool:
            continue  # nobody knows these rows' labels
        rationales = annotations[arm.name].rationales
        gold = {example.uid: example.label for example in splits.train}
        predictions = _labelled(gold, rationales)
        if not predictions:
            continue
        teacher = recipe.teacher_of(arm)
        groups = {e.uid: task.group(e.uid, e.fields) for e in splits.train}
        # One answer for each row: the interval says nothing about asking the teacher again.
        found = evaluate({0: predictions}, task, groups, balanced=recipe.balanced)
        entries[arm.annotation_key] = TeacherLabelsBaseline(
            arm=arm.name,
            strategy=arm.strategy or "",
            model=None if teacher is None else teacher.model,
            rows=len(rationales),
            labelled=found.n,
            accuracy=found.accuracy,
            accuracy_of_all=score_of_labels(
                [each.label for each in rationales],
                [gold[each.uid] for each in rationales],
                recipe.metric,
            ),
            ci95=found.ci95,
            ci_method=found.ci_method,
        )
    return tuple(entries.values())


def _labelled(gold: Mapping[str, str], rationales: Sequence[Rationale]) -> list[Prediction]:
    """The teacher's labels as predictions of the training rows that it gave one for.

    gold: uid -> label
    """
    return [
        Prediction(rationale.uid, rationale.label, {rationale.label: 1.0}, gold[rationale.uid])
        for rationale in rationales
        if rationale.label is not None
    ]
