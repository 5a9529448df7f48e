"""Gold equivalents: the curve against polynomials, the ends against the primary test, coverage."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.gold_equivalent import (
    GoldEquivalent,
    break_even_price,
    checked_sizes,
    closing_range,
    curve_weights,
    gold_equivalent,
)
from tutelage.evaluation.power import Design
from tutelage.evaluation.variance import (
    variance_of_contrasts,
    variance_of_mean,
    variances_of_arms,
)

SIZES = (250, 500, 1000, 2000)
GROUPS = [row // 2 for row in range(400)]


def level(size: float) -> float:
    """The cut of an arm with so many gold rows: .58 of the rows at 250, .82 at 2,000."""
    return 0.3 + 0.5 * np.log(size / 250)


class Made:
    """Tables of 400 rows × 5 seeds on shared rows; arms by their number of gold rows."""

    def __init__(self, seed: int, seed_sd: float = 0.05) -> None:
        self.rng = np.random.default_rng(seed)
        self.shared = self.rng.normal(0, 1, (400, 1))
        self.seed_sd = seed_sd

    def arm(self, cut: float) -> np.ndarray:
        noise = self.rng.normal(0, 1, (400, 5)) + self.rng.normal(0, self.seed_sd, 5)
        return ((self.shared + noise) < cut).astype(float)

    def curve(self) -> dict[int, np.ndarray]:
        return {size: self.arm(level(size)) for size in SIZES}


def test_the_curve_passes_through_its_points_and_is_exact_for_parabolas() -> None:
    sizes = (100, 200, 420, 900, 3000)
    logs = np.log(sizes)
    assert curve_weights(sizes, logs) == pytest.approx(np.eye(5), abs=1e-12)
    places = np.linspace(logs[0], logs[-1], 50)
    weights = curve_weights(sizes, places)
    for coefficients in ((1.0,), (0.3, -1.0), (-0.05, 0.9, 2.0)):
        expected = np.polyval(coefficients, places)
        assert weights @ np.polyval(coefficients, logs) == pytest.approx(expected)
    # Smooth: no jump and no corner at a point.
    step = 1e-4
    near = curve_weights(sizes, logs[2] + step * np.array([-1, 0, 1])) @ np.arange(5.0) ** 2
    assert abs(near[2] - 2 * near[1] + near[0]) < 10 * step**2


def test_usual_curves_are_met_within_half_a_point() -> None:
    places = np.linspace(np.log(250), np.log(2000), 40)
    for curve in (
        lambda n: 0.88 - 0.23 * (n / 250) ** -0.5,
        lambda n: 0.88 - 0.23 * (n / 250) ** -1,
        lambda n: 0.34 + 0.5 / (1 + (n / 500) ** -1.5),
        lambda n: 0.6 + 0.2 * (1 - np.exp(-n / 400)),
    ):
        fitted = curve_weights(SIZES, places) @ curve(np.array(SIZES))
        assert fitted == pytest.approx(curve(np.exp(places)), abs=0.005)
        ends = np.interp(places, places[[0, -1]], curve(np.exp(places[[0, -1]])))
        assert np.abs(ends - curve(np.exp(places))).max() > 0.015  # a line is not


def test_contrasts_at_once_are_each_contrast_alone() -> None:
    made = Made(1)
    arms, grouped = variances_of_arms([made.arm(0.6), *made.curve().values()], GROUPS)
    weights = np.random.default_rng(2).normal(0, 1, (7, 5))
    at_once = variance_of_contrasts(arms, weights, grouped)
    for number, each in enumerate(weights):
        alone = variance_of_mean(arms, grouped, list(each))
        assert at_once.mean[number] == pytest.approx(alone.mean)
        assert at_once.rows[number] == pytest.approx(alone.rows)
        for ours, theirs in ((at_once.seeds, alone.seeds), (at_once.residue, alone.residue)):
            assert [part[number] for part in ours] == pytest.approx(list(theirs))
    nothing, _ = variances_of_arms([np.ones((9, 2))] * 3)
    assert variance_of_contrasts(nothing, np.ones((2, 3))).rows.tolist() == [0, 0]


def test_the_ends_are_where_the_primary_test_stops_rejecting() -> None:
    """With rows alone the weighted curve can be made into one table, and tested as one."""
    made = Made(3)
    curve = {size: table[:, :1] for size, table in made.curve().items()}
    arm = made.arm(level(800))[:, :1]
    found = gold_equivalent(arm, curve, 250, GROUPS)
    assert found.closed and found.low < found.estimate < found.high

    def p_value(size: float) -> float:
        weights = curve_weights(SIZES, np.log([size]))[0]
        at = sum(w * table for w, table in zip(weights, curve.values(), strict=True))
        return crossed_random_effects(arm, GROUPS, baseline=at).p_value

    for end, inward in ((found.low, 1.02), (found.high, 1 / 1.02)):
        assert p_value(end) == pytest.approx(0.05, abs=0.002)
        assert p_value(end * inward) > 0.05 > p_value(end / inward)


def test_an_open_end_is_one_that_the_primary_test_cannot_close() -> None:
    made = Made(4)
    curve = made.curve()
    for size, table in ((200, made.arm(level(200))), (2600, made.arm(level(2600)))):
        found = gold_equivalent(table, curve, 250, GROUPS)
        above_first = crossed_random_effects(table, GROUPS, baseline=curve[250]).ci_low > 0
        below_last = crossed_random_effects(table, GROUPS, baseline=curve[2000]).ci_high < 0
        assert (found.low is not None) == above_first
        assert (found.high is not None) == below_last
        assert not found.closed and not found.unknown
        assert (found.high or 0) < 1000 if size == 200 else (found.low or 0) > 1000


def test_beyond_the_sizes_nothing_is_extrapolated() -> None:
    made = Made(5)
    curve = made.curve()
    above = gold_equivalent(np.ones((400, 5)), curve, 250, GROUPS)
    assert (above.low, above.high, above.estimate) == (2000, None, None)
    assert above.worth is None and above.worth_interval == (1750, None)
    below = gold_equivalent(np.zeros((400, 5)), curve, 250, GROUPS)
    assert (below.low, below.high, below.estimate) == (None, 250, None)
    assert below.worth_interval == (None, 0)


def test_a_flat_or_falling_curve_says_nothing() -> None:
    made = Made(6)
    flat = {size: made.arm(0.6) for size in SIZES}
    assert gold_equivalent(made.arm(0.6), flat, 250).unknown
    falling = {size: made.arm(1.2 - 0.4 * place) for place, size in enumerate(SIZES)}
    assert gold_equivalent(made.arm(0.6), falling, 250).unknown
    same = {size: np.ones((400, 5)) for size in SIZES}
    assert gold_equivalent(np.ones((400, 5)), same, 250).unknown
    # Without variance, and all rows apart: as sure as 400 rows are.
    none = {size: np.zeros((400, 5)) for size in SIZES}
    assert gold_equivalent(np.ones((400, 5)), none, 250).low == 2000


def test_the_order_of_rows_seeds_and_sizes_does_not_matter() -> None:
    made = Made(7)
    curve, arm = made.curve(), made.arm(level(700))
    rows = np.random.default_rng(1).permutation(400)
    moved = {size: curve[size][rows][:, [3, 1, 4, 0, 2]] for size in reversed(SIZES)}
    once = gold_equivalent(arm, curve, 250, GROUPS)
    again = gold_equivalent(arm[rows], moved, 250, [GROUPS[row] for row in rows])
    assert again.sizes == SIZES
    assert (once.estimate, once.low, once.high) == pytest.approx(
        (again.estimate, again.low, again.high)
    )


def test_a_higher_confidence_is_a_wider_interval() -> None:
    made = Made(8)
    curve, arm = made.curve(), made.arm(level(700))
    narrow, wide = (gold_equivalent(arm, curve, 250, confidence=c) for c in (0.5, 0.99))
    assert narrow.closed and narrow.estimate == wide.estimate
    assert (wide.low or 0) < narrow.low and narrow.high < (wide.high or np.inf)


def test_it_covers_the_true_size_and_without_the_seeds_it_does_not() -> None:
    covered, naive, closed, total = 0, 0, 0, 200
    for seed in range(total):
        made = Made(1000 + seed, seed_sd=0.15)
        curve, arm = made.curve(), made.arm(level(800))
        found = gold_equivalent(arm, curve, 250)
        averaged = {size: table.mean(axis=1, keepdims=True) for size, table in curve.items()}
        of_rows = gold_equivalent(arm.mean(axis=1, keepdims=True), averaged, 250)
        closed += found.closed
        covered += (found.low or 0) <= 800 <= (found.high or np.inf)
        naive += (of_rows.low or 0) <= 800 <= (of_rows.high or np.inf)
    assert covered >= 181  # 200 draws at a true 95% are fewer once in 300
    assert naive < 181
    assert closed > 100


def test_break_even_price() -> None:
    closed = GoldEquivalent(SIZES, 250, 650, 450, 1250, 0.95)
    found = break_even_price(closed, 2.0)
    assert (found.price, found.low, found.high) == (2 / 400, 2 / 1000, 2 / 200)
    open_above = break_even_price(GoldEquivalent(SIZES, 250, None, 2000, None, 0.95), 1.75)
    assert (open_above.price, open_above.low, open_above.high) == (None, 0, 0.001)
    open_below = break_even_price(GoldEquivalent(SIZES, 250, 300, None, 500, 0.95), 2.0)
    assert (open_below.price, open_below.low, open_below.high) == (0.04, 0.008, None)
    worthless = break_even_price(GoldEquivalent(SIZES, 250, None, None, 250, 0.95), 2.0)
    assert (worthless.price, worthless.low, worthless.high) == (None, np.inf, None)
    with pytest.raises(ValueError, match="cost -1"):
        break_even_price(closed, -1)


def test_the_range_that_closes_is_what_the_test_detects_from_both_ends() -> None:
    design = Design((1,) * 1000, 5, 0.25, 0.01)
    steep = closing_range(SIZES, [0.60, 0.66, 0.71, 0.75], design)
    assert steep.can_close and steep.distance is not None
    assert steep.rise == pytest.approx(0.15)
    for end, value in ((steep.low, 0.60 + steep.distance), (steep.high, 0.75 - steep.distance)):
        fitted = curve_weights(SIZES, np.log([end]))[0] @ [0.60, 0.66, 0.71, 0.75]
        assert fitted == pytest.approx(value, abs=0.003)
    gentle = closing_range(SIZES, [0.60, 0.63, 0.65, 0.66], design)
    assert not gentle.can_close and gentle.high is None
    one_seed = closing_range(SIZES, [0.3, 0.6, 0.7, 0.8], Design((1,) * 1000, 1, 0.25, 0.01))
    assert one_seed.distance is None and not one_seed.can_close
    with pytest.raises(ValueError, match="3 accuracies"):
        closing_range(SIZES, [0.6, 0.7, 0.8], design)


@pytest.mark.parametrize(
    "sizes",
    [(), (250, 500, 1000), (0, 250, 500, 1000), (250, 300, 600, 1200), (100, 800, 1600, 3200)],
)
def test_sizes_that_are_too_few_too_near_or_too_far_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="4 sizes or more"):
        checked_sizes(sizes)
    with pytest.raises(ValueError, match="gold rows"):
        gold_equivalent(np.ones((4, 2)), dict.fromkeys(SIZES, np.ones((4, 2))), -1)
