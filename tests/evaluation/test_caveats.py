"""When the warnings about unlike seeds are given, simulated; and the size of an exaggeration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tutelage.evaluation.caveats import UnlikeSeeds, exaggeration, unlike_seeds

Draw = Callable[[np.random.Generator, int], np.ndarray]
NOISE = 1.2
"""SD in points of an accuracy on a thousand rows that comes from the single predictions."""


def _normal(sd: float) -> Draw:
    return lambda rng, seeds: (70 + math.hypot(sd, NOISE) * rng.standard_normal(seeds)) / 100


def _fallen(drop: float) -> Draw:
    def draw(rng: np.random.Generator, seeds: int) -> np.ndarray:
        values = _normal(1.5)(rng, seeds)
        values[rng.integers(seeds)] -= drop / 100
        return values

    return draw


ARMS = ("one", "other", "one-shuffled", "other-shuffled", "labels")
TREATMENTS = ("one", "other")


def _rate(draws: Sequence[Draw], seeds: int, runs: int) -> float:
    """How often there is a warning: the draws are those of the first arms and of all the rest."""
    rng = np.random.default_rng(seeds)
    arms = ARMS if len(draws) > 2 else ("one", "labels")
    found = 0
    for _ in range(runs):
        drawn = [draws[min(i, len(draws) - 1)](rng, seeds) for i in range(len(arms))]
        found += bool(unlike_seeds(dict(zip(arms, drawn, strict=True)), TREATMENTS))
    return found / runs


@pytest.mark.parametrize(("seeds", "most"), [(3, 0.20), (4, 0.20), (5, 0.10), (10, 0.10)])
@pytest.mark.parametrize("arms", [2, 5])
@pytest.mark.parametrize("sd", [0.0, 3.0])
def test_seeds_that_are_alike_rarely_give_a_warning(
    seeds: int, most: float, arms: int, sd: float
) -> None:
    rate = _rate([_normal(sd)] * arms, seeds, 1000)
    assert most / 3 < rate <= most + 2.5 * math.sqrt(most * (1 - most) / 1000)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("drop", [20.0, 30.0])
def test_a_seed_that_collapsed_gives_one(seeds: int, drop: float) -> None:
    fallen, usual = _fallen(drop), _normal(1.5)
    assert _rate([fallen, usual], seeds, 400) >= 0.9
    assert _rate([usual, fallen], seeds, 400) >= 0.9
    assert _rate([usual, fallen, usual], seeds, 400) >= 0.95


@pytest.mark.parametrize(("seeds", "least"), [(5, 0.55), (10, 0.9)])
def test_seeds_four_times_as_spread_mostly_do(seeds: int, least: float) -> None:
    assert _rate([_normal(6.0), _normal(1.5)], seeds, 600) >= least
    assert _rate([_normal(6.0), _normal(6.0), _normal(1.5)], seeds, 600) >= least + 0.09


def _found(**accuracies: Sequence[float]) -> tuple[UnlikeSeeds, ...]:
    return unlike_seeds(accuracies, ["a", "b"])


def test_what_the_warning_says() -> None:
    (found,) = _found(a=[0.7, 0.71, 0.33], labels=[0.7, 0.69, 0.71])
    assert (found.kind, found.arms, found.place) == ("collapsed", ("a",), 2)
    wide, narrow = [0.6, 0.8, 0.65, 0.75, 0.7], [0.70, 0.69, 0.70, 0.71, 0.7]
    (found,) = _found(a=narrow, labels=wide)
    assert (found.kind, found.arms, found.place) == ("spread", ("labels",), None)
    assert found.ratio == pytest.approx(np.std(wide) / np.std(narrow))
    assert _found(a=[0.7, 0.72, 0.71], labels=[0.71, 0.7, 0.73]) == ()
    assert _found(a=[0.7, 0.1], labels=[0.7, 0.71]) == ()
    for accuracy in (0.5, 0.458, 1 / 3):  # equal floats whose mean may differ from them
        assert _found(a=[accuracy] * 3, labels=[0.7] * 3) == ()
    (equal,) = _found(a=[0.5] * 5, labels=[0.5, 0.6, 0.7, 0.8, 0.9])
    assert (equal.kind, equal.arms, equal.ratio) == ("spread", ("labels",), math.inf)
    (alone,) = _found(a=[0.5] * 5, labels=[0.5, 0.5, 0.5, 0.5, 0.2])
    assert (alone.kind, alone.arms, alone.place) == ("collapsed", ("labels",), 4)


def test_treatment_arms_that_are_more_spread_together_are_named_together() -> None:
    a, b = [0.66, 0.74, 0.70, 0.65, 0.75], [0.74, 0.66, 0.71, 0.74, 0.66]
    usual = [0.69, 0.71, 0.68, 0.72, 0.70]
    (found,) = _found(a=a, labels=usual, b=b, c=[v + 0.01 for v in usual])
    assert (found.kind, found.arms, found.place) == ("spread", ("a", "b"), None)
    assert found.ratio > 2


def test_one_collapsed_seed_is_not_said_of_all_other_arms() -> None:
    rng = np.random.default_rng(0)
    arms = {f"arm {i}": 0.7 + 0.01 * rng.standard_normal(5) for i in range(8)}
    arms["arm 3"][2] = 0.34
    (found,) = unlike_seeds(arms, ["arm 3"])
    assert (found.kind, found.arms, found.place) == ("collapsed", ("arm 3",), 2)


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
