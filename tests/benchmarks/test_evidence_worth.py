"""`benchmarks/evidence_worth.py` on few experiments: its pools are what they say, its truth is that
of the tables, what ships is checked, and wrong statistics break its bounds."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import evidence_worth as bench  # noqa: E402
import evidence_worth_model as model  # noqa: E402
from evidence_bounds import Bounds  # noqa: E402

SMALL = replace(bench.BASE, rows=200)


@pytest.fixture(scope="module")
def measured() -> bench.WorthMeasured:
    return bench.run_chunk(replace(bench.BASE, rows=600, seed_sd=3.0), 40, [3, 0])


@pytest.mark.parametrize("systematic", [False, True])
def test_a_teacher_is_wrong_as_often_as_stated_and_on_the_same_rows(systematic: bool) -> None:
    scenario = replace(SMALL, errors=0.3, systematic=systematic)
    pool = model.draw_pool(np.random.default_rng(1), scenario)
    wrong = {teacher: sign < 0 for teacher, sign in pool.signs.items()}
    for each in wrong.values():
        assert each.mean() == pytest.approx(0.3, abs=0.001)
    both = (wrong["one"] & wrong["other"]).mean()
    assert both == pytest.approx(0.09 if systematic else 0.13, abs=0.04)
    about = [pool.unlabelled[wrong["one"], 1 + k].mean() for k in range(2)]
    assert abs(about[1]) < 0.3 and (about[0] > 1 if systematic else abs(about[0]) < 0.3)


def test_orders_are_nested_and_each_seeds_own() -> None:
    gold, bought = model.draw_orders(np.random.default_rng(2), SMALL, 6, 2000)
    assert gold.shape == (6, 2000) and bought.shape == (6, 750)
    assert all(len(set(order.tolist())) == 2000 for order in gold)
    assert len({tuple(order[:10].tolist()) for order in gold}) == 6


def test_the_truth_is_the_mean_of_the_tables() -> None:
    batch = model.simulate_worth(np.random.default_rng(4), replace(SMALL, rows=400), 100)
    for arm, table in batch.correct.items():
        assert table.mean() == pytest.approx(batch.truth[arm], abs=0.012)
    assert batch.truth["teacher"] == batch.truth["shuffled"] != batch.truth["other teacher"]
    between = sorted(
        (size for size in bench.BASE.sizes), key=lambda size: abs(size - batch.worth["teacher"])
    )[:2]
    low, high = sorted(batch.truth[model.gold_arm(size)] for size in between)
    assert low < batch.truth["teacher"] < high


def test_what_ships_is_compared_with_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run_chunk(SMALL, 2, [1, 0])
    other = bench.gold_equivalent
    monkeypatch.setattr(bench, "gold_equivalent", lambda *given: other(*given, confidence=0.5))
    with pytest.raises(AssertionError, match="gold equivalents"):
        bench.run_chunk(SMALL, 2, [1, 0])


def test_a_line_checks_four_bounds(measured: bench.WorthMeasured) -> None:
    bounds = Bounds()
    line = bench.line(measured, bench.BASE, bounds)
    assert len(bounds.seen) == 4 and "random errors 20%" in line
    assert bench.line(measured, bench.BASE, None)
    assert len(bounds.seen["gold equivalents covered at least 0.93"]) == 1


def test_a_test_that_forgets_the_seeds_breaks_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows alone: as if the five trainings of each arm were all that there are."""
    whole = bench.variance_of_arm
    monkeypatch.setattr(
        bench,
        "variance_of_arm",
        lambda units, effective: whole(units.mean(axis=-1, keepdims=True), effective),
    )
    scenario = replace(bench.BASE, rows=600, seed_sd=3.0)
    wrong = bench.run_chunk(scenario, 40, [3, 1])
    bounds = Bounds()
    assert "*" in bench.line(wrong, scenario, bounds)
    assert not bounds.report()
    covered = bounds.seen["gold equivalents covered at least 0.93"][0]
    assert covered[1] + 2 * covered[2] < 0.93
    alarms = bounds.seen["false alarms given the pool at most 0.06"][0]
    assert alarms[1] - 2 * alarms[2] > 0.06


def test_a_line_over_the_whole_gap_breaks_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def straight(sizes: tuple[int, ...], log_sizes: np.ndarray) -> np.ndarray:
        share = (log_sizes - np.log(sizes[0])) / np.log(sizes[-1] / sizes[0])
        weights = np.zeros((len(log_sizes), len(sizes)))
        weights[:, 0], weights[:, -1] = 1 - share, share
        return weights

    monkeypatch.setattr("tutelage.evaluation.gold_equivalent.curve_weights", straight)
    scenario = replace(bench.BASE, seeds=10, seed_sd=1.0)
    wrong = bench.run_chunk(scenario, 40, [4, 1])
    assert wrong.covered.mean() < 0.8


def test_an_order_that_all_seeds_share_is_outside_of_the_claim() -> None:
    batch = model.simulate_worth(np.random.default_rng(1), bench.UNCHECKED[0], 2)
    assert batch.correct["teacher"].shape == (2, 1000, 5)
    alarms = []
    for one_order in (False, True):
        scenario = replace(bench.BASE, rows=800, sample=4.0, seed_sd=1.0, one_order=one_order)
        found = bench.run_chunk(scenario, 50, [9, 1])
        alarms.append(float((np.abs(found.estimate - found.truth) > found.half).mean()))
    assert alarms[0] < 0.07 and alarms[1] > 0.15
