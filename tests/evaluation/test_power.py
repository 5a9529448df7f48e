"""Detectable differences against statsmodels and against the test itself on simulated answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from tutelage.evaluation.crossed import (
    MeanSquares,
    mean_squares,
    squared_half_width,
    standard_error,
)
from tutelage.evaluation.power import (
    Design,
    design_of,
    detectable_difference,
    expected_mean_squares,
    power_of,
)


@pytest.mark.parametrize("units", [5, 13, 333])
@pytest.mark.parametrize("power", [0.8, 0.9])
def test_of_one_seed_it_is_that_of_statsmodels(units: int, power: float) -> None:
    effect = TTestPower().solve_power(None, nobs=units, alpha=0.05, power=power)
    squares = MeanSquares(0.0, 0.16, 0.0, 0.0, units, 1)
    assert detectable_difference(squares, power=power) == pytest.approx(0.4 * effect, rel=1e-3)
    assert power_of(squares, 0.4 * effect) == pytest.approx(power, abs=1e-3)


def test_with_many_rows_and_seeds_it_is_the_textbook_2_8() -> None:
    squares = MeanSquares(0.0, 1.0, 1.0, 1.0, 10**6, 10**4)
    assert detectable_difference(squares) == pytest.approx(1e-5 * (1.95996 + 0.84162), rel=4e-3)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("alpha", [0.05, 0.0125])
@pytest.mark.parametrize(("rows", "columns"), [(1.0, 1.0), (1.5, 4.0)])
def test_a_difference_of_that_size_is_found_in_80_of_100(
    seeds: int, alpha: float, rows: float, columns: float
) -> None:
    """The mean squares drawn from their laws, E's too; the half-widths are the test's."""
    rng = np.random.default_rng([seeds, int(alpha * 1e4), int(rows * 2)])
    units, draws = 400, 40_000
    truth = MeanSquares(0.0, rows, columns, 1.0, units, seeds)
    size = detectable_difference(truth, alpha)
    assert size is not None
    means = rng.normal(size, standard_error(truth), draws)
    laws = [
        level * rng.chisquare(df, draws) / df
        for level, df in ((rows, units - 1), (columns, seeds - 1), (1.0, (units - 1) * (seeds - 1)))
    ]
    squared = squared_half_width(
        alpha, *laws, units, seeds, largest=lambda *of: np.max(np.broadcast_arrays(*of), axis=0)
    )
    found = np.mean(np.abs(means) > np.sqrt(squared))
    assert found == pytest.approx(0.8, abs=0.009)  # 4.5 standard errors of the simulation


def test_expected_mean_squares_by_hand() -> None:
    # Groups of 1 and 3: Σ m² / n = 10 / 4; deff = 1 + 0.2 (2.5 - 1) = 1.3. D deff = 0.26.
    design = Design((1, 3), 2, disagreement=0.2, seed_sd=0.01, repeated=0.25, within_group=0.2)
    squares = expected_mean_squares(design)
    assert squares.error == pytest.approx(0.5 * 0.75 * 0.26)
    assert squares.rows == pytest.approx(squares.error + 2 * 0.5 * 0.25 * 0.26)
    assert squares.seeds == pytest.approx(squares.error + 2 * 2 * 1e-4)
    variance = 0.25 * 0.26 / 4 + 0.75 * 0.26 / 8 + 2e-4 / 2
    assert standard_error(squares) == pytest.approx(math.sqrt(variance))


def test_one_seed_is_mcnemars_variance_and_knows_nothing_of_seeds() -> None:
    design = Design((1,) * 1000, 1, disagreement=0.2, seed_sd=0.02, repeated=0.3)
    squares = expected_mean_squares(design)
    assert standard_error(squares) == pytest.approx(math.sqrt(0.2 / 1000))
    assert squares.columns == 1


def test_what_more_of_each_does() -> None:
    def size(**changed: object) -> float:
        plan = {"group_sizes": (2,) * 500, "seeds": 5, "disagreement": 0.2, "seed_sd": 0.01}
        found = detectable_difference(expected_mean_squares(Design(**{**plan, **changed})))  # type: ignore[arg-type]
        assert found is not None
        return found

    usual = size()
    assert size(seeds=10) < usual < size(seeds=3)
    assert size(group_sizes=(2,) * 2000) < usual < size(group_sizes=(2,) * 200)
    assert size(disagreement=0.1) < usual < size(disagreement=0.4)
    assert size(seed_sd=0.0) < usual < size(seed_sd=0.02)
    assert size(within_group=0.0) < usual < size(within_group=0.9)
    assert size(repeated=0.0) < usual < size(repeated=1.0)


def simulate(rng: np.random.Generator, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Differences of -1, 0 and 1 with the design's disagreement, clusters and seeds."""
    groups = np.repeat(np.arange(len(design.group_sizes)), design.group_sizes)
    rows = len(groups)
    of_group = rng.normal(size=len(design.group_sizes))[groups]
    of_row = rng.normal(size=rows)
    each = rng.normal(size=(rows, design.seeds))
    value = (0.5 * of_group + 0.7 * of_row)[:, None] + each
    cut = np.quantile(np.abs(value), 1 - design.disagreement)
    moved = value + rng.normal(0, 0.15, design.seeds)
    return np.sign(moved) * (np.abs(moved) > cut), groups


def test_the_design_of_answers_gives_their_mean_squares_back() -> None:
    rng = np.random.default_rng(3)
    plan = Design((1, 2, 3, 4) * 80, 5, disagreement=0.3, seed_sd=0.0)
    seen, predicted = [], []
    for _ in range(60):
        d, groups = simulate(rng, plan)
        squares, expected = mean_squares(d, groups), expected_mean_squares(design_of(d, groups))
        seen.append((squares.rows, squares.seeds, squares.error))
        predicted.append((expected.rows, expected.seeds, expected.error))
    assert np.mean(predicted, axis=0) == pytest.approx(np.mean(seen, axis=0), rel=0.05)
    found = design_of(*simulate(rng, plan))
    assert found.disagreement == pytest.approx(0.3, abs=0.02)
    assert 0.1 < found.repeated < 0.7 and 0.02 < found.within_group < 0.5
    assert found.seeds == 5 and sorted(set(found.group_sizes)) == [1, 2, 3, 4]


def test_designs_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least two groups.*disagreement.*seed SD.*repeated"):
        Design((5,), 3, disagreement=0.0, seed_sd=-1, repeated=2)
    with pytest.raises(ValueError, match="agree on every row"):
        design_of(np.zeros((10, 3)))
    with pytest.raises(ValueError, match="alpha"):
        detectable_difference(MeanSquares(0.0, 1.0, 1.0, 1.0, 10, 3), alpha=0.9)


def test_without_variance_nothing_can_be_said() -> None:
    assert detectable_difference(mean_squares(np.zeros((10, 3)))) is None
