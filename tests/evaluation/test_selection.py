"""Expected maxima against published values, scipy's quadrature and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from tutelage.evaluation.selection import (
    expected_maximum,
    expected_normal_maximum,
    spread_of_models,
)


@pytest.mark.parametrize(
    ("k", "tabled"),
    [(1, 0.0), (2, 0.56419), (3, 0.84628), (5, 1.16296), (9, 1.48501), (10, 1.53875)],
)
def test_of_normal_values_it_is_the_tabled_one(k: int, tabled: float) -> None:
    assert expected_normal_maximum(k) == pytest.approx(tabled, abs=6e-6)


def test_two_and_three_have_closed_forms_and_many_are_that_of_scipy() -> None:
    assert expected_normal_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), rel=1e-9)
    assert expected_normal_maximum(3) == pytest.approx(1.5 / math.sqrt(math.pi), rel=1e-9)
    for k in (27, 1000):
        value, _ = integrate.quad(
            lambda x, k=k: x * k * stats.norm.pdf(x) * stats.norm.cdf(x) ** (k - 1), -9, 12
        )
        assert expected_normal_maximum(k) == pytest.approx(value, rel=1e-6)
    with pytest.raises(ValueError, match="at least one"):
        expected_normal_maximum(0)


def test_it_grows_with_the_spread() -> None:
    assert expected_maximum(9, 0.016) == pytest.approx(0.016 * 1.48501, rel=1e-5)
    assert expected_maximum(9, 0.0) == 0
    with pytest.raises(ValueError, match="spread"):
        expected_maximum(2, -0.5)


def test_the_best_of_nine_models_that_are_equally_good() -> None:
    """Nine models, right in 41% of 1,000 rows, that differ from each other in a fifth of them."""
    rng = np.random.default_rng(0)
    best, predicted = [], []
    for _ in range(400):
        easy = rng.random(1000) < 0.41
        # Chances to turn a row over that keep the share of right answers: 41 * .118 = 59 * .082
        turned = rng.random((1000, 9)) < np.where(easy, 0.118, 0.082)[:, None]
        right = easy[:, None] ^ turned
        accuracy = right.mean(axis=0)
        best.append(accuracy.max() - accuracy.mean())
        predicted.append(expected_maximum(9, spread_of_models(right.astype(float)) or 0.0))
    # The larger of two mean squares is a little above either: so is the prediction.
    assert np.mean(best) < np.mean(predicted) < 1.2 * np.mean(best)


def test_how_far_equally_good_models_lie_apart() -> None:
    # Seeds of 3 / 4 and 1 / 4 right: C / G is the sample variance, 1 / 8, and above E / G.
    correct = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])
    assert spread_of_models(correct) == pytest.approx(math.sqrt(1 / 8))
    # Equal seeds that disagree in two rows of four: half the disagreement over the rows, with
    # G / (G - 1) for a mean that was estimated.
    equal = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    assert spread_of_models(equal) == pytest.approx(math.sqrt(0.5 / (2 * 4) * 4 / 3))
    # Rows that go together count as fewer.
    pairs = np.repeat(equal, 2, axis=0)
    assert spread_of_models(pairs, np.repeat(np.arange(4), 2)) == pytest.approx(
        spread_of_models(equal)
    )
    assert spread_of_models(np.ones((4, 2))) == 0
    assert spread_of_models(np.ones((4, 1))) is None
