"""When the warnings about unlike seeds are given, simulated; and the size of an exaggeration."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tutelage.evaluation.caveats import exaggeration, unlike_seeds

Draw = Callable[[np.random.Generator, int], np.ndarray]
NOISE = 1.2
"""SD in points of an accuracy on a thousand rows that comes from the single predictions."""


def _normal(sd: float) -> Draw:
    return lambda rng, seeds: 70 + math.hypot(sd, NOISE) * rng.standard_normal(seeds)


def _fallen(drop: float) -> Draw:
    def draw(rng: np.random.Generator, seeds: int) -> np.ndarray:
        values = _normal(1.5)(rng, seeds)
        values[rng.integers(seeds)] -= drop
        return values

    return draw


def _rate(one: Draw, other: Draw, seeds: int, runs: int = 1500) -> float:
    rng = np.random.default_rng(seeds)
    return (
        sum(unlike_seeds(one(rng, seeds), other(rng, seeds)) is not None for _ in range(runs))
        / runs
    )


@pytest.mark.parametrize(("seeds", "most"), [(3, 0.20), (4, 0.20), (5, 0.10), (10, 0.10)])
@pytest.mark.parametrize("sd", [0.0, 1.0, 3.0])
def test_seeds_that_are_alike_rarely_give_a_warning(seeds: int, most: float, sd: float) -> None:
    rate = _rate(_normal(sd), _normal(sd), seeds)
    assert most / 3 < rate <= most + 2.5 * math.sqrt(most * (1 - most) / 1500)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("drop", [20.0, 30.0])
def test_a_seed_that_collapsed_gives_one(seeds: int, drop: float) -> None:
    assert _rate(_fallen(drop), _normal(1.5), seeds, 600) >= 0.9
    assert _rate(_normal(1.5), _fallen(drop), seeds, 600) >= 0.9


@pytest.mark.parametrize(("seeds", "least"), [(5, 0.55), (10, 0.9)])
def test_seeds_four_times_as_spread_mostly_do(seeds: int, least: float) -> None:
    assert _rate(_normal(6.0), _normal(1.5), seeds, 600) >= least


def test_what_the_warning_says() -> None:
    found = unlike_seeds([0.7, 0.71, 0.33], [0.7, 0.69, 0.71])
    assert found is not None
    assert (found.kind, found.arm, found.place) == ("collapsed", 0, 2)
    found = unlike_seeds([0.70, 0.69, 0.70, 0.71, 0.7], [0.6, 0.8, 0.65, 0.75, 0.7])
    assert found is not None and (found.kind, found.arm, found.place) == ("spread", 1, None)
    assert found.ratio == pytest.approx(np.std([6, 8, 6.5, 7.5, 7]) / np.std([7, 6.9, 7, 7.1, 7]))
    assert unlike_seeds([0.7, 0.72, 0.71], [0.71, 0.7, 0.73]) is None
    assert unlike_seeds([0.7, 0.1], [0.7, 0.71]) is None
    for accuracy in (0.5, 0.458, 1 / 3):  # equal floats whose mean may differ from them
        assert unlike_seeds([accuracy] * 3, [0.7] * 3) is None
    equal = unlike_seeds([0.5] * 5, [0.5, 0.6, 0.7, 0.8, 0.9])
    assert equal is not None and (equal.kind, equal.arm, equal.ratio) == ("spread", 1, math.inf)
    alone = unlike_seeds([0.5] * 5, [0.5, 0.5, 0.5, 0.5, 0.2])
    assert alone is not None and (alone.kind, alone.arm, alone.place) == ("collapsed", 1, 4)


def test_several_comparisons_share_the_level() -> None:
    one, other = [0.70, 0.69, 0.70, 0.71, 0.7], [0.68, 0.735, 0.69, 0.70, 0.66]
    assert unlike_seeds(one, other) is not None
    assert unlike_seeds(one, other, comparisons=10) is None


@pytest.mark.parametrize(("true", "critical"), [(1.0, 1.96), (2.0, 2.5), (4.0, 1.96), (0.3, 2.5)])
def test_the_exaggeration_is_that_of_a_simulation(true: float, critical: float) -> None:
    rng = np.random.default_rng(1)
    drawn = 0.01 * (true + rng.standard_normal(400_000))
    significant = drawn[np.abs(drawn) > 0.01 * critical]
    expected = np.abs(significant).mean() / (0.01 * true)
    assert exaggeration(0.01 * true, 0.01, critical) == pytest.approx(expected, rel=0.01)
    assert exaggeration(-0.01 * true, 0.01, critical) == pytest.approx(expected, rel=0.01)
    with pytest.raises(ValueError, match="expected a difference and an error"):
        exaggeration(0.0, 0.01, critical)
