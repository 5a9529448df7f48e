"""When a reader should doubt a comparison: seeds unlike those that a t-test takes for granted.

    unlike_seeds   are one arm's seeds far more spread than the other's, or is a seed far below?
    exaggeration   how much too large significant differences of this size are on average

All accuracies and differences are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

FEW_SEEDS = 5
"""Below this number of seeds the warnings are given sooner: so little shows in so few."""

_LEVELS = {True: (0.16, 0.07), False: (0.075, 0.03)}
"""Few seeds or not -> levels of the test of the spreads and of the test of the lowest seed.

Simulated with two arms (`tests/evaluation/test_caveats.py`): with seeds that are alike, one of the
two warnings is given in 17 to 18% of runs with three seeds and in 8 to 9% with five or ten; with a
seed that fell by 20 points or more, in 96 to 100%.
"""

_TINY = 1e-9
"""Differences of accuracies below this are rounding."""


@dataclass(frozen=True, slots=True)
class UnlikeSeeds:
    """Why a t-test of two arms may not hold.

    kind:  `collapsed`: a seed lies far below the others; `spread`: one arm's seeds differ far more
    arm:   0 or 1: the arm with that seed, or with the seeds that differ more
    place: of the seed that collapsed, among that arm's seeds; None for `spread`
    ratio: SD of the accuracies of that arm's seeds, divided by the other arm's; infinite where the
           other arm's are equal
    """

    kind: Literal["collapsed", "spread"]
    arm: int
    place: int | None
    ratio: float


def unlike_seeds(
    first: Sequence[float], second: Sequence[float], comparisons: int = 1
) -> UnlikeSeeds | None:
    """Whether the seeds of two arms are so unlike that their comparison is in doubt.

    first, second: accuracy of each seed
    comparisons:   that are looked at together; the levels are divided by it

    A seed has collapsed where it lies further below its arm's other seeds than chance allows: a
    one-sided t-test of the lowest seed, with the spread of all other seeds of both arms. Otherwise
    the arms' variances are compared by an F-test. None with fewer than three seeds in an arm, which
    show neither.
    """
    # Rounded, because the mean of equal floats may differ from them in the last digit.
    arms = [np.round(np.asarray(each, dtype=np.float64), 9) for each in (first, second)]
    if min(len(each) for each in arms) < 3:
        return None
    spread_level, lowest_level = _LEVELS[min(len(each) for each in arms) < FEW_SEEDS]
    spreads = [round(float(each.std(ddof=1)), 9) for each in arms]
    wide = int(spreads[1] > spreads[0])
    ratios = [_ratio(spreads[0], spreads[1]), _ratio(spreads[1], spreads[0])]
    lowest = [_lowest(arms[i], arms[1 - i]) for i in (0, 1)]
    arm = int(lowest[1] < lowest[0])
    if lowest[arm] * sum(map(len, arms)) < lowest_level / comparisons:
        return UnlikeSeeds("collapsed", arm, int(arms[arm].argmin()), ratios[arm])
    if _same_spread(spreads[wide], spreads[1 - wide], len(arms[wide]), len(arms[1 - wide])) < (
        spread_level / comparisons
    ):
        return UnlikeSeeds("spread", wide, None, ratios[wide])
    return None


def _ratio(one: float, other: float) -> float:
    return math.inf if other == 0 else one / other


def _lowest(arm: np.ndarray, other: np.ndarray) -> float:
    """One-sided p-value that the arm's lowest seed belongs to its others; 1 if nothing shows it."""
    from scipy.special import stdtr

    rest = np.delete(arm, arm.argmin())
    squares = float(((rest - rest.mean()) ** 2).sum() + ((other - other.mean()) ** 2).sum())
    freedom = len(rest) - 1 + len(other) - 1
    gap = float(rest.mean() - arm.min())
    if gap < _TINY:
        return 1.0
    if squares < _TINY**2:
        return 0.0
    error = math.sqrt(squares / freedom * (1 + 1 / len(rest)))
    return float(stdtr(freedom, -gap / error))


def _same_spread(wide: float, narrow: float, wide_seeds: int, narrow_seeds: int) -> float:
    """Two-sided p-value of the F-test that two arms' seeds have one variance."""
    from scipy.special import fdtrc

    if wide == narrow:
        return 1.0
    if narrow == 0:
        return 0.0
    return float(min(1.0, 2 * fdtrc(wide_seeds - 1, narrow_seeds - 1, (wide / narrow) ** 2)))


def exaggeration(difference: float, standard_error: float, critical: float) -> float:
    """How many times the true difference an estimate is on average, where it is significant.

    difference:     taken to be the true one
    standard_error: of its estimate
    critical:       estimates further from zero than this many standard errors are significant

    E[|estimate| given that it is significant] / |difference|, for a normal estimate: the
    "type M error" of Gelman and Carlin (2014). At least 1; near 1 where the power is high.
    """
    if difference == 0 or standard_error <= 0:
        raise ValueError(f"got {difference} ± {standard_error}, expected a difference and an error")
    true = abs(difference) / standard_error
    density, power = [], []
    for sign in (1.0, -1.0):
        at = critical - sign * true
        density.append(math.exp(-at * at / 2) / math.sqrt(2 * math.pi))
        power.append(math.erfc(at / math.sqrt(2)) / 2)
    mean = sum(density) + true * (power[0] - power[1])
    return max(1.0, mean / sum(power) / true)
