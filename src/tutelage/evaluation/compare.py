"""Compares two arms on the same rows: difference, interval, and tests corrected for their number.

The primary test uses crossed random effects over rows (or groups of rows) and seeds, with Holm's
correction over the whole family of pairs. Exact McNemar tests, seed by seed, are secondary: they
compare fixed models.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from tutelage.core.errors import UsageError
from tutelage.core.results.measurements import Comparison
from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.evaluation.crossed import (
    FEW_GROUPS,
    CrossedResult,
    crossed_result,
    equivalence_result,
)
from tutelage.evaluation.metrics import by_uid, check_same_rows, correctness, group_keys
from tutelage.evaluation.numeric import Floats, Groups, group_index
from tutelage.evaluation.power import detectable_difference, detectable_range
from tutelage.evaluation.statistics import holm, mcnemar_exact
from tutelage.evaluation.variance import VarianceEstimates, variance_estimates

ALPHA, POWER = 0.05, 0.8

MARGIN = 0.01
"""Default margin of equivalence, one point: smaller differences are taken not to matter."""


def compare(
    predictions: Mapping[str, Mapping[int, Sequence[Prediction]]],
    pairs: Sequence[tuple[str, str]],
    task: Task,
    groups: Mapping[str, Hashable] | None = None,
    margin: float = MARGIN,
    *,
    balanced: bool = False,
) -> list[Comparison]:
    """A Comparison for each (arm, baseline) of `pairs`, in this order; `pairs` is Holm's family.

    predictions: arm -> seed -> predictions. Rows are matched by uid, in any order. The seeds of two
                 arms are separate draws: the sets may be disjoint but have to be of equal size.
                 (McNemar's secondary tests take them in pairs, by rank.)
    groups:      uid -> key of the row's unit (`task.group`); None where rows are independent
    margin:      of equivalence, a fraction
    balanced:    whether differences are those of balanced accuracy, in the place of accuracy

    Raises UsageError for a pair that names an unknown arm or one arm twice, for a repeated pair, or
    for unequal numbers of seeds; DataError where arms or seeds do not cover the same rows.
    """
    _check_pairs(predictions, pairs)
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    reference: Mapping[str, Prediction] = {}
    correct: dict[str, Floats] = {}
    for name in names:
        tables: dict[int, Mapping[str, Prediction]] = {}
        for seed, of_seed in predictions[name].items():
            whose = f"arm {name!r} seed {seed}"
            tables[seed] = by_uid(of_seed, whose, task)
            reference = reference or tables[seed]
            check_same_rows(reference, f"arm {names[0]!r}", tables[seed], whose)
        correct[name] = correctness(tables, list(reference))

    keys = None if groups is None else group_keys(list(reference), groups)
    labels = [reference[uid].gold for uid in reference] if balanced else None
    return compare_correctness(correct, pairs, keys, margin, labels=labels)


def compare_correctness(
    correct: Mapping[str, Floats],
    pairs: Sequence[tuple[str, str]],
    groups: Groups | None = None,
    margin: float = MARGIN,
    *,
    labels: Groups | None = None,
) -> list[Comparison]:
    """`compare` on tables: arm -> rows × seeds, 1.0 where correct, all with the same row order.

    labels: each row's gold label, where differences are those of balanced accuracy
    """
    index = None if groups is None else group_index(groups)
    differences = [correct[arm] - correct[baseline] for arm, baseline in pairs]
    parts = [
        variance_estimates(correct[arm], index, baseline=correct[baseline], labels=labels)
        for arm, baseline in pairs
    ]
    results = [crossed_result(of_pair) for of_pair in parts]
    adjusted = holm([result.p_value for result in results])
    return [
        _comparison(*of_pair, family=len(pairs), margin=margin)
        for of_pair in zip(pairs, differences, parts, results, adjusted, strict=True)
    ]


def _check_pairs(
    predictions: Mapping[str, Mapping[int, Sequence[Prediction]]],
    pairs: Sequence[tuple[str, str]],
) -> None:
    if len(set(pairs)) != len(pairs):
        raise UsageError(f"got a pair twice in {list(pairs)}, expected each pair once")
    for arm, baseline in pairs:
        for name in (arm, baseline):
            if not predictions.get(name):
                raise UsageError(
                    f"got a comparison of {arm!r} with {baseline!r} but no predictions of "
                    f"{name!r}, expected one of {', '.join(predictions)}"
                )
        if arm == baseline:
            raise UsageError(f"got a comparison of {arm!r} with itself, expected two arms")
        counts = len(predictions[arm]), len(predictions[baseline])
        if counts[0] != counts[1]:
            raise UsageError(
                f"got {counts[0]} seeds of {arm!r} and {counts[1]} of {baseline!r}, expected the "
                "same number: train the missing seeds"
            )


def _comparison(
    pair: tuple[str, str],
    difference: Floats,
    parts: VarianceEstimates,
    result: CrossedResult,
    p_adjusted: float,
    *,
    family: int,
    margin: float,
) -> Comparison:
    within = equivalence_result(parts, margin, ALPHA)
    only_arm = tuple(int(count) for count in (difference > 0).sum(axis=0))
    only_baseline = tuple(int(count) for count in (difference < 0).sum(axis=0))
    return Comparison(
        arm=pair[0],
        baseline=pair[1],
        difference=result.estimate,
        ci95=(result.ci_low, result.ci_high),
        p_value=result.p_value,
        p_adjusted=p_adjusted,
        test=result.method,
        minimum_detectable_difference=detectable_difference(parts, ALPHA / family, POWER),
        detectable_range=detectable_range(parts, ALPHA / family, POWER),
        n=difference.shape[0],
        groups=parts.units,
        effective_groups=parts.effective_units,
        few_groups=parts.effective_units < FEW_GROUPS,
        seeds=difference.shape[1],
        family=family,
        standard_error=result.standard_error,
        degrees_of_freedom=result.degrees_of_freedom,
        only_arm_right_by_seed=only_arm,
        only_baseline_right_by_seed=only_baseline,
        mcnemar_p_by_seed=tuple(map(mcnemar_exact, only_arm, only_baseline)),
        equivalence_margin=margin,
        equivalence_p_value=within.p_value,
        ci90=within.ci90,
    )
