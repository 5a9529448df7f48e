"""Quantiles, a root finder and group numbers, without the 0.8 s that `scipy.stats` takes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def t_upper(tail: Any, df: Any) -> Any:
    """The value that Student's t exceeds with probability `tail`; infinite for a tail of zero.

    tail, df: numbers, or arrays that broadcast; df need not be whole

    Computed from the lower tail, which is exact.
    """
    from scipy.special import stdtrit

    return -stdtrit(df, tail)


def solve(
    function: Callable[[float], float], low: float, high: float, relative: float = 1e-10
) -> float:
    """The point where a function changes sign, by bisection; an end point where it does not.

    relative: width of the last bracket as a fraction of its upper end
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
"""One key for each row, in the order of the rows; rows with the same key are one unit."""


def group_index(groups: Groups) -> Ints:
    """Each row's group as a number, counted from 0."""
    if isinstance(groups, np.ndarray):
        numbered: Ints = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        return numbered
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in groups], dtype=np.int64)


def shared_groups(groups: Groups, rows: int) -> Ints | None:
    """Each row's group as a number; None where no two rows share a group.

    Raises ValueError unless there is one key for each row.
    """
    if len(groups) != rows:
        raise ValueError(f"got {len(groups)} group keys for {rows} rows, expected one for each row")
    index = group_index(groups)
    return None if rows and int(index.max()) + 1 == rows else index


def effective_groups(index: Ints | None, rows: int) -> float:
    """n² / Σ m² over groups of m rows, n in all: as many equal groups weigh as much (Kish 1965).

    index: each row's group as a number from 0; None where each row is a group of its own
    """
    if index is None:
        return float(rows)
    sizes = np.bincount(index).astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum())
