"""Balanced accuracy in the tests: its mean, its variance within labels, and false alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri
from sklearn.metrics import balanced_accuracy_score

from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction
from tutelage.evaluation.bag_of_words import bag_of_words
from tutelage.evaluation.balanced import balanced_tables, label_of_one_unit
from tutelage.evaluation.compare import compare, compare_correctness
from tutelage.evaluation.crossed import crossed_random_effects, equivalence, half_width
from tutelage.evaluation.gold_equivalent import gold_equivalent
from tutelage.evaluation.label_agreement import accuracy_interval
from tutelage.evaluation.metrics import evaluate
from tutelage.evaluation.non_inferior import non_inferiority
from tutelage.evaluation.possibly_best import possibly_best
from tutelage.evaluation.power import Design, balanced_design, design_of, expected_variance
from tutelage.evaluation.selection import spread_of_models
from tutelage.evaluation.share import share_of_gain
from tutelage.evaluation.variance import (
    seeds_share,
    variance_estimates,
    variance_of_mean,
    variances_of_arms,
)

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


TASK = Task("three", ("text",), ("a", "b", "c"))


def predictions_of(gold: str, *seeds: str) -> dict[int, list[Prediction]]:
    """Rows with the gold labels of `gold`, one letter each, and each seed's predicted letters."""
    return {
        number: [
            Prediction(f"row {i}", p, {}, g) for i, (p, g) in enumerate(zip(of, gold, strict=True))
        ]
        for number, of in enumerate(seeds)
    }


def test_an_arms_scores_by_hand() -> None:
    found = evaluate(predictions_of("aaaabbcc", "aaaabcaa", "aabbbbcc"), TASK, balanced=True)
    # Recalls 1, 1/2 and 0; and 1/2, 1 and 1.
    assert found.accuracy_by_seed == pytest.approx((1 / 2, 5 / 6))
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.ci95[0] < 2 / 3 < found.ci95[1] and found.ci_method.endswith("within labels")
    # The table of labels is about rows, as always.
    assert found.per_label["a"].recall == pytest.approx(6 / 8)
    plain = evaluate(predictions_of("aaaabbcc", "aaaabcaa"), TASK)
    assert plain.accuracy == pytest.approx(5 / 8) and "Wilson" in plain.ci_method


def test_a_label_of_one_unit_leaves_no_interval() -> None:
    found = evaluate(predictions_of("aaabbc", "aaabbc", "aaabba"), TASK, balanced=True)
    assert found.ci95 == (0, 1) and "all rows of the label c are one" in found.ci_method
    assert found.accuracy == pytest.approx((1 + 2 / 3) / 2)
    groups = {f"row {i}": str(i // 2) for i in range(6)}
    pairs = evaluate(predictions_of("aaaabb", "aaaabb"), TASK, groups, balanced=True)
    assert pairs.ci95 == (0, 1) and "the label b" in pairs.ci_method
    assert label_of_one_unit("aabb") is None and label_of_one_unit("aab") == "b"
    assert label_of_one_unit("aabb", [0, 1, 2, 2]) == "b"
    right = [True, True, False, False, True]
    assert accuracy_interval(right, list("vwxyz"), list("aabbc"))[0] == (0, 1)
    low, high = accuracy_interval(right * 20, range(100), list("aabbb") * 20)[0]
    assert low < (1 + 1 / 3) / 2 < high < 1


def test_what_describes_seeds_takes_the_labels() -> None:
    rng = np.random.default_rng(7)
    gold = rows_of(rng, 120, 60, 20)
    table = arm(rng, gold, difficulty(rng, 200))
    parts = variance_estimates(table, labels=gold)
    share = max(parts.seeds[0] - parts.residue[0], 0)
    assert seeds_share(table, labels=gold) == pytest.approx(
        share / (max(parts.rows, parts.residue[0]) + share)
    )
    assert spread_of_models(table, labels=gold) == pytest.approx(
        (4 * max(parts.seeds[0], parts.residue[0])) ** 0.5
    )


def test_dev_chooses_a_bag_of_words_by_the_metric() -> None:
    def rows(*texts: tuple[str, str]) -> list[Example]:
        return [Example(f"{i}", {"text": text}, label) for i, (text, label) in enumerate(texts)]

    train = rows(*[("dull", "a")] * 30, *[("dull film", "a")] * 10, *[("film bright", "b")] * 3)
    dev = rows(*[("dull", "a")] * 8, *[("bright", "b")] * 2)
    plain = bag_of_words(train, dev, dev, TASK)
    found = bag_of_words(train, dev, dev, TASK, "balanced_accuracy")
    # Without the rare label all is right on 8 of 10 rows, and on one label of two.
    assert min(plain.dev_accuracy) == 0.8 and min(found.dev_accuracy) == 0.5
    assert max(plain.dev_accuracy) == max(found.dev_accuracy) == 1
    assert found.strength == plain.strength


@pytest.mark.parametrize("counts", [(300, 300), (480, 120), (560, 40)])
def test_the_variance_is_that_of_simulated_arms(counts: tuple[int, ...]) -> None:
    """Before a run: the parts of the variance that `plan` expects are those of simulated arms."""
    rng = np.random.default_rng(counts)
    gold, share, sd = rows_of(rng, *counts), 0.3, 0.01
    design = balanced_design(Design((1,) * 600, 4, share, sd), gold, range(600))
    if len(set(counts)) == 1:
        assert (design.inflation, design.unit_share) == pytest.approx((1, 599 / 600))
    else:
        assert design.inflation == pytest.approx(sum(600 / (4 * n) for n in counts))
        assert design.unit_share < 0.95
    expected, means, measured = expected_variance(design), [], []
    for _ in range(120):
        hard = 0.5 + (rng.random((600, 1)) < 0.5) * (rng.random((600, 1)) - 0.5)
        arms = [
            (rng.random((600, 4)) < np.clip(hard + rng.normal(0, sd, 4), 0, 1)).astype(float)
            for _ in range(2)
        ]
        parts = variance_estimates(arms[0], baseline=arms[1], labels=gold)
        means.append(parts.mean)
        measured.append(design_of(arms[0], arms[1], labels=gold))
        if len(measured) == 1:
            assert parts.effective_units == pytest.approx(expected.effective_units, rel=1e-3)
    # `design_of` is the inverse: what a run shows gives back the variance of its difference.
    predicted = [
        (p := expected_variance(each)).rows + sum(p.seeds) - sum(p.residue) for each in measured
    ]
    assert np.mean(predicted) ** 0.5 == pytest.approx(np.std(means), rel=0.2)
    assert np.mean([each.inflation for each in measured]) == pytest.approx(
        design.inflation, rel=0.1
    )
