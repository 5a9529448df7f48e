"""The bootstrap against the formula where there is one, against scipy, and in coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from tutelage.evaluation.bootstrap import bootstrap, difference_of, macro_f1_of, mean_of
from tutelage.evaluation.crossed import crossed_random_effects


def table(seed: int, rows: int = 120, seeds: int = 4, seed_sd: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(seed)
    d = 0.1 + rng.normal(0, 0.3, (rows, 1)) + rng.normal(0, 0.3, (rows, seeds))
    return np.clip(d + rng.normal(0, seed_sd, seeds), -1, 1)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seeds", [1, 4])
def test_of_a_mean_it_is_the_formula(grouped: bool, seeds: int) -> None:
    d = table(1, seeds=seeds)
    groups = [i // 3 for i in range(len(d))] if grouped else None
    drawn = bootstrap(mean_of(d), *d.shape, groups, resamples=20_000)
    formula = crossed_random_effects(d, groups)
    assert drawn.estimate == pytest.approx(formula.estimate)
    assert drawn.standard_error == pytest.approx(formula.standard_error, rel=0.03)
    assert drawn.ci_low == pytest.approx(formula.ci_low, abs=0.005)
    assert drawn.ci_high == pytest.approx(formula.ci_high, abs=0.005)
    assert ("one seed" in drawn.method) == (seeds == 1)
    assert ("groups" in drawn.method) == grouped


def test_percentiles_of_one_seed_are_those_of_scipy() -> None:
    values = np.random.default_rng(2).exponential(0.1, 80)
    drawn = bootstrap(mean_of(values[:, None]), 80, 1, resamples=8000)
    referee = stats.bootstrap(
        (values,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert drawn.percentile == pytest.approx((referee.low, referee.high), abs=0.0015)


def test_a_seed_gives_the_same_interval_again_whatever_the_batches() -> None:
    d = table(3)
    one, again = (bootstrap(mean_of(d), *d.shape, resamples=300, seed=5) for _ in range(2))
    assert one == again
    assert bootstrap(mean_of(d), *d.shape, resamples=300, seed=6) != one
    wide = np.repeat(d, 200, axis=0)  # 24,000 rows: several batches
    groups = np.repeat(np.arange(120), 200)
    told = bootstrap(mean_of(wide), *wide.shape, groups, resamples=300, seed=5)
    assert told.standard_error == pytest.approx(one.standard_error, rel=0.2)


def test_macro_f1_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    gold = rng.integers(0, 3, 60)
    predicted = np.where(rng.random((60, 2)) < 0.6, gold[:, None], rng.integers(0, 3, (60, 2)))
    statistic = macro_f1_of(gold, predicted, 3)
    weights = rng.integers(0, 4, 60)
    value = statistic(weights[None].astype(float), np.array([[2.0, 0.0]]))
    referee = f1_score(gold, predicted[:, 0], sample_weight=weights, average="macro")
    assert value[0] == pytest.approx(referee)


def test_a_label_that_a_resample_lacks_is_left_out() -> None:
    statistic = macro_f1_of(np.array([0, 0, 1]), np.array([[0], [0], [1]]), 2)
    assert statistic(np.array([[1.0, 1.0, 0.0]]), np.ones((1, 1)))[0] == 1


def test_difference_of_two_statistics_sees_that_rows_are_paired() -> None:
    first = table(5)
    second = first - 0.05
    gap = bootstrap(difference_of(mean_of(first), mean_of(second)), *first.shape, resamples=200)
    assert gap.estimate == pytest.approx(0.05)
    assert gap.standard_error < 1e-9


def test_three_seeds_are_covered_where_plain_percentiles_are_not() -> None:
    rng = np.random.default_rng(8)
    by_parts = plain = 0
    for number in range(150):
        d = rng.normal(0, 0.3, (60, 3)) + rng.normal(0, 0.1, 3)
        drawn = bootstrap(mean_of(d), 60, 3, resamples=300, seed=number)
        by_parts += drawn.ci_low <= 0 <= drawn.ci_high
        plain += drawn.percentile[0] <= 0 <= drawn.percentile[1]
    assert by_parts >= 134  # 150 draws at a true 95% fall below it once in 500
    assert plain < 134


def test_macro_f1_is_covered() -> None:
    rng = np.random.default_rng(9)

    def answers(rows: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
        gold = rng.choice(3, rows, p=(0.5, 0.3, 0.2))
        right = rng.random((rows, seeds)) < 0.6 + rng.normal(0, 0.03, seeds)
        return gold, np.where(right, gold[:, None], rng.integers(0, 3, (rows, seeds)))

    truth = macro_f1_of(*answers(4000, 100), 3)(np.ones((1, 4000)), np.ones((1, 100)))[0]
    covered = 0
    for number in range(120):
        gold, predicted = answers(200, 4)
        drawn = bootstrap(
            macro_f1_of(gold, predicted, 3), 200, 4, resamples=200, seed=number, bounds=(0, 1)
        )
        covered += drawn.ci_low <= truth <= drawn.ci_high
    assert covered >= 106  # 120 draws at a true 95% fall below it once in 500


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="2 group keys for 3 rows"):
        bootstrap(mean_of(np.ones((3, 2))), 3, 2, ["a", "b"])
    with pytest.raises(ValueError, match="at least two units"):
        bootstrap(mean_of(np.ones((3, 2))), 3, 2, ["a"] * 3)
    with pytest.raises(ValueError, match="not finite"):
        bootstrap(lambda rows, seeds: np.full(len(rows), np.nan), 3, 2)
