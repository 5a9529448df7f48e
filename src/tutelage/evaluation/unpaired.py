"""The difference of two quantities that were estimated apart, from their own intervals."""

from __future__ import annotations

from math import hypot


def difference_interval(
    first: float,
    first_ci: tuple[float, float],
    second: float,
    second_ci: tuple[float, float],
) -> tuple[float, float]:
    """Interval of `first - second`, at the level of the two intervals it is made of.

    For estimates a in (la, ua) and b in (lb, ub) that are independent of each other:

        a - b - √((a - la)² + (ub - b)²)   to   a - b + √((ua - a)² + (b - lb)²)

    (MOVER: Zou and Donner 2008, Statistics in Medicine 27; with Wilson's intervals it is Newcombe's
    for two proportions, 1998, ibid. 17, method 10.) Two evaluations of the same rows are not
    independent: there it is too wide, and a paired comparison is to be had.

    ValueError where an estimate lies outside of its interval.
    """
    for value, (low, high) in ((first, first_ci), (second, second_ci)):
        if not low <= value <= high:
            raise ValueError(f"got {value} outside of its interval {low} to {high}")
    difference = first - second
    below = hypot(first - first_ci[0], second_ci[1] - second)
    above = hypot(first_ci[1] - first, second - second_ci[0])
    return difference - below, difference + above
