"""Two arms on the same rows: the difference, its interval, and a test that corrects for company.

One primary test (crossed random effects over rows, or their groups, and seeds), Holm over the whole
family of pairs; exact McNemar, seed by seed, as a secondary reading of fixed models.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import UsageError
from tutelage.evaluation.metrics import by_uid, check_same_rows, correctness, group_keys
from tutelage.evaluation.statistics import (
    CrossedResult,
    crossed_random_effects,
    holm,
    mcnemar_exact,
    minimum_detectable_difference,
)
from tutelage.records import Prediction
from tutelage.task import Task

ALPHA, POWER = 0.05, 0.8


@dataclass(frozen=True, slots=True)
class Comparison:
    """Arm minus baseline, in accuracy (fractions: 0.01 is one point).

    ci95:        of the difference, not corrected for the number of comparisons
    p_value, p_adjusted: two-sided; the second by Holm over the `family` comparisons made together
    test:        the primary test in words
    minimum_detectable_difference: the true difference that this test, with this standard error,
                 finds in 80 of 100 experiments at 5% / family, Holm's strictest step, so that the
                 promise holds whatever the other comparisons show. None where no standard error
                 could be estimated
    n, groups, seeds: rows; units of the test (rows, or groups of them); seeds of each arm
    only_arm_right_by_seed, only_baseline_right_by_seed: rows that one of the two got right
    mcnemar_p_by_seed: exact McNemar for each pair of fixed models; it says nothing of other seeds
    """

    arm: str
    baseline: str
    difference: float
    ci95: tuple[float, float]
    p_value: float
    p_adjusted: float
    test: str
    minimum_detectable_difference: float | None
    n: int
    groups: int
    seeds: int
    family: int
    standard_error: float | None
    degrees_of_freedom: float | None
    only_arm_right_by_seed: tuple[int, ...]
    only_baseline_right_by_seed: tuple[int, ...]
    mcnemar_p_by_seed: tuple[float, ...]


def compare(
    predictions: Mapping[str, Mapping[int, Sequence[Prediction]]],
    pairs: Sequence[tuple[str, str]],
    task: Task,
    groups: Mapping[str, Hashable] | None = None,
) -> list[Comparison]:
    """A Comparison for each (arm, baseline) of `pairs`, in their order; `pairs` is Holm's family.

    predictions: arm -> seed -> predictions. Rows are matched by uid, whatever their order. The
                 seeds of two arms are paired by rank: the sets may be disjoint, but of one size.
    groups:      uid -> key of the unit that the row belongs to (`task.group`); None where rows
                 are independent.

    Raises UsageError for a pair that names an unknown arm or one arm twice, a pair given twice, or
    unequal numbers of seeds; DataError where two arms, or two seeds, do not cover the same rows.
    """
    _check_pairs(predictions, pairs)
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    reference: Mapping[str, Prediction] = {}
    correct: dict[str, NDArray[np.float64]] = {}
    for name in names:
        tables: dict[int, Mapping[str, Prediction]] = {}
        for seed, of_seed in predictions[name].items():
            whose = f"arm {name!r} seed {seed}"
            tables[seed] = by_uid(of_seed, whose, task)
            reference = reference or tables[seed]
            check_same_rows(reference, f"arm {names[0]!r}", tables[seed], whose)
        correct[name] = correctness(tables, list(reference))

    keys = None if groups is None else group_keys(list(reference), groups)
    results = [
        crossed_random_effects(correct[arm] - correct[baseline], keys) for arm, baseline in pairs
    ]
    adjusted = holm([result.p_value for result in results])
    return [
        _comparison(
            pair,
            result,
            p_adjusted,
            correct[pair[0]],
            correct[pair[1]],
            groups=len(reference if keys is None else set(keys)),
            family=len(pairs),
        )
        for pair, result, p_adjusted in zip(pairs, results, adjusted, strict=True)
    ]


def _check_pairs(
    predictions: Mapping[str, Mapping[int, Sequence[Prediction]]],
    pairs: Sequence[tuple[str, str]],
) -> None:
    if len(set(pairs)) != len(pairs):
        raise UsageError(f"got a pair twice in {list(pairs)}, expected each once")
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
                f"got {counts[0]} seeds of {arm!r} and {counts[1]} of {baseline!r}, expected as "
                "many of each: train the missing ones"
            )


def _comparison(
    pair: tuple[str, str],
    result: CrossedResult,
    p_adjusted: float,
    arm: NDArray[np.float64],
    baseline: NDArray[np.float64],
    *,
    groups: int,
    family: int,
) -> Comparison:
    only_arm = tuple(int(count) for count in (arm > baseline).sum(axis=0))
    only_baseline = tuple(int(count) for count in (arm < baseline).sum(axis=0))
    detectable = None
    if result.standard_error is not None and result.degrees_of_freedom is not None:
        detectable = minimum_detectable_difference(
            result.standard_error, result.degrees_of_freedom, ALPHA / family, POWER
        )
    return Comparison(
        arm=pair[0],
        baseline=pair[1],
        difference=result.estimate,
        ci95=(result.ci_low, result.ci_high),
        p_value=result.p_value,
        p_adjusted=p_adjusted,
        test=result.method,
        minimum_detectable_difference=detectable,
        n=arm.shape[0],
        groups=groups,
        seeds=arm.shape[1],
        family=family,
        standard_error=result.standard_error,
        degrees_of_freedom=result.degrees_of_freedom,
        only_arm_right_by_seed=only_arm,
        only_baseline_right_by_seed=only_baseline,
        mcnemar_p_by_seed=tuple(map(mcnemar_exact, only_arm, only_baseline)),
    )
