"""Learning rates between those that a recipe lists."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def filled_up(rates: Sequence[float], count: int) -> list[float]:
    """`rates`, filled up to `count` learning rates.

    Each added rate is the geometric mean of the two neighbours with the widest gap so far, the
    lowest of equally wide gaps. A single rate has no gap: half of it and twice it are added first.
    Added rates are rounded to four digits, which keeps the names of configurations short.
    """
    filled = list(rates)
    if len(rates) == 1:
        filled += [rates[0] / 2, rates[0] * 2]
    while len(filled) < count:
        logs = sorted(math.log(rate) for rate in filled)
        # Rounded, because floats make equal gaps differ in their last digits.
        low, high = max(itertools.pairwise(logs), key=lambda gap: round(gap[1] - gap[0], 9))
        filled.append(math.exp((low + high) / 2))
    return filled[: len(rates)] + [float(f"{rate:.4g}") for rate in filled[len(rates) : count]]
