"""The seeds' share of the variance of an arm's accuracy, on tables whose variances are known."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.evaluation.variance import seeds_share


@pytest.mark.parametrize(("row_sd", "seed_sd"), [(0.5, 0.0), (0.5, 0.05), (0.1, 0.2)])
def test_the_share_is_that_of_the_variances(row_sd: float, seed_sd: float) -> None:
    rng = np.random.default_rng(1)
    rows, seeds, noise = 300, 60, 0.3
    table = (
        row_sd * rng.standard_normal((rows, 1))
        + seed_sd * rng.standard_normal((1, seeds))
        + noise * rng.standard_normal((rows, seeds))
    )
    of_rows = row_sd**2 / rows + noise**2 / (rows * seeds)
    of_seeds = seed_sd**2 / seeds
    found = seeds_share(table)
    assert found == pytest.approx(of_seeds / (of_rows + of_seeds), abs=0.06)


def test_without_seeds_or_variance_there_is_none() -> None:
    assert seeds_share([[1.0], [0.0]]) is None
    assert seeds_share([[1.0, 1.0], [1.0, 1.0]]) is None


def test_seeds_that_are_alike_have_no_share_and_unlike_ones_all() -> None:
    assert seeds_share([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]) == 0
    assert seeds_share([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]) == 1
