"""The ratio of two means over rows × seeds: accuracy among predictions that meet a condition."""

from __future__ import annotations

import numpy as np

from tutelage.evaluation.crossed import CrossedResult, crossed_random_effects
from tutelage.evaluation.numeric import Groups, group_index
from tutelage.evaluation.variance import Table


def ratio_of_means(
    numerator: Table,
    denominator: Table,
    groups: Groups | None = None,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> CrossedResult:
    """Σ numerator / Σ denominator over a rows × seeds table, and its interval.

    The interval is that of `crossed_random_effects` for the ratio's linear part,
    q + (numerator - q denominator) / mean(denominator) with q the ratio (Taylor linearisation, as
    for the ratio estimator in surveys: Cochran 1977, chapter 6). Rows whose denominator is zero for
    every seed stay in the table, since the number of rows that meet the condition is random too.

    Where all rows that count are equal (all correct, for example), the interval is the exact one
    over the units with a part in the denominator.

    Raises ValueError where the denominator is zero everywhere, or negative anywhere.
    """
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, np.float64)
    if (bottom < 0).any() or not bottom.sum() > 0:
        raise ValueError(
            "got a denominator of zero, expected values of at least 0 and a sum above 0"
        )
    ratio = float(top.sum() / bottom.sum())
    residue = top - ratio * bottom
    if np.abs(residue).max() > 1e-12:
        return crossed_random_effects(ratio + residue / bottom.mean(), groups, confidence, bounds)
    counted = bottom.sum(axis=1) > 0
    keys = None if groups is None else group_index(groups)[counted]
    alike = np.full((int(counted.sum()), bottom.shape[1]), ratio)
    return crossed_random_effects(alike, keys, confidence, bounds)
