"""What control arms show apart from the planned comparisons: harm, and shares of a gain."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.config.design_rules import controls_of, treatment_arms
from tutelage.config.recipe import Recipe
from tutelage.core.results import Comparison, ComparisonResult, ShareOfGain
from tutelage.evaluation.compare import compare
from tutelage.evaluation.metrics import by_uid, correctness
from tutelage.evaluation.numeric import Floats
from tutelage.evaluation.share import share_of_gain
from tutelage.experiment.prepare import Splits
from tutelage.experiment.summarise import ArmRun
from tutelage.report.findings import is_significant

_METHOD = "Fieller's interval, over rows (or groups of rows) and seeds"


def describe_controls(
    runs: Sequence[ArmRun], recipe: Recipe, splits: Splits
) -> tuple[Comparison, ...]:
    """`Results.control_comparisons`: each control arm minus labels alone, over the test rows.

    A control that harms is easy to beat: this shows it. Descriptive: each difference is made by
    itself, and its p_adjusted is its p_value.
    """
    task, baseline = recipe.resolved_task(), recipe.baseline.name
    groups = splits.groups(splits.test, task)
    predictions = {run.arm.name: run.test for run in runs}
    return tuple(
        compare(
            predictions,
            [(run.arm.name, baseline)],
            task,
            groups,
            recipe.margin / 100,
            balanced=recipe.balanced,
        )[0]
        for run in runs
        if run.arm.control is not None
    )


def describe_shares(
    runs: Sequence[ArmRun],
    recipe: Recipe,
    comparisons: Sequence[ComparisonResult],
    splits: Splits,
) -> tuple[ShareOfGain, ...]:
    """`Results.shares_of_gain`: what scrambled controls keep of each significant gain.

    comparisons: `Results.comparisons`, whose differences from labels alone say which are

    An arm without a significant gain has no share: the denominator may be zero.
    """
    task, baseline = recipe.resolved_task(), recipe.baseline.name
    units = splits.groups(splits.test, task)
    uids = [example.uid for example in splits.test]
    labels = [example.label for example in splits.test] if recipe.balanced else None
    gained = {
        c.arm
        for c in comparisons
        if c.baseline == baseline and c.difference > 0 and is_significant(c)
    }
    tests = {run.arm.name: run.test for run in runs}

    def table(arm: str) -> Floats:
        found = {seed: by_uid(rows, f"seed {seed}", task) for seed, rows in tests[arm].items()}
        return correctness(found, uids)

    shares = []
    for arm in treatment_arms(recipe.arms):
        for control in controls_of(arm, recipe.arms):
            if arm.name not in gained or control.control != "scrambled":
                continue
            found = share_of_gain(
                table(arm.name),
                table(control.name),
                table(baseline),
                [units[uid] for uid in uids],
                labels=labels,
            )
            if found is not None:
                shares.append(
                    ShareOfGain(arm.name, control.name, baseline, found.share, found.ci95, _METHOD)
                )
    return tuple(shares)
