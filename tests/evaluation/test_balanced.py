"""Balanced accuracy in the tests: its mean, its variance within labels, and false alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri
from sklearn.metrics import balanced_accuracy_score

from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.evaluation.balanced import balanced_tables
from tutelage.evaluation.compare import compare, compare_correctness
from tutelage.evaluation.crossed import crossed_random_effects, equivalence, half_width
from tutelage.evaluation.gold_equivalent import gold_equivalent
from tutelage.evaluation.non_inferior import non_inferiority
from tutelage.evaluation.possibly_best import possibly_best
from tutelage.evaluation.share import share_of_gain
from tutelage.evaluation.variance import variance_estimates, variance_of_mean, variances_of_arms

RECALLS = np.array([0.9, 0.6, 0.4])


def rows_of(rng: np.random.Generator, *counts: int) -> np.ndarray:
    return rng.permutation(np.repeat(np.arange(len(counts)), counts))


def arm(
    rng: np.random.Generator, labels: np.ndarray, hard: np.ndarray, seeds: int = 4
) -> np.ndarray:
    """Correctness of an arm with the recalls RECALLS on rows of that difficulty (SD .8)."""
    noise = rng.normal(0, 0.6, (len(labels), seeds)) + rng.normal(0, 0.05, seeds)
    return ((hard + noise) < ndtri(RECALLS)[labels][:, None]).astype(float)


def difficulty(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.normal(0, 0.8, (rows, 1))


def test_the_mean_is_the_balanced_accuracy_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    gold = rows_of(rng, 50, 20, 7)
    predicted = np.where(rng.random((77, 3)) < 0.6, gold[:, None], rng.integers(0, 3, (77, 3)))
    table = (predicted == gold[:, None]).astype(float)
    [balanced], _ = balanced_tables([table], gold, None)
    for seed in range(3):
        referee = balanced_accuracy_score(gold, predicted[:, seed])
        assert balanced[:, seed].mean() == pytest.approx(referee)
    result = crossed_random_effects(table, bounds=(0, 1), labels=gold.tolist())
    assert result.estimate == pytest.approx(np.mean(balanced.mean(axis=0)))
    assert result.estimate != pytest.approx(table.mean(), abs=0.01)
    # Groups weigh by their rows, so they do not change it.
    groups = [row // 3 for row in range(77)]
    assert variance_estimates(table, groups, labels=gold).mean == pytest.approx(result.estimate)


def test_one_label_is_plain_accuracy() -> None:
    table = np.random.default_rng(2).integers(0, 2, (60, 4)).astype(float)
    groups = [row // 2 for row in range(60)]
    for keys in (None, groups):
        plain = variance_estimates(table, keys)
        one = variance_estimates(table, keys, labels=["same"] * 60)
        assert one.effective_units == pytest.approx(plain.effective_units)
        assert (one.mean, one.rows, *one.seeds, *one.residue) == pytest.approx(
            (plain.mean, plain.rows, *plain.seeds, *plain.residue)
        )


def test_the_variance_of_one_seed_is_that_of_a_stratified_mean() -> None:
    """Independent rows: Σ s_l² / (L² n_l), with s_l the SD within a label."""
    rng = np.random.default_rng(3)
    gold = rows_of(rng, 60, 25, 8)
    table = arm(rng, gold, difficulty(rng, 93), seeds=1)
    within = sum(table[gold == label, 0].var(ddof=1) / (gold == label).sum() for label in range(3))
    parts = variance_estimates(table, labels=gold)
    assert parts.rows == pytest.approx(within / 9)


def test_a_rare_label_leaves_few_degrees_of_freedom() -> None:
    def units(*counts: int, groups: Any = None) -> float:
        gold = np.repeat(np.arange(len(counts)), counts)
        return balanced_tables([np.zeros((len(gold), 2))], gold, groups)[1]

    assert units(100, 100, 100) == pytest.approx(298)
    assert 10 < units(1000, 1000, 10) < 11
    assert units(700, 200, 100) < units(400, 300, 300)
    # Three rows of a premise, one of each label: not more than there are premises.
    premises = np.arange(90) % 30
    assert units(30, 30, 30, groups=premises) == pytest.approx(30)


def test_every_test_takes_the_labels() -> None:
    """With labels a test is the one of the balanced tables, where those weigh the rows equally."""
    rng = np.random.default_rng(4)
    gold = rows_of(rng, 120, 60, 20)
    hard = difficulty(rng, 200)
    one, other, third = (arm(rng, gold, hard) for _ in range(3))
    one[gold == 2] = 0  # worse on the rare label alone: a tenth of the rows, a third of the mean
    lost = crossed_random_effects(other, baseline=one, labels=gold)
    assert lost.estimate > 2 * crossed_random_effects(other, baseline=one).estimate
    tables = {"one": one, "other": other, "third": third}
    set_of = possibly_best(tables, labels=gold)
    assert "one" not in set_of.arms and len(set_of.arms) == 2
    cheaper = non_inferiority(tables, {"one": 0, "other": 1, "third": 2}, None, 0.1, labels=gold)
    assert cheaper.cheaper[0].behind == pytest.approx(
        max(each.mean for each in set_of.candidates) - set_of.candidates[0].mean
    )
    [compared] = compare_correctness(tables, [("other", "one")], labels=gold)
    assert compared.difference == pytest.approx(lost.estimate)
    assert compared.p_value == pytest.approx(lost.p_value)
    assert compared.only_arm_right_by_seed == tuple((other > one).sum(axis=0))
    curve = {250: one, 500: one, 1000: other, 2000: np.ones((200, 4))}
    found = gold_equivalent(third, curve, 250, labels=gold)
    assert found.low != gold_equivalent(third, curve, 250).low
    within = equivalence(other, 0.1, baseline=third, labels=gold)
    ci90 = crossed_random_effects(other, baseline=third, labels=gold, confidence=0.9)
    assert within.ci90 == pytest.approx((ci90.ci_low, ci90.ci_high))
    ratio = share_of_gain(other, third, one, labels=gold)
    assert ratio is not None and ratio.share == pytest.approx(
        crossed_random_effects(third, baseline=one, labels=gold).estimate / lost.estimate
    )


def test_compare_takes_the_gold_labels_of_the_predictions() -> None:
    rng = np.random.default_rng(5)
    task = Task("three", ("text",), ("a", "b", "c"))
    gold = [task.labels[label] for label in rows_of(rng, 40, 15, 5)]
    predictions = {
        name: {
            seed: [
                Prediction(f"row {i}", right if rng.random() < share else "a", {}, right)
                for i, right in enumerate(gold)
            ]
            for seed in range(3)
        }
        for name, share in (("arm", 0.8), ("other", 0.4))
    }
    [plain] = compare(predictions, [("arm", "other")], task)
    [balanced] = compare(predictions, [("arm", "other")], task, balanced=True)
    expected = [
        np.mean(
            [balanced_accuracy_score(gold, [p.label for p in rows]) for rows in by_seed.values()]
        )
        for by_seed in predictions.values()
    ]
    assert balanced.difference == pytest.approx(expected[0] - expected[1])
    assert balanced.difference != pytest.approx(plain.difference)
    assert balanced.effective_groups < plain.effective_groups


def test_the_order_of_rows_and_the_names_of_labels_do_not_matter() -> None:
    rng = np.random.default_rng(6)
    gold = rows_of(rng, 50, 30, 10)
    hard = difficulty(rng, 90)
    one, other = arm(rng, gold, hard), arm(rng, gold, hard)
    groups = [row // 2 for row in range(90)]
    order = rng.permutation(90)
    once = crossed_random_effects(one, groups, baseline=other, labels=gold)
    again = crossed_random_effects(
        one[order],
        [groups[row] for row in order],
        baseline=other[order],
        labels=[f"label {2 - gold[row]}" for row in order],
    )
    assert (once.estimate, once.p_value, once.standard_error) == pytest.approx(
        (again.estimate, again.p_value, again.standard_error)
    )


@pytest.mark.parametrize("counts", [(350, 100, 50), (280, 100, 20), (450, 40, 10)])
def test_false_alarms_and_width_with_unbalanced_labels(counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(counts)
    gold = rows_of(rng, *counts)
    estimates, variances, alarms, total = [], [], 0, 300
    for _ in range(total):
        hard = difficulty(rng, len(gold))
        arms, grouped = variances_of_arms(
            [arm(rng, gold, hard + rng.normal(0, 0.5, hard.shape)) for _ in range(2)], None, gold
        )
        parts = variance_of_mean(arms, grouped)
        alarms += abs(parts.mean) > half_width(parts, 0.05)
        estimates.append(parts.mean)
        variances.append(parts.rows + sum(parts.seeds) - sum(parts.residue))
    assert alarms <= 26  # 300 draws at a true 5% exceed 26 once in 500
    # Neither too narrow nor too wide: the SD of 300 estimates is known to 4%.
    assert np.mean(variances) ** 0.5 == pytest.approx(np.std(estimates), rel=0.13)


def test_wrong_labels_are_refused() -> None:
    table = np.ones((6, 2))
    with pytest.raises(ValueError, match="5 labels for 6 rows"):
        crossed_random_effects(table, labels=list("aabbb"))
    with pytest.raises(ValueError, match="the label 'rare'"):
        crossed_random_effects(table, labels=["a", "a", "a", "b", "b", "rare"])
    with pytest.raises(ValueError, match="label 'b'"):
        crossed_random_effects(table, [0, 1, 2, 3, 3, 3], labels=list("aaabbb"))
