"""Ratios of means over rows × seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.ratio import ratio_of_means


def test_over_everything_it_is_the_mean() -> None:
    d = (np.random.default_rng(0).random((80, 3)) < 0.7).astype(float)
    groups = [i // 2 for i in range(80)]
    ratio = ratio_of_means(d, np.ones_like(d), groups)
    mean = crossed_random_effects(d, groups, bounds=(0, 1))
    assert ratio.estimate == pytest.approx(mean.estimate)
    assert (ratio.ci_low, ratio.ci_high) == pytest.approx((mean.ci_low, mean.ci_high))


def test_two_rows_of_three_by_hand() -> None:
    # Numerators 1, 0, 0; denominators 1, 1, 0: q = 1/2, linear parts 1/2 + (1/2, -1/2, 0) / (2/3)
    result = ratio_of_means([[1.0], [0.0], [0.0]], [[1.0], [1.0], [0.0]])
    assert result.estimate == 1 / 2
    assert result.standard_error == pytest.approx(stats.sem([0.75, -0.75, 0]))


def test_all_alike_counts_the_units_that_have_a_part() -> None:
    bottom = np.zeros((50, 2))
    bottom[:20] = 1
    result = ratio_of_means(bottom, bottom)
    low = stats.binomtest(20, 20).proportion_ci(method="exact").low
    assert (result.ci_low, result.ci_high) == pytest.approx((low, 1))
    by_group = ratio_of_means(bottom, bottom, ["g"] * 10 + ["h"] * 10 + list(range(30)))
    assert by_group.ci_low < result.ci_low


def test_coverage_where_the_condition_is_by_chance() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        inside = (rng.random((300, 4)) < 0.2).astype(float)
        right = rng.random((300, 4)) < 0.7
        result = ratio_of_means(right * inside, inside)
        covered += result.ci_low <= 0.7 <= result.ci_high
    assert covered >= 274  # 300 draws at a true 95% fall below it once in 500


def test_an_empty_denominator_is_refused() -> None:
    with pytest.raises(ValueError, match="denominator"):
        ratio_of_means([[0.0]], [[0.0]])
