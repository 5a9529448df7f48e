"""Detectable differences against statsmodels and against the test itself on simulated data."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from tutelage.evaluation.crossed import half_width, standard_error
from tutelage.evaluation.power import (
    Design,
    design_of,
    detectable_difference,
    detectable_range,
    expected_variance,
    power_of,
)
from tutelage.evaluation.variance import VarianceEstimates, variance_estimates


def parts_of(
    rows: float, seeds: tuple[float, ...], residue: tuple[float, ...], units: int, columns: int
) -> VarianceEstimates:
    return VarianceEstimates(
        0.0, rows, seeds, residue, tuple(columns for _ in seeds), units, float(units)
    )


@pytest.mark.parametrize("units", [5, 13, 333])
@pytest.mark.parametrize("power", [0.8, 0.9])
def test_of_one_seed_it_is_that_of_statsmodels(units: int, power: float) -> None:
    effect = TTestPower().solve_power(None, nobs=units, alpha=0.05, power=power)
    squares = parts_of(0.16 / units, (0.0, 0.0), (0.0, 0.0), units, 1)
    assert detectable_difference(squares, power=power) == pytest.approx(0.4 * effect, rel=1e-3)
    assert power_of(squares, 0.4 * effect) == pytest.approx(power, abs=1e-3)


def test_with_many_rows_and_seeds_it_is_the_textbook_2_8() -> None:
    squares = parts_of(1e-10, (5e-11, 5e-11), (5e-11, 5e-11), 10**6, 10**4)
    assert detectable_difference(squares) == pytest.approx(1e-5 * (1.95996 + 0.84162), rel=4e-3)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("alpha", [0.05, 0.0125])
@pytest.mark.parametrize(
    ("rows", "columns"), [(1.0, (0.5, 0.5)), (1.5, (2.0, 2.0)), (1.2, (0.5, 8.0))]
)
def test_a_difference_of_that_size_is_detected_in_80_of_100(
    seeds: int, alpha: float, rows: float, columns: tuple[float, float]
) -> None:
    """Parts are drawn from their distributions, the residue too; half-widths are the test's."""
    rng = np.random.default_rng([seeds, int(alpha * 1e4), int(rows * 10)])
    units, draws, cells = 400, 40_000, 400 * seeds * 100.0
    truth = parts_of(
        rows / cells, tuple(c / cells for c in columns), (0.5 / cells,) * 2, units, seeds
    )
    size = detectable_difference(truth, alpha)
    assert size is not None
    means = rng.normal(size, standard_error(truth), draws)

    def drawn(level: float, df: int) -> np.ndarray:
        return level * rng.chisquare(df, draws) / df

    half = half_width(
        VarianceEstimates(
            mean=means,
            rows=drawn(truth.rows, units - 1),
            seeds=tuple(drawn(c, seeds - 1) for c in truth.seeds),
            residue=tuple(drawn(e, (units - 1) * (seeds - 1)) for e in truth.residue),
            columns=truth.columns,
            units=units,
            effective_units=float(units),
        ),
        alpha,
    )
    found = np.mean(np.abs(means) > half)
    assert found == pytest.approx(0.8, abs=0.009)  # 4.5 standard errors of the simulation


def test_unlike_arms_need_a_larger_difference_than_alike_ones_of_the_same_variance() -> None:
    alike = parts_of(1e-5, (1e-4, 1e-4), (1e-6, 1e-6), 500, 5)
    unlike = parts_of(1e-5, (1.9e-4, 1e-5), (1e-6, 1e-6), 500, 5)
    assert (detectable_difference(unlike) or 0) > 1.02 * (detectable_difference(alike) or 1)


def test_no_size_above_100_points_is_stated() -> None:
    two = parts_of(1e-4, (0.04, 0.04), (1e-6, 1e-6), 100, 2)
    assert detectable_difference(two, 0.0125) is None
    assert power_of(two, 1.0, 0.0125) < 0.8


def test_expected_variance_by_hand() -> None:
    # Groups of 1 and 3: Σ m² / n = 10 / 4; deff = 1 + 0.2 (2.5 - 1) = 1.3. D deff = 0.26.
    design = Design((1, 3), 2, disagreement=0.2, seed_sd=0.01, repeated=0.25, within_group=0.2)
    parts = expected_variance(design)
    residue = 0.75 * 0.26 / 8
    assert sum(parts.residue) == pytest.approx(residue)
    assert parts.rows == pytest.approx(residue + 0.25 * 0.26 / 4)
    assert parts.seeds == pytest.approx((residue / 2 + 0.5e-4,) * 2)
    assert parts.effective_units == pytest.approx(1.6)
    variance = 0.25 * 0.26 / 4 + 0.75 * 0.26 / 8 + 2e-4 / 2
    assert standard_error(parts) == pytest.approx(math.sqrt(variance))


def test_one_seed_is_mcnemars_variance_without_that_of_seeds() -> None:
    design = Design((1,) * 1000, 1, disagreement=0.2, seed_sd=0.02, repeated=0.3)
    parts = expected_variance(design)
    assert standard_error(parts) == pytest.approx(math.sqrt(0.2 / 1000))
    assert parts.one_seed


def test_what_more_of_each_does() -> None:
    def size(**changed: object) -> float:
        plan = {"group_sizes": (2,) * 500, "seeds": 5, "disagreement": 0.2, "seed_sd": 0.01}
        found = detectable_difference(expected_variance(Design(**{**plan, **changed})))  # type: ignore[arg-type]
        assert found is not None
        return found

    usual = size()
    assert size(seeds=10) < usual < size(seeds=3)
    assert size(group_sizes=(2,) * 2000) < usual < size(group_sizes=(2,) * 200)
    assert size(disagreement=0.1) < usual < size(disagreement=0.4)
    assert size(seed_sd=0.0) < usual < size(seed_sd=0.02)
    assert size(within_group=0.0) < usual < size(within_group=0.9)
    assert size(repeated=0.0) < usual < size(repeated=1.0)


def simulate(rng: np.random.Generator, design: Design) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two arms' correctness with clusters and seeds, about as often unlike as the design says."""
    groups = np.repeat(np.arange(len(design.group_sizes)), design.group_sizes)
    rows = len(groups)
    shared = 1.5 * rng.normal(size=rows)
    tables = []
    for _ in range(2):
        own = 0.5 * rng.normal(size=len(design.group_sizes))[groups] + 0.5 * rng.normal(size=rows)
        each = rng.normal(size=(rows, design.seeds))
        value = (shared + own)[:, None] + 0.8 * each + 0.1 * rng.normal(size=design.seeds)
        tables.append((value > 0).astype(float))
    return tables[0], tables[1], groups


def test_the_design_of_answers_gives_their_variance_back() -> None:
    rng = np.random.default_rng(3)
    plan = Design((1, 2, 3, 4) * 80, 5, disagreement=0.3, seed_sd=0.0)
    seen, stated = [], []
    for _ in range(60):
        one, other, groups = simulate(rng, plan)
        parts = variance_estimates(one, groups, baseline=other)
        expected = expected_variance(design_of(one, other, groups))
        seen.append((parts.rows, sum(parts.seeds), sum(parts.residue)))
        stated.append((expected.rows, sum(expected.seeds), sum(expected.residue)))
    assert np.mean(stated, axis=0) == pytest.approx(np.mean(seen, axis=0), rel=0.05)
    found = design_of(*simulate(rng, plan))
    assert 0.1 < found.disagreement < 0.5
    assert 0.1 < found.repeated < 0.9 and 0.02 < found.within_group < 0.9
    assert found.seeds == 5 and sorted(set(found.group_sizes)) == [1, 2, 3, 4]


def test_designs_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least two groups.*disagreement.*seed SD.*repeated"):
        Design((5,), 3, disagreement=0.0, seed_sd=-1, repeated=2)
    with pytest.raises(ValueError, match="agree on every row"):
        design_of(np.zeros((10, 3)), np.zeros((10, 3)))
    with pytest.raises(ValueError, match="alpha"):
        detectable_difference(parts_of(1e-3, (1e-3,) * 2, (1e-4,) * 2, 10, 3), alpha=0.9)


def test_without_variance_nothing_can_be_said() -> None:
    nothing = variance_estimates(np.zeros((10, 3)), baseline=np.zeros((10, 3)))
    assert detectable_difference(nothing) is None


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_range_holds_the_true_detectable_difference_four_times_in_five(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    truth = parts_of(1e-6, (1e-4, 1e-4), (1e-7, 1e-7), 500, seeds)
    size = detectable_difference(truth)
    assert size is not None
    inside = 0
    for _ in range(200):
        drawn = tuple(c * rng.chisquare(seeds - 1) / (seeds - 1) for c in truth.seeds)
        low, high = detectable_range(replace(truth, seeds=drawn))
        assert low is not None
        inside += low <= size and (high is None or size <= high)
    # Welch's degrees of freedom are fewer than those of the sum where chance makes arms unlike.
    assert 0.75 < inside / 200 < 0.93


def test_of_one_seed_the_range_is_the_difference_itself() -> None:
    one = parts_of(1e-4, (0.0, 0.0), (0.0, 0.0), 300, 1)
    assert detectable_range(one) == (detectable_difference(one),) * 2
