"""`looks` and `selection` of results.json: what the test predictions show beside one accuracy.

Where an arm is right, whether it is sure when it is right, and how much of a best-of-k is luck.
All of it is read from the predictions of the models that dev chose; nothing is trained or scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.config.design_rules import rationale_arms
from tutelage.core.storage import as_json
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.evaluation.calibration import (
    calibration,
    confidence_table,
    reliability_curve,
    risk_coverage,
)
from tutelage.evaluation.metrics import by_uid, correctness
from tutelage.evaluation.selection import expected_maximum, spread_of_models
from tutelage.evaluation.slices import (
    SliceDifference,
    Slices,
    accuracy_by,
    by_label,
    by_length,
    by_tag,
    difference_by,
)
from tutelage.experiment.prepare import Splits
from tutelage.experiment.summarise import ArmOutcome

OTHER_COUNTS = (2, 3, 5, 9, 27)
"""Numbers of configurations that published results are the best of, to read them by."""


def describe_looks(
    outcomes: Sequence[ArmOutcome], baseline: str, splits: Splits, task: Task
) -> dict[str, Any]:
    """`looks`: arm -> accuracy by slices of the test rows, calibration, and risk against coverage.

    A slice holds name, n, accuracy, ci95, ci_method and, for an arm whose rationales are no
    control's, `difference` to `baseline`: its size, interval and p-value, Holm's correction over
    the slices of that kind; null for other arms. `length_of` names the field that `by_length` has
    the quartiles of.
    """
    groups = {e.uid: task.group(e.uid, e.fields) for e in splits.test}
    field = _longest_field(splits.test, task)
    kinds: dict[str, Slices] = {
        "by_label": by_label(splits.test, task),
        "by_tag": by_tag(splits.test),
        "by_length": by_length(splits.test, field),
    }
    predictions = {outcome.arm.name: outcome.test for outcome in outcomes}
    treated = rationale_arms([outcome.arm for outcome in outcomes])
    looks: dict[str, Any] = {}
    for outcome in outcomes:
        arm = outcome.arm
        table = confidence_table(outcome.test, task, groups)
        of_slices = {}
        for kind, slices in kinds.items():
            differences = (
                difference_by(slices, predictions, (arm.name, baseline), task, groups)
                if arm in treated
                else []
            )
            known = {difference.name: _difference(difference) for difference in differences}
            of_slices[kind] = [
                {**as_json(found), "difference": known.get(found.name)}
                for found in accuracy_by(slices, outcome.test, task, groups)
            ]
        looks[arm.name] = {
            **of_slices,
            "length_of": field,
            "calibration": as_json(calibration(table)),
            "reliability": as_json(reliability_curve(table)),
            "risk_coverage": as_json(risk_coverage(table)),
        }
    return looks


def _longest_field(examples: Sequence[Example], task: Task) -> str:
    """The context; without one, the field with most words."""
    if task.context is not None:
        return task.context
    return max(task.fields, key=lambda name: sum(len(e.fields[name].split()) for e in examples))


def _difference(of_slice: SliceDifference) -> dict[str, Any]:
    found = of_slice.comparison
    return {
        "difference": found.difference,
        "ci95": list(found.ci95),
        "p_value": found.p_value,
        "p_adjusted": found.p_adjusted,
        "family": found.family,
    }


def describe_selection(
    accuracies: Mapping[str, Sequence[float]],
    outcomes: Sequence[ArmOutcome],
    baseline: str,
    splits: Splits,
    task: Task,
) -> dict[str, Any]:
    """`selection`: what the best of k models adds by chance, beside what it added here.

    accuracies: arm -> test accuracy of every model it trained, whatever dev thought of it

    `by_arm`: the best of `models`, the accuracy of the configuration that dev chose, what lies
    between (`gain`), and `gain_by_chance`: what the best of as many equally good models lies
    above their worth on the average. `best_of`: the gain by chance for other numbers of models like
    those of `baseline`. Null where an arm has one seed, which does not show how far its equally
    good models lie apart.
    """
    groups = {e.uid: task.group(e.uid, e.fields) for e in splits.test}
    uids = [example.uid for example in splits.test]
    spreads: dict[str, float | None] = {}
    by_arm: dict[str, Any] = {}
    for outcome in outcomes:
        name = outcome.arm.name
        tables = {seed: by_uid(of, f"seed {seed}", task) for seed, of in outcome.test.items()}
        correct = correctness(tables, uids)
        spreads[name] = spread_of_models(correct, [groups[uid] for uid in uids])
        best, chosen = max(accuracies[name]), float(correct.mean())
        by_arm[name] = {
            "models": len(accuracies[name]),
            "best_accuracy": best,
            "chosen_accuracy": chosen,
            "gain": best - chosen,
            "spread": spreads[name],
            "gain_by_chance": _by_chance(len(accuracies[name]), spreads[name]),
        }
    return {
        "baseline": baseline,
        "by_arm": by_arm,
        "best_of": [
            {"models": k, "gain_by_chance": _by_chance(k, spreads[baseline])} for k in OTHER_COUNTS
        ],
    }


def _by_chance(models: int, spread: float | None) -> float | None:
    return None if spread is None else expected_maximum(models, spread)
