"""The best of several: how far a maximum lies above what each is worth, where none is better.

A published "best of nine" is a maximum over noise. What it would have been if all nine were
equally good is an expectation that can be computed, and compared with it.
"""

from __future__ import annotations

import math

import numpy as np

from tutelage.evaluation.crossed import Table, mean_squares
from tutelage.evaluation.numeric import Groups


def expected_normal_maximum(k: int) -> float:
    """Mean of the largest of k independent standard normal values: 0.56 for 2, 0.85, …, 1.49 for 9.

    ∫ x k φ(x) Φ(x)^(k-1) dx by the trapezoid rule on [-9, 12], exact to ten digits up to k of some
    millions. Tabled by Tippett (1925).
    """
    if k < 1:
        raise ValueError(f"got {k} configurations, expected at least one")
    from scipy.special import log_ndtr

    x = np.linspace(-9.0, 12.0, 4001)
    density = np.exp(math.log(k) + (k - 1) * log_ndtr(x) - x * x / 2) / math.sqrt(2 * math.pi)
    return float((x * density).sum() * (x[1] - x[0]))


def expected_maximum(k: int, spread: float) -> float:
    """How far the best of k equally good configurations lies above their common worth, on average.

    spread · E[max of k normals], spread the standard deviation of their accuracies about their mean
    (`spread_of_models`), a fraction: what they share through the same test rows is not in it.
    """
    if spread < 0:
        raise ValueError(f"got the spread {spread}, expected one of at least 0")
    return spread * expected_normal_maximum(k)


def spread_of_models(correct: Table, groups: Groups | None = None) -> float | None:
    """Standard deviation of the accuracies of equally good models about their mean, on these rows.

    correct: rows × seeds of one arm, 1 where right. With C and E the mean squares of seeds and
    residue over G rows (or groups), and S seeds,

        sqrt(max(C, E) / G)

    C / G is the variance of the seeds' accuracies. E / G is what the noise of single answers alone
    makes it, half the models' disagreement over the rows, and is known far better than C where
    seeds are few. What the models share is not in it.
    None for one seed.
    """
    squares = mean_squares(correct, groups)
    if squares.columns == 1:
        return None
    return math.sqrt(max(squares.seeds, squares.error) / squares.units)
