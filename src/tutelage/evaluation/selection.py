"""Selection by chance: how far the best of several equally good models lies above their mean.

A published "best of nine" is a maximum over noise. What the maximum would be if all nine were
equally good is an expectation, which can be computed and compared with it.
"""

from __future__ import annotations

import math

import numpy as np

from tutelage.evaluation.numeric import Groups
from tutelage.evaluation.variance import Table, variance_estimates


def expected_normal_maximum(k: int) -> float:
    """Mean of the largest of k independent standard normal values: 0.56 for 2, 0.85, …, 1.49 for 9.

    ∫ x k φ(x) Φ(x)^(k-1) dx by the trapezoid rule on [-9, 12], exact to ten digits up to k of
    several millions. Tabulated by Tippett (1925).
    """
    if k < 1:
        raise ValueError(f"got {k} configurations, expected at least one")
    from scipy.special import log_ndtr

    x = np.linspace(-9.0, 12.0, 4001)
    density = np.exp(math.log(k) + (k - 1) * log_ndtr(x) - x * x / 2) / math.sqrt(2 * math.pi)
    return float((x * density).sum() * (x[1] - x[0]))


def expected_maximum(k: int, spread: float) -> float:
    """How far the best of k equally good configurations lies above their mean, on average.

    spread · E[max of k normals], where spread is the standard deviation of their accuracies around
    their mean (`spread_of_models`), a fraction. What they have in common through the same test rows
    is not part of it.
    """
    if spread < 0:
        raise ValueError(f"got a spread of {spread}, expected at least 0")
    return spread * expected_normal_maximum(k)


def spread_of_models(
    correct: Table, groups: Groups | None = None, labels: Groups | None = None
) -> float | None:
    """Standard deviation of the accuracies of equally good models around their mean, on these rows;
    None for one seed.

    correct: rows × seeds of one arm, 1 where correct
    labels:  as in `variance_estimates`

    With c and e the parts `seeds` and `residue` of `VarianceEstimates`, and S seeds,

        sqrt(S max(c, e))

    S c is the variance of the seeds' accuracies. S e is its part from the noise of single
    predictions, half of the models' disagreement over the rows, and is known far better than c
    where seeds are few. What the models have in common is not part of it.
    """
    parts = variance_estimates(correct, groups, labels=labels)
    if parts.one_seed:
        return None
    return math.sqrt(parts.columns[0] * max(parts.seeds[0], parts.residue[0]))
