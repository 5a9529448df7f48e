"""Quantiles and a root finder, without the 0.8 s that `scipy.stats` takes to load."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def t_upper(tail: float, df: float) -> float:
    """The value that Student's t exceeds with chance `tail` (from the lower tail, which is exact).

    Infinite for a tail of zero.
    """
    from scipy.special import stdtrit

    return -float(stdtrit(df, tail))


def solve(
    function: Callable[[float], float], low: float, high: float, relative: float = 1e-10
) -> float:
    """Where a function that changes sign once does so, by bisection; an end where it does not.

    relative: width of the last bracket as a share of its upper end.
    """
    rising = function(high) > 0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high) or high - low <= relative * abs(high):
            break
        if (function(middle) > 0) == rising:
            high = middle
        else:
            low = middle
    return high


Groups = Sequence[Hashable] | NDArray[Any]
"""One key for each row, in the order of the rows; rows that share a key are one unit."""


def group_index(groups: Groups) -> Ints:
    """Each row's group as a number, counted from 0."""
    if isinstance(groups, np.ndarray):
        numbered: Ints = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        return numbered
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in groups], dtype=np.int64)


def shared_groups(groups: Groups, rows: int) -> Ints | None:
    """Each row's group as a number; None where each row is a group of its own.

    ValueError for other than one key a row.
    """
    if len(groups) != rows:
        raise ValueError(f"got {len(groups)} group keys for {rows} rows, expected one a row")
    index = group_index(groups)
    return None if rows and int(index.max()) + 1 == rows else index
