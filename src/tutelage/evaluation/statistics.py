"""Textbook intervals and tests as pure functions, with formulas, degenerate cases and sources.

    wilson_interval   a proportion of independent rows
    mcnemar_exact     two fixed models on the same rows
    holm              p-values of a family

The primary test, over rows and seeds, is in `crossed`; its power is in `power`; quantities without
a formula are in `bootstrap`; the best of several is in `selection`. All p-values are two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's (1927) score interval of a proportion: the p with |p̂ - p| <= z sqrt(p (1 - p) / n).

    Centre (p̂ + z²/2n) / (1 + z²/n), half-width z sqrt(p̂(1-p̂)/n + z²/4n²) / (1 + z²/n). It stays
    inside [0, 1] and has a positive width at 0 and at n successes. Raises ValueError for n < 1.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"got {successes} of {n}, expected a count between 0 and n, n at least 1")
    from scipy.special import ndtri

    z = float(ndtri((1 + confidence) / 2))
    share, scale = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    low = 0.0 if successes == 0 else centre - half  # exactly, without rounding
    return low, 1.0 if successes == n else centre + half


def mcnemar_exact(b: int, c: int) -> float:
    """Exact McNemar test of two fixed models on the same rows.

    b rows are correct for the first only, c for the second only. Under the null hypothesis b is
    binomial (b + c, 1/2), and p = min(1, 2 P(X <= min(b, c))). Without discordant rows, p = 1. It
    does not generalise to other seeds: over retrainings it gives too many false alarms. Source:
    McNemar 1947.
    """
    if b < 0 or c < 0:
        raise ValueError(f"got counts {b} and {c}, expected counts of at least 0")
    from scipy.special import bdtr

    return float(min(1.0, 2 * bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given; they control the family-wise error.

    The k-th smallest of m is multiplied by m - k + 1, then raised to the one before it and capped
    at 1. An empty family gives an empty list.
    """
    if wrong := [p for p in p_values if not 0 <= p <= 1]:
        raise ValueError(f"got p-values {wrong}, expected each between 0 and 1")
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
