"""Comparisons of arms: pairing by uid and rank of seed, Holm over the family, refusals."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tutelage.core.errors import DataError, UsageError
from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.evaluation.compare import compare, compare_correctness
from tutelage.evaluation.crossed import crossed_random_effects, equivalence
from tutelage.evaluation.power import detectable_difference
from tutelage.evaluation.statistics import holm, mcnemar_exact
from tutelage.evaluation.variance import variance_estimates

TASK = Task("yes or no", ("text",), ("yes", "no"))
Arms = dict[str, dict[int, list[Prediction]]]


def predictions(correct: np.ndarray, seeds: list[int], order: random.Random) -> dict[int, list]:
    """Rows r0, r1, … with gold `yes`, right where `correct` (rows × seeds) is; in any order."""
    table = {}
    for column, seed in enumerate(seeds):
        made = [
            Prediction(f"r{i}", "yes" if right else "no", {}, "yes")
            for i, right in enumerate(correct[:, column])
        ]
        order.shuffle(made)
        table[seed] = made
    return table


@pytest.fixture
def correct() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "labels": rng.random((120, 3)) < 0.5,
        "taught": rng.random((120, 3)) < 0.75,
        "shuffled": rng.random((120, 3)) < 0.5,
    }


@pytest.fixture
def arms(correct: dict[str, np.ndarray]) -> Arms:
    order = random.Random(0)
    seeds = {"labels": [0, 1, 2], "taught": [10, 5, 7], "shuffled": [2, 1, 0]}
    # Columns belong to seeds in rising order, however the mapping lists them.
    return {
        name: predictions(table[:, np.argsort(np.argsort(seeds[name]))], seeds[name], order)
        for name, table in correct.items()
    }


def test_rows_align_by_uid_and_seeds_by_rank(arms: Arms, correct: dict[str, np.ndarray]) -> None:
    pairs = [("taught", "labels"), ("taught", "shuffled"), ("shuffled", "labels")]
    results = compare(arms, pairs, TASK)
    assert [(r.arm, r.baseline) for r in results] == pairs
    for result in results:
        a, b = correct[result.arm].astype(float), correct[result.baseline].astype(float)
        referee = crossed_random_effects(a, baseline=b)
        assert result.difference == pytest.approx(a.mean() - b.mean())
        assert result.p_value == pytest.approx(referee.p_value)
        assert result.ci95 == pytest.approx((referee.ci_low, referee.ci_high))
        assert result.test == referee.method
        assert (result.n, result.groups, result.seeds, result.family) == (120, 120, 3, 3)
        for seed in range(3):
            only_a = int((a[:, seed] > b[:, seed]).sum())
            only_b = int((a[:, seed] < b[:, seed]).sum())
            assert result.only_arm_right_by_seed[seed] == only_a
            assert result.mcnemar_p_by_seed[seed] == pytest.approx(mcnemar_exact(only_a, only_b))
        assert result.minimum_detectable_difference == pytest.approx(
            detectable_difference(variance_estimates(a, baseline=b), 0.05 / 3)
        )
        within = equivalence(a, 0.01, baseline=b)
        assert result.equivalence_margin == 0.01
        assert result.equivalence_p_value == pytest.approx(within.p_value)
        assert result.ci90 == pytest.approx(within.ci90)
    assert [r.p_adjusted for r in results] == pytest.approx(holm([r.p_value for r in results]))
    assert results[0].p_adjusted < 0.05 < results[2].p_adjusted


def test_the_other_way_round_is_the_same_with_its_sign_turned(arms: Arms) -> None:
    there, back = compare(arms, [("taught", "labels"), ("labels", "taught")], TASK)
    assert back.difference == pytest.approx(-there.difference)
    assert back.p_value == pytest.approx(there.p_value)
    assert back.only_arm_right_by_seed == there.only_baseline_right_by_seed


def test_tables_of_correctness_say_what_predictions_say(
    arms: Arms, correct: dict[str, np.ndarray]
) -> None:
    pairs = [("taught", "labels"), ("taught", "shuffled")]
    groups = {f"r{i}": f"premise {i % 40}" for i in range(120)}
    tables = {name: table.astype(float) for name, table in correct.items()}
    keys = [i % 40 for i in range(120)]
    from_tables = compare_correctness(tables, pairs, keys, margin=0.3)
    from_predictions = compare(arms, pairs, TASK, groups, margin=0.3)
    for one, other in zip(from_tables, from_predictions, strict=True):
        assert one.p_adjusted == pytest.approx(other.p_adjusted)
        assert one.ci95 == pytest.approx(other.ci95)
        assert one.equivalence_p_value == pytest.approx(other.equivalence_p_value)
        assert one.mcnemar_p_by_seed == other.mcnemar_p_by_seed


def test_groups_are_the_units(arms: Arms, correct: dict[str, np.ndarray]) -> None:
    groups = {f"r{i}": f"premise {i % 40}" for i in range(120)}
    [result] = compare(arms, [("taught", "labels")], TASK, groups)
    keys = [i % 40 for i in range(120)]
    referee = crossed_random_effects(
        correct["taught"].astype(float), keys, baseline=correct["labels"].astype(float)
    )
    assert result.p_value == pytest.approx(referee.p_value)
    assert (result.n, result.groups, result.few_groups) == (120, 40, False)
    assert result.effective_groups == pytest.approx(40)
    few = {uid: int(premise.split()[1]) // 12 for uid, premise in groups.items()}
    [warned] = compare(arms, [("taught", "labels")], TASK, few)
    assert (warned.groups, warned.few_groups) == (4, True)
    assert warned.effective_groups == pytest.approx(120**2 / (3 * 36**2 + 12**2))
    del groups["r7"]
    with pytest.raises(DataError, match=r"no group for 1 rows .*'r7'"):
        compare(arms, [("taught", "labels")], TASK, groups)


def test_equal_predictions_do_not_differ(arms: Arms) -> None:
    arms["copy"] = arms["taught"]
    [result] = compare(arms, [("copy", "taught")], TASK)
    assert (result.difference, result.p_value) == (0, 1)
    # The seeds of each arm differ, so the data do not show that the arms' means agree.
    assert result.minimum_detectable_difference is not None
    assert result.ci95[0] < 0 < result.ci95[1]
    first = dict.fromkeys((1, 2, 3), arms["taught"][10])
    [same] = compare({"one": first, "two": first}, [("one", "two")], TASK)
    assert (same.difference, same.p_value) == (0, 1)
    assert same.minimum_detectable_difference is None and same.standard_error is None


def test_one_seed_is_said_to_apply_to_itself(arms: Arms) -> None:
    one = {name: dict([next(iter(of.items()))]) for name, of in arms.items()}
    [result] = compare(one, [("taught", "labels")], TASK)
    assert "not to other seeds" in result.test


def test_no_pairs_no_comparisons(arms: Arms) -> None:
    assert compare(arms, [], TASK) == []


def test_a_missing_row_is_an_error_and_not_dropped(arms: Arms) -> None:
    lost = arms["taught"][7].pop()
    with pytest.raises(DataError, match=f"arm 'taught' seed 7 lacks 1 rows .*'{lost.uid}'"):
        compare(arms, [("labels", "shuffled"), ("taught", "labels")], TASK)


def test_arms_on_other_rows_are_refused(arms: Arms) -> None:
    arms["taught"] = {
        seed: [Prediction("x" + p.uid, p.label, {}, p.gold) for p in of]
        for seed, of in arms["taught"].items()
    }
    with pytest.raises(DataError, match=r"lacks 120 rows .* has 120"):
        compare(arms, [("labels", "taught")], TASK)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("taught", "label")], "no predictions of 'label', expected one of labels, taught"),
        ([("taught", "taught")], "with itself"),
        ([("taught", "labels"), ("taught", "labels")], "pair twice"),
    ],
)
def test_wrong_pairs_are_refused(arms: Arms, pairs: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare(arms, pairs, TASK)


def test_unequal_numbers_of_seeds_are_refused(arms: Arms) -> None:
    del arms["labels"][2]
    with pytest.raises(UsageError, match="3 seeds of 'taught' and 2 of 'labels'"):
        compare(arms, [("taught", "labels")], TASK)
