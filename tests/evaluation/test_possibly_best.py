"""The set of possibly best arms: against the primary test, in properties, and in simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tutelage.evaluation.crossed import crossed_random_effects, lower_limit, one_sided_p
from tutelage.evaluation.numeric import effective_groups, group_index
from tutelage.evaluation.possibly_best import excluded, possibly_best
from tutelage.evaluation.variance import (
    of_units,
    variance_estimates,
    variance_of_arm,
    variances_of_arms,
)

GROUPS = [row // 2 for row in range(300)]


def arms(seed: int, *cuts: float) -> dict[str, np.ndarray]:
    """Tables of 300 rows × 4 seeds; the higher the cut, the better the arm."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 1, (300, 1))
    return {
        f"arm {number}": (
            (shared + rng.normal(0, 1, (300, 4)) + rng.normal(0, 0.05, 4)) < cut
        ).astype(float)
        for number, cut in enumerate(cuts)
    }


def test_one_arm_alone_is_the_best() -> None:
    found = possibly_best(arms(1, 0.3))
    assert found.arms == ("arm 0",) and found.best == "arm 0"
    assert found.candidates[0].rival is None and found.candidates[0].p_value == 1


def test_an_arm_far_above_the_others_is_left_alone_and_near_ones_stay() -> None:
    far = possibly_best(arms(2, 0.2, 1.2, 0.25), GROUPS)
    assert far.best == "arm 1"
    assert [each.rival for each in far.candidates if not each.may_be_best] == ["arm 1", "arm 1"]
    near = possibly_best(arms(2, 0.2, 0.22, 0.21), GROUPS)
    assert set(near.arms) == {"arm 0", "arm 1", "arm 2"} and near.best is None
    means = {each.arm: each.mean for each in near.candidates}
    assert list(near.arms) == sorted(means, key=lambda arm: -means[arm])


def test_two_arms_are_the_one_sided_primary_test() -> None:
    tables = arms(3, 0.4, 0.6)
    found = possibly_best(tables, GROUPS)
    referee = crossed_random_effects(tables["arm 1"], GROUPS, baseline=tables["arm 0"])
    assert found.candidates[0].p_value == pytest.approx(referee.p_value / 2)
    assert found.candidates[0].behind == pytest.approx(referee.estimate)
    assert found.candidates[1].p_value == pytest.approx(1 - referee.p_value / 2)


def test_the_correction_is_for_the_other_arms() -> None:
    tables = arms(3, 0.4, 0.6)
    alone = possibly_best(tables, GROUPS).candidates[0].p_value
    more = {**tables, **{f"poor {n}": np.zeros((300, 4)) for n in range(3)}}
    assert possibly_best(more, GROUPS).candidates[0].p_value == pytest.approx(4 * alone)


def test_the_order_of_arms_of_rows_and_of_seeds_does_not_matter() -> None:
    tables = arms(4, 0.3, 0.5, 0.8)
    rows = np.random.default_rng(1).permutation(300)
    moved = {arm: tables[arm][rows][:, [2, 0, 3, 1]] for arm in reversed(tables)}
    once = possibly_best(tables, GROUPS)
    again = possibly_best(moved, [GROUPS[row] for row in rows])
    assert once.arms == again.arms
    by_arm = {each.arm: each for each in again.candidates}
    for each in once.candidates:
        assert by_arm[each.arm].p_value == pytest.approx(each.p_value)
        assert by_arm[each.arm].rival == each.rival


def test_the_highest_mean_stays_whatever_the_tables() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        tables = {name: rng.integers(0, 2, (12, 3)).astype(float) for name in "abcd"}
        found = possibly_best(tables)
        assert found.arms and found.arms[0] == max(found.candidates, key=lambda c: c.mean).arm


def test_without_variance_it_is_the_exact_bound() -> None:
    same = possibly_best({"one": np.ones((40, 3)), "other": np.ones((40, 3))})
    assert set(same.arms) == {"one", "other"}
    apart = possibly_best({"one": np.ones((40, 3)), "other": np.zeros((40, 3))})
    assert apart.best == "one"
    # All of n rows differ, but half of those not seen may differ the other way: (1/2)^n.
    assert apart.candidates[1].p_value == pytest.approx(0.5**40)


def test_many_experiments_at_once_are_each_alone() -> None:
    made = [arms(seed, 0.3, 0.5, 0.6) for seed in range(6)]
    stacked = [np.stack([tables[name] for tables in made]) for name in made[0]]
    index = group_index(GROUPS)
    parts = [
        variance_of_arm(of_units(each, index), effective_groups(index, 300)) for each in stacked
    ]
    at_once = excluded(parts, True)
    alone = [[not c.may_be_best for c in possibly_best(t, GROUPS).candidates] for t in made]
    assert at_once.tolist() == alone
    assert at_once.any() and not at_once.all()


def test_it_holds_the_best_of_five_equal_arms_and_an_uncorrected_set_does_not() -> None:
    held, uncorrected, total = 0, 0, 300
    for seed in range(total):
        parts, grouped = variances_of_arms(list(arms(seed, *[0.4] * 5).values()))
        held += not excluded(parts, grouped)[0]
        uncorrected += not excluded(parts, grouped, alpha=0.2)[0]  # what is left of 5% × 4
    assert held >= 278  # 300 draws at a true 95% are fewer once in 50
    assert uncorrected < 278


def test_one_sided_tests_and_limits_belong_together() -> None:
    one, other = arms(5, 0.5, 0.45).values()
    for parts in (
        variance_estimates(one, GROUPS, baseline=other),
        variance_estimates(np.zeros((30, 2))),
        variance_estimates(np.ones((30, 2))),
    ):
        for alpha in (0.01, 0.05, 0.3):
            assert one_sided_p(parts, lower_limit(parts, alpha)) == pytest.approx(alpha)
        levels = [one_sided_p(parts, t) for t in np.linspace(-0.99, 0.99, 23)]
        assert all(a <= b for a, b in itertools.pairwise(levels))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="no arm"):
        possibly_best({})
    with pytest.raises(ValueError, match="got alpha"):
        possibly_best({"one": np.ones((4, 2))}, alpha=0.7)
    with pytest.raises(ValueError, match="4 and 5 rows"):
        possibly_best({"one": np.ones((4, 2)), "other": np.ones((5, 2))})
