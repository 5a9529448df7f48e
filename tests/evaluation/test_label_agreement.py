"""A teacher's precision at shares that differ from the sample's, and the shares themselves."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.evaluation.label_agreement import (
    Counts,
    accuracy_interval,
    estimated_shares,
    label_counts,
    label_shares,
    precision,
)
from tutelage.evaluation.statistics import wilson_interval

LABELS = ("entailment", "neutral", "contradiction")
BALANCED: Counts = np.array([[900, 80, 20, 0], [100, 845, 55, 0], [0, 140, 860, 0]])
"""A thousand rows of each label; 86.8% of the answers are right."""


def test_answers_are_counted_by_label_and_those_without_one_apart() -> None:
    gold = ["entailment", "entailment", "neutral", "contradiction", "contradiction"]
    counts = label_counts(gold, ["entailment", "neutral", None, "contradiction", None], LABELS)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]]


def test_the_rarest_label_of_an_unbalanced_pool_is_right_far_less_often() -> None:
    assert BALANCED[:, :3].trace() / BALANCED.sum() == pytest.approx(0.868, abs=0.001)
    balanced = precision(BALANCED, (1 / 3, 1 / 3, 1 / 3))
    assert [round(each or 0, 2) for each in balanced] == [0.9, 0.79, 0.92]
    # 20% entailment, 70% neutral, 10% contradiction: .086 right of .086 + .7 * .055 + .2 * .02.
    found = precision(BALANCED, (0.2, 0.7, 0.1))
    assert found[2] == pytest.approx(0.086 / (0.086 + 0.0385 + 0.004))
    assert round(found[2] or 0, 2) == 0.67


def test_where_precision_cannot_be_said() -> None:
    none = BALANCED.copy()
    none[2] = 0  # no row of the sample has the label: nobody knows how it is answered
    assert precision(none, (0.2, 0.7, 0.1)) == (None, None, None)
    assert precision(none, (0.3, 0.7, 0.0))[:2] == precision(BALANCED, (0.3, 0.7, 0.0))[:2]
    never: Counts = np.array([[10, 0, 0], [10, 0, 0]])
    assert precision(never, (0.5, 0.5)) == (0.5, None)


@pytest.mark.parametrize("shares", [(0.2, 0.7, 0.1), (0.1, 0.1, 0.8), (1 / 3, 1 / 3, 1 / 3)])
def test_shares_are_estimated_from_answers_with_mistakes(shares: tuple[float, ...]) -> None:
    given = BALANCED[:, :3] / 1000
    expected = np.asarray(shares) @ given * 100_000
    found = estimated_shares(BALANCED, dict(enumerate(expected.astype(int).tolist())))
    assert found == pytest.approx(shares, abs=0.005)
    plain = expected / expected.sum()
    if shares[2] == 0.1:  # the plain shares have far too many of the rarest label
        assert plain[2] > 0.12 > found[2]


def test_estimates_stay_shares_whatever_the_answers() -> None:
    for answered in ({0: 50}, {2: 1}, {0: 1, 1: 99, 2: 0}):
        found = estimated_shares(BALANCED, answered)
        assert sum(found) == pytest.approx(1) and min(found) >= 0
    unknown = BALANCED.copy()
    unknown[1] = 0
    assert estimated_shares(unknown, {0: 10, 1: 10})[1] == 0
    with pytest.raises(ValueError, match="0 answers"):
        estimated_shares(BALANCED, {})


def test_the_estimate_is_right_on_average_over_samples() -> None:
    """200 rows for the table and 400 answers: the mean of 200 estimates is near the truth."""
    rng, shares = np.random.default_rng(1), np.array([0.2, 0.7, 0.1])
    given = BALANCED[:, :3] / 1000
    estimates = []
    for _ in range(200):
        rows = rng.multinomial(200, [1 / 3] * 3)
        counts = np.array([rng.multinomial(n, p) for n, p in zip(rows, given, strict=True)])
        answers = rng.multinomial(400, shares @ given)
        table = np.hstack([counts, np.zeros((3, 1), int)])
        estimates.append(estimated_shares(table, dict(enumerate(answers.tolist()))))
    assert np.mean(estimates, axis=0) == pytest.approx(shares, abs=0.015)


def test_rows_of_one_group_are_not_independent() -> None:
    right = [True] * 40 + [False] * 10
    ci95, method = accuracy_interval(right, list(range(50)))
    assert ci95 == wilson_interval(40, 50) and "Wilson" in method
    wide, method = accuracy_interval(right, [place // 10 for place in range(50)])
    assert wide[1] - wide[0] > ci95[1] - ci95[0] and "5 groups" in method


def test_label_shares() -> None:
    assert label_shares(["neutral", "neutral", "entailment"], LABELS) == (1 / 3, 2 / 3, 0)
