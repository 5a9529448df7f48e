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
    """The point where a function changes sign; `low` where it does not.

    relative: width of the last bracket as a fraction of its farther end. Its upper end is returned

    By inverse quadratic interpolation where the last three points allow it, else by bisection
    (Chandrupatla 1997, Advances in Engineering Software 28). The function may be infinite or NaN
    at some points.
    """
    new, at_new = high, function(high)
    end, at_end = low, function(low)
    if (at_end > 0) == (at_new > 0):
        return low
    step = 0.5
    for _ in range(200):
        point = new + step * (end - new)
        at_point = function(point)
        # The root is between `new` and `end`; `third` is a point beyond one of them.
        if (at_point > 0) == (at_new > 0):
            third, at_third = new, at_new
        else:
            third, at_third, end, at_end = end, at_end, new, at_new
        new, at_new = point, at_point
        width, enough = abs(end - new), relative * max(abs(end), abs(new))
        if width <= enough or (new + end) / 2 in (new, end):
            break
        step = _interpolated(new, at_new, end, at_end, third, at_third)
        least = enough / (2 * width)
        step = min(max(step, least), 1 - least)
    return max(new, end)


def _interpolated(
    new: float, at_new: float, end: float, at_end: float, third: float, at_third: float
) -> float:
    """Where to look next, on the way from `new` (0) to `end` (1)."""
    if at_end in (at_new, at_third) or at_new == at_third:
        return 0.5
    place = (new - end) / (third - end)
    value = (at_new - at_end) / (at_third - at_end)
    # Elsewhere the parabola through the three points is not monotone between the two; NaN is never.
    if value**2 < place and (1 - value) ** 2 < 1 - place:
        return at_new / (at_end - at_new) * at_third / (at_end - at_third) + (third - new) / (
            end - new
        ) * at_new / (at_third - at_new) * at_end / (at_third - at_end)
    return 0.5


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
