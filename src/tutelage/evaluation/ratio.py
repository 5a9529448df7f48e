"""A ratio of two means over rows × seeds: accuracy among answers that meet a condition."""

from __future__ import annotations

import numpy as np

from tutelage.evaluation.crossed import CrossedResult, Table, crossed_random_effects
from tutelage.evaluation.numeric import Groups, group_index


def ratio_of_means(
    numerator: Table,
    denominator: Table,
    groups: Groups | None = None,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> CrossedResult:
    """Σ numerator / Σ denominator over a rows × seeds table, and its interval.

    The interval is that of the mean of the ratio's linear part, q + (numerator - q denominator) /
    mean(denominator) with q the ratio, in `crossed_random_effects` (Taylor linearisation, as for
    the ratio estimator in surveys: Cochran 1977, chapter 6). Rows whose denominator is zero for
    every seed stay in the table: how many rows a condition holds for is itself by chance.

    Where all that count are alike (all right, say) the interval is the exact one over the units
    that have any part in the denominator.

    Raises ValueError where the denominator is zero throughout, or anywhere negative.
    """
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, np.float64)
    if (bottom < 0).any() or not bottom.sum() > 0:
        raise ValueError("got a denominator without anything in it, expected some above zero")
    ratio = float(top.sum() / bottom.sum())
    residue = top - ratio * bottom
    if np.abs(residue).max() > 1e-12:
        return crossed_random_effects(ratio + residue / bottom.mean(), groups, confidence, bounds)
    counted = bottom.sum(axis=1) > 0
    keys = None if groups is None else group_index(groups)[counted]
    alike = np.full((int(counted.sum()), bottom.shape[1]), ratio)
    return crossed_random_effects(alike, keys, confidence, bounds)
