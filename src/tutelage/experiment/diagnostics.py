"""`Results.diagnostics` and `Results.selection`: what the test predictions show beyond accuracy.

Where an arm is right, how well its confidence tells, and how much of a best-of-k is luck. All of it
is computed from the predictions of the models that dev chose; nothing is trained or scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tutelage.config.arm_settings import ArmSection
from tutelage.config.design_rules import treatment_arms
from tutelage.core.main_metric import MetricName, score
from tutelage.core.results import (
    ArmDiagnostics,
    ArmSelection,
    BestOf,
    Comparison,
    Selection,
    SliceDifference,
    SliceResult,
)
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
    Slices,
    accuracy_by,
    by_label,
    by_length,
    by_tag,
    difference_by,
)
from tutelage.experiment.prepare import Splits
from tutelage.experiment.summarise import ArmRun, SeedPredictions, extended

OTHER_COUNTS = (2, 3, 5, 9, 27)
"""Numbers of models that published results are often the best of."""


def describe_diagnostics(
    runs: Sequence[ArmRun], baseline: str, splits: Splits, task: Task
) -> dict[str, ArmDiagnostics]:
    """`Results.diagnostics`: arm -> accuracy by slice of the test rows, calibration, and the
    risk-coverage curve.

    A treatment arm is compared with `baseline` in each slice, with Holm's correction over the
    slices of the same kind; the other arms are not compared.
    """
    groups = splits.groups(splits.test, task)
    field = _longest_field(splits.test, task)
    predictions = {run.arm.name: run.test for run in runs}
    treated = treatment_arms([run.arm for run in runs])

    def slices(kind: Slices, arm: ArmSection) -> tuple[SliceResult, ...]:
        other = baseline if arm in treated else None
        return _describe_slices(kind, predictions, arm.name, other, task, groups)

    diagnostics = {}
    for run in runs:
        table = confidence_table(run.test, task, groups)
        diagnostics[run.arm.name] = ArmDiagnostics(
            by_label=slices(by_label(splits.test, task), run.arm),
            by_tag=slices(by_tag(splits.test), run.arm),
            by_length=slices(by_length(splits.test, field), run.arm),
            length_of=field,
            calibration=calibration(table),
            reliability=tuple(reliability_curve(table)),
            risk_coverage=risk_coverage(table),
        )
    return diagnostics


def _longest_field(examples: Sequence[Example], task: Task) -> str:
    """The context; without one, the field with most words."""
    if task.context is not None:
        return task.context
    return max(task.fields, key=lambda name: sum(len(e.fields[name].split()) for e in examples))


def _describe_slices(
    slices: Slices,
    predictions: Mapping[str, SeedPredictions],
    arm: str,
    baseline: str | None,
    task: Task,
    groups: Mapping[str, str],
) -> tuple[SliceResult, ...]:
    """One kind of slices; baseline: the arm to compare with, None for no comparison."""
    compared = (
        {}
        if baseline is None
        else {
            each.name: _difference(each.comparison)
            for each in difference_by(slices, predictions, (arm, baseline), task, groups)
        }
    )
    return tuple(
        extended(SliceResult, found, difference=compared.get(found.name))
        for found in accuracy_by(slices, predictions[arm], task, groups)
    )


def _difference(comparison: Comparison) -> SliceDifference:
    return SliceDifference(
        difference=comparison.difference,
        ci95=comparison.ci95,
        p_value=comparison.p_value,
        p_adjusted=comparison.p_adjusted,
        family=comparison.family,
    )


def describe_selection(
    accuracies: Mapping[str, Sequence[float]],
    runs: Sequence[ArmRun],
    baseline: str,
    splits: Splits,
    task: Task,
    *,
    balanced: bool = False,
) -> Selection:
    """`Results.selection`: what the best of k models gains by chance, and what it gained here.

    accuracies: arm -> test accuracy of every model it trained, chosen by dev or not
    balanced:   whether these are balanced accuracies

    What depends on the spread of equally good models is None for an arm with one seed, which does
    not show it.
    """
    groups = splits.groups(splits.test, task)
    uids = [example.uid for example in splits.test]
    units = [groups[uid] for uid in uids]
    labels = [example.label for example in splits.test] if balanced else None
    spreads: dict[str, float | None] = {}
    by_arm: dict[str, ArmSelection] = {}
    for run in runs:
        name = run.arm.name
        tables = {seed: by_uid(of, f"seed {seed}", task) for seed, of in run.test.items()}
        correct = correctness(tables, uids)
        spreads[name] = spread_of_models(correct, units, labels)
        metric: MetricName = "balanced_accuracy" if balanced else "accuracy"
        chosen = sum(score(of, metric) for of in run.test.values()) / len(run.test)
        best = max(accuracies[name])
        by_arm[name] = ArmSelection(
            models=len(accuracies[name]),
            best_accuracy=best,
            chosen_accuracy=chosen,
            gain=best - chosen,
            spread=spreads[name],
            gain_by_chance=_by_chance(len(accuracies[name]), spreads[name]),
        )
    return Selection(
        baseline=baseline,
        by_arm=by_arm,
        best_of=tuple(BestOf(k, _by_chance(k, spreads[baseline])) for k in OTHER_COUNTS),
    )


def _by_chance(models: int, spread: float | None) -> float | None:
    return None if spread is None else expected_maximum(models, spread)
