"""The best of several: how far a maximum lies above what each is worth, where none is better.

A published "best of nine" is a maximum over noise. What it would have been if all nine were
equally good is an expectation that can be computed, and read beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.evaluation.crossed import Table, mean_squares
from tutelage.evaluation.numeric import Floats, Groups

_DRAWS = 50_000


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


def expected_maximum(k: int, standard_error: float, correlation: float = 0.0) -> float:
    """How far the best of k equally good configurations lies above their common worth, on average.

    standard_error: of each one's accuracy; correlation: of two of them, through shared test rows.
    With one common correlation r the accuracies are c + sqrt(r) W + sqrt(1 - r) Z_j in units of the
    standard error, and the shared part W moves all alike: SE sqrt(1 - r) E[max Z] (Owen and Steck
    1962).
    """
    if standard_error < 0 or not 0 <= correlation <= 1:
        raise ValueError(
            f"got standard error {standard_error} and correlation {correlation}, expected one of "
            "at least 0 and one between 0 and 1"
        )
    return standard_error * math.sqrt(1 - correlation) * expected_normal_maximum(k)


def expected_best_of(
    k: int, rows: int, disagreement: float, seed_sd: float = 0.0, design_effect: float = 1.0
) -> float:
    """`expected_maximum` from what one knows of a test set: how much models on it disagree.

    disagreement:  share of rows that one of two configurations gets right alone
    seed_sd:       of accuracy over seeds, a fraction, each configuration having its own seed
    design_effect: of clustered rows (`power.expected_mean_squares`); 1 for independent ones

    The difference of two accuracies has variance D deff / n + 2 seed_sd², and, of k exchangeable
    ones, each one's own part SE² (1 - r) is half of it.
    """
    if rows < 1 or not 0 <= disagreement <= 1:
        raise ValueError(
            f"got {rows} rows and disagreement {disagreement}, expected at least one row and a "
            "share between 0 and 1"
        )
    own = disagreement * design_effect / (2 * rows) + seed_sd**2
    return expected_maximum(k, math.sqrt(own))


def spread_of_models(correct: Table, groups: Groups | None = None) -> float | None:
    """Standard deviation of the accuracies of equally good models about their mean, on these rows.

    correct: rows × seeds of one arm, 1 where right. With C and E the mean squares of seeds and
    residue over G rows (or groups), and S seeds,

        sqrt(max(C, E) / G)

    C / G is the variance of the seeds' accuracies. E / G is what the noise of single answers alone
    makes it, half the models' disagreement over the rows, and is known far better than C where
    seeds are few. For `expected_maximum` with no correlation: what the models share is not in it.
    None for one seed.
    """
    squares = mean_squares(correct, groups)
    if squares.columns == 1:
        return None
    return math.sqrt(max(squares.seeds, squares.error) / squares.units)


def expected_maximum_of_covariance(covariance: NDArray[Any], seed: int = 0) -> tuple[float, float]:
    """Mean of the maximum of normal values of mean zero and any covariance (k × k), and its error.

    For configurations whose standard errors or correlations differ: by 50,000 antithetic pairs of
    draws from `seed`; the second number is the Monte-Carlo standard error. Raises ValueError for
    a matrix that is not symmetric and positive semi-definite.
    """
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"got a covariance of shape {matrix.shape}, expected k × k")
    scale = max(float(np.abs(matrix).max()), 1e-300)
    values, vectors = np.linalg.eigh(matrix)
    if np.abs(matrix - matrix.T).max() > 1e-9 * scale or values.min() < -1e-9 * scale:
        raise ValueError("got a matrix that is no covariance: not symmetric, or not semi-definite")
    root = vectors * np.sqrt(np.maximum(values, 0))
    draws = np.random.default_rng(seed).standard_normal((_DRAWS, len(matrix))) @ root.T
    maxima = (draws.max(axis=1) - draws.min(axis=1)) / 2
    return float(maxima.mean()), float(maxima.std(ddof=1)) / math.sqrt(_DRAWS)


def covariance_of_accuracies(correct: NDArray[Any], groups: NDArray[Any] | None = None) -> Floats:
    """Covariance of k models' accuracies through the rows they share (`correct`: rows × k).

    groups: each row's group as a number from 0; rows of one group are one unit. Sums of squares
    and products of group totals about their means: G / (G - 1) Σ_g t_g t_gᵀ / n².
    """
    table = np.asarray(correct, dtype=np.float64)
    centred = table - table.mean(axis=0)
    if groups is not None:
        count = int(groups.max()) + 1
        centred = np.stack([np.bincount(groups, column, count) for column in centred.T], axis=1)
    units = len(centred)
    if units < 2:
        raise ValueError("got one unit, expected at least two to see how they vary")
    covariance: Floats = units / (units - 1) * centred.T @ centred / len(table) ** 2
    return covariance
