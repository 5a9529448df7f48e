"""The bootstrap against the formula where there is one, against scikit-learn, and in coverage."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tutelage.core.task import NLI
from tutelage.core.types import Prediction
from tutelage.evaluation.bootstrap import (
    BootstrapResult,
    Statistic,
    bootstrap,
    macro_f1_interval,
    macro_f1_of,
)
from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.metrics import evaluate


def table(seed: int, rows: int = 120, seeds: int = 4, seed_sd: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(seed)
    d = 0.1 + rng.normal(0, 0.3, (rows, 1)) + rng.normal(0, 0.3, (rows, seeds))
    return np.clip(d + rng.normal(0, seed_sd, seeds), -1, 1)


def mean_of(values: np.ndarray) -> Statistic:
    """The weighted mean of a rows × seeds table: a quantity whose interval has a formula."""

    def statistic(rows: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        totals = ((rows @ values) * seeds).sum(axis=1)
        return totals / (rows.sum(axis=1) * seeds.sum(axis=1))

    return statistic


WIDE = (-1.0, 1.0)


def interval(drawn: BootstrapResult) -> tuple[float, float]:
    assert drawn.ci95 is not None
    return drawn.ci95


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seeds", [1, 4])
def test_of_a_mean_it_is_the_formula(grouped: bool, seeds: int) -> None:
    d = table(1, seeds=seeds)
    groups = [i // 3 for i in range(len(d))] if grouped else None
    drawn = bootstrap(mean_of(d), *d.shape, groups, bounds=WIDE, resamples=20_000)
    formula = crossed_random_effects(d, groups)
    assert drawn.estimate == pytest.approx(formula.estimate)
    assert drawn.standard_error == pytest.approx(formula.standard_error, rel=0.03)
    assert drawn.ci95 == pytest.approx((formula.ci_low, formula.ci_high), abs=0.005)
    assert ("one seed" in drawn.method) == (seeds == 1)
    assert ("groups" in drawn.method) == grouped
    assert "20,000 resamples" in drawn.method


def test_rows_that_share_no_group_are_rows() -> None:
    d = table(4)
    alone = bootstrap(mean_of(d), *d.shape, bounds=WIDE, resamples=50)
    assert bootstrap(mean_of(d), *d.shape, list("xy" * 60), bounds=WIDE, resamples=50) != alone
    assert bootstrap(mean_of(d), *d.shape, range(120), bounds=WIDE, resamples=50) == alone


def test_a_seed_gives_the_same_interval_again_whatever_the_batches() -> None:
    d = table(3)
    one, again = (
        bootstrap(mean_of(d), *d.shape, bounds=WIDE, resamples=300, seed=5) for _ in range(2)
    )
    assert one == again
    assert bootstrap(mean_of(d), *d.shape, bounds=WIDE, resamples=300, seed=6) != one
    wide = np.repeat(d, 200, axis=0)  # 24,000 rows: several batches
    groups = np.repeat(np.arange(120), 200)
    grouped = bootstrap(mean_of(wide), *wide.shape, groups, bounds=WIDE, resamples=300, seed=5)
    assert grouped.standard_error == pytest.approx(one.standard_error, rel=0.2)


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


def test_predictions_whatever_their_order_and_as_metrics_has_them() -> None:
    rng = np.random.default_rng(6)
    by_seed = {
        seed: [
            Prediction(f"r{i}", NLI.labels[int(rng.integers(0, 3))], {}, NLI.labels[i % 3])
            for i in rng.permutation(60)
        ]
        for seed in (3, 1)
    }
    found = macro_f1_interval(by_seed, NLI)
    assert found.estimate == pytest.approx(evaluate(by_seed, NLI).macro_f1)
    low, high = interval(found)
    assert 0 < low < found.estimate - 0.02 and found.estimate + 0.02 < high < 1
    assert found.method == "bootstrap by parts over 60 rows and 2 seeds, 1,000 resamples"
    grouped = macro_f1_interval(by_seed, NLI, {f"r{i}": i // 20 for i in range(60)})
    assert grouped.ci95 != found.ci95 and "3 groups of rows" in grouped.method
    assert macro_f1_interval(by_seed, NLI, {f"r{i}": i for i in range(60)}) == found


def test_without_variance_there_is_no_interval_and_not_one_of_no_width() -> None:
    """Not 0 to 0 for 30 zeros: `crossed_random_effects` knows a bound for a mean of them."""
    zeros = np.zeros((30, 2))
    drawn = bootstrap(mean_of(zeros), 30, 2, bounds=(0.0, 1.0))
    assert (drawn.estimate, drawn.standard_error, drawn.ci95) == (0, None, None)
    assert drawn.method == "no interval: no variance to be seen over 30 rows"
    assert crossed_random_effects(zeros, bounds=(0, 1)).ci_high == pytest.approx(0.116, abs=5e-4)
    right = {0: [Prediction(f"r{i}", label, {}, label) for i, label in enumerate(NLI.labels)]}
    assert (macro_f1_interval(right, NLI).estimate, macro_f1_interval(right, NLI).ci95) == (1, None)
    one = bootstrap(mean_of(table(7)), 120, 4, ["a"] * 120, bounds=WIDE)
    assert one.ci95 is None and one.method == "no interval: all rows are one group"
    single = bootstrap(mean_of(np.ones((1, 4))), 1, 4, bounds=WIDE)
    assert single.ci95 is None and single.method == "no interval: a single row"


def test_three_seeds_are_covered() -> None:
    rng = np.random.default_rng(8)
    covered = 0
    for number in range(150):
        d = rng.normal(0, 0.3, (60, 3)) + rng.normal(0, 0.1, 3)
        low, high = interval(bootstrap(mean_of(d), 60, 3, bounds=WIDE, resamples=300, seed=number))
        covered += low <= 0 <= high
    assert covered >= 134  # 150 draws at a true 95% fall below it once in 500


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
        low, high = interval(
            bootstrap(
                macro_f1_of(gold, predicted, 3), 200, 4, resamples=200, seed=number, bounds=(0, 1)
            )
        )
        covered += low <= truth <= high
    assert covered >= 106  # 120 draws at a true 95% fall below it once in 500


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="2 group keys for 3 rows"):
        bootstrap(mean_of(np.ones((3, 2))), 3, 2, ["a", "b"], bounds=WIDE)
    with pytest.raises(ValueError, match="at least one row"):
        bootstrap(mean_of(np.ones((0, 2))), 0, 2, bounds=WIDE)
    with pytest.raises(ValueError, match="not finite"):
        bootstrap(lambda r, s: np.full(max(len(r), len(s)), np.nan), 3, 2, bounds=WIDE)
