"""Non-inferiority to the best arm: against the primary test, in properties, and in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from test_possibly_best import GROUPS, arms

from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.non_inferior import non_inferior_arms, non_inferiority
from tutelage.evaluation.variance import variances_of_arms

COSTS = {"arm 0": 0.0, "arm 1": 1.0, "arm 2": 2.0}


def test_of_two_arms_it_is_the_primary_tests_interval() -> None:
    tables = arms(1, 0.5, 0.55)
    costs = {"arm 0": 0.0, "arm 1": 1.0}
    referee = crossed_random_effects(
        tables["arm 1"], GROUPS, confidence=0.9, baseline=tables["arm 0"]
    )
    for margin in (referee.ci_high + 0.001, referee.ci_high - 0.001):
        found = non_inferiority(tables, costs, GROUPS, margin)
        [cheaper] = found.cheaper
        assert cheaper.behind_at_most == pytest.approx(referee.ci_high)
        assert cheaper.non_inferior == (margin > referee.ci_high)
        assert found.recommended == ("arm 0" if margin > referee.ci_high else None)


def test_an_arm_has_to_be_near_every_other_one_and_not_the_dearest_alone() -> None:
    tables = arms(2, 0.5, 1.2, 0.5)  # the middle one is far better, and not the dearest
    found = non_inferiority(tables, COSTS, GROUPS, 0.1)
    first, second = found.cheaper
    assert (first.arm, first.closest, first.non_inferior) == ("arm 0", "arm 1", False)
    assert second.non_inferior and found.recommended == "arm 1"
    without = {arm: tables[arm] for arm in ("arm 0", "arm 2")}
    costs = {arm: COSTS[arm] for arm in without}
    assert non_inferiority(without, costs, GROUPS, 0.1).recommended == "arm 0"


def test_the_cheapest_is_recommended_and_holm_corrects_over_the_cheaper_arms() -> None:
    tables = arms(3, 0.5, 0.5, 0.5)
    found = non_inferiority(tables, COSTS, GROUPS, 0.2)
    assert found.recommended == "arm 0" and all(each.non_inferior for each in found.cheaper)
    p_values = sorted(each.p_value for each in found.cheaper)
    adjusted = sorted(each.p_adjusted for each in found.cheaper)
    assert adjusted == pytest.approx([2 * p_values[0], max(2 * p_values[0], p_values[1])])


def test_the_order_of_arms_does_not_matter_and_equal_costs_are_both_dearest() -> None:
    tables = arms(4, 0.4, 0.5, 0.6)
    once = non_inferiority(tables, COSTS, GROUPS, 0.1)
    again = non_inferiority(dict(reversed(tables.items())), COSTS, GROUPS, 0.1)
    assert [each.arm for each in once.cheaper] == [each.arm for each in again.cheaper]
    assert [each.p_value for each in once.cheaper] == pytest.approx(
        [each.p_value for each in again.cheaper]
    )
    same = non_inferiority(tables, dict.fromkeys(tables, 1.0), GROUPS)
    assert same.cheaper == () and same.recommended is None


def test_many_experiments_at_once_are_each_alone() -> None:
    shown = []
    for seed in range(12):
        tables = arms(seed, 0.45, 0.5, 0.52, 0.5)
        costs = {arm: float(number) for number, arm in enumerate(tables)}
        parts, grouped = variances_of_arms(list(tables.values()), GROUPS)
        core = non_inferior_arms(parts, range(3), 0.08, grouped).tolist()
        alone = non_inferiority(tables, costs, GROUPS, 0.08)
        assert core == [each.non_inferior for each in alone.cheaper]
        shown += core
    assert 0 < sum(shown) < len(shown)


def test_without_variance_rows_are_counted() -> None:
    few, many = (
        non_inferiority(
            {"cheap": np.ones((rows, 2)), "dear": np.ones((rows, 2))}, {"cheap": 0, "dear": 1}
        )
        for rows in (20, 200)
    )
    assert few.recommended is None and few.cheaper[0].p_value == pytest.approx(0.97**20)
    assert many.recommended == "cheap"


def test_at_the_margin_it_is_claimed_in_a_twentieth_at_most() -> None:
    claimed, total = 0, 400
    rng = np.random.default_rng(5)
    for _ in range(total):
        better, worse = (
            mean + rng.normal(0, 0.3, (400, 5)) + rng.normal(0, 0.01, 5) for mean in (0.65, 0.6)
        )
        parts, _ = variances_of_arms([worse, better])
        claimed += bool(non_inferior_arms(parts, [0], 0.05)[0])
    assert claimed <= 33  # 400 draws at a true 5% exceed it once in 1,000
    assert claimed >= 3  # and the test can reject


@pytest.mark.parametrize(
    ("costs", "margin", "message"),
    [
        ({"arm 0": 1.0}, 0.03, "a cost for each"),
        ({**COSTS, "arm 0": float("nan")}, 0.03, "zero or more"),
        ({**COSTS, "arm 0": -1.0}, 0.03, "zero or more"),
        (COSTS, 0.0, "margin 0.0"),
        (COSTS, 3.0, "margin 3.0"),
    ],
)
def test_wrong_input_is_refused(costs: dict[str, float], margin: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        non_inferiority(arms(1, 0.4, 0.5, 0.6), costs, GROUPS, margin)
