"""Planned looks: known levels, the whole plan's false alarms in simulation, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tutelage.evaluation.sequence import level_at, looks, overall_p

PLAN = (5, 10, 15, 20)


def test_a_plan_lists_its_numbers_of_seeds() -> None:
    assert looks(5, 5, 20) == PLAN
    assert looks(5, 4, 15) == (5, 9, 13, 15)
    assert looks(3, 1, 3) == (3,)
    for start, step, at_most in ((1, 5, 20), (5, 0, 20), (5, 5, 4)):
        with pytest.raises(ValueError, match="expected a start of at least 2"):
            looks(start, step, at_most)


def test_a_single_look_has_the_whole_level() -> None:
    assert level_at(5, (5,), 0.05) == pytest.approx(0.05, abs=1e-6)
    assert overall_p(0.03, 5, (5,)) == 0.03


def test_at_first_the_level_is_what_is_spent() -> None:
    assert level_at(5, PLAN, 0.05) == pytest.approx(0.0125, abs=1e-6)
    assert level_at(6, (6, 20), 0.0125) == pytest.approx(0.0125 * 0.3, abs=1e-6)


def test_two_looks_by_the_bivariate_normal() -> None:
    """Spending a half at each of two looks: the second level from the joint distribution."""
    first, second = level_at(10, (10, 20)), level_at(20, (10, 20))
    bounds = stats.norm.isf(np.array([first, second]) / 2)
    joint = stats.multivariate_normal([0, 0], [[1, 0.5**0.5], [0.5**0.5, 1]])
    corners = [(a, b) for a in (-1, 1) for b in (-1, 1)]
    inside = sum(a * b * joint.cdf([a * bounds[0], b * bounds[1]]) for a, b in corners)
    assert 1 - inside == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("alpha", [0.05, 0.0125])
def test_the_whole_plan_has_its_level_where_seeds_are_all_the_noise(alpha: float) -> None:
    rng = np.random.default_rng(1)
    total = 60_000
    one, other = rng.normal(0, 1, (2, total, 20))
    alarms = np.zeros(total, dtype=bool)
    for look in PLAN:
        p = stats.ttest_ind(one[:, :look], other[:, :look], axis=1, equal_var=False).pvalue
        alarms |= p <= level_at(look, PLAN, alpha)
    error = (alpha / total) ** 0.5
    assert alarms.mean() == pytest.approx(alpha, abs=4 * error + 0.06 * alpha)


def test_looking_each_time_at_the_full_level_gives_twice_the_false_alarms() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(0, 1, (2, 20_000, 20))
    alarms = np.zeros(20_000, dtype=bool)
    for look in PLAN:
        p = stats.ttest_ind(one[:, :look], other[:, :look], axis=1, equal_var=False).pvalue
        alarms |= p <= 0.05
    assert alarms.mean() > 0.10


@settings(deadline=None)
@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=5, unique=True).map(sorted),
    st.floats(1e-4, 0.2),
)
def test_levels_never_exceed_the_whole_and_grow_with_it(plan: list[int], alpha: float) -> None:
    levels = [level_at(look, plan, alpha) for look in plan]
    assert all(0 < level <= alpha * (1 + 1e-6) for level in levels)
    assert all(level_at(look, plan, alpha / 2) < level_at(look, plan, alpha) for look in plan)
    assert sum(levels) >= alpha * (1 - 1e-6)  # a union is at most the sum of its parts


@pytest.mark.parametrize("look", PLAN)
def test_overall_p_is_the_level_at_which_the_plan_finds_it(look: int) -> None:
    for alpha in (0.2, 0.05, 1e-3):
        assert overall_p(level_at(look, PLAN, alpha), look, PLAN) == pytest.approx(alpha, rel=1e-4)
    assert overall_p(0.9, look, PLAN) >= 0.9
    assert overall_p(0.0, look, PLAN) == 0.0


def test_what_is_not_in_the_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="a look at 7 seeds, expected one of"):
        level_at(7, PLAN)
    with pytest.raises(ValueError, match="between 0 and 1"):
        level_at(5, PLAN, 1.0)
