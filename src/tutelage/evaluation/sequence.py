"""Plans looks at the results beforehand, for runs that add seeds until the result is clear.

    looks      the numbers of seeds after which the results are looked at
    level_at   the level of the test at one of these looks
    overall_p  a look's p-value as one of the whole plan, for Holm's correction

Adding seeds until something is significant, each time at 5%, gives 11 to 13% false alarms. A plan
spends the 5% over its looks instead (Lan and DeMets 1983, Biometrika 70): after a share t of the
seeds, it has spent the share t of alpha.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from tutelage.evaluation.numeric import Floats, solve

_POINTS = 121
"""Nodes of the quadrature over the results that let a plan go on; the levels are exact to 1e-6."""


def looks(start: int, step: int, at_most: int) -> tuple[int, ...]:
    """The numbers of seeds of each arm at which the results are looked at: 5, 10, 15, 20.

    start, step: the first number of seeds, and how many are added after each look
    at_most:     the last number, which is looked at even if the steps do not reach it exactly

    Raises ValueError for fewer than two seeds at the start, a step below 1, or an end before it.
    """
    if start < 2 or step < 1 or at_most < start:
        raise ValueError(
            f"got start {start}, step {step} and at most {at_most}, expected a start of at least "
            "2, a step of at least 1 and an end that is not before the start"
        )
    numbers = list(range(start, at_most + 1, step))
    return tuple(numbers if numbers[-1] == at_most else [*numbers, at_most])


def level_at(look: int, looks: Sequence[int], alpha: float = 0.05) -> float:
    """The level of the primary test at one look of a plan, so that all looks together have `alpha`.

    look:  number of seeds, one of `looks`
    looks: all looks of the plan, in rising order

    The test at a look is significant where its p-value is at most this level and no earlier look
    was significant. With t_k the share of the last look's seeds that look k has, the levels make
    the probability of a first false alarm at look k equal to alpha (t_k - t_(k-1)), by numerical
    integration over the results that let the plan go on (Armitage, McPherson and Rowe 1969), for
    normal seeds that are all there is to the noise. That is the worst case: the test rows, which
    all looks share, make them agree, and the whole plan's rate is then lower. That the test at a
    look estimates the seeds' variance enters through its p-value (the significance-level approach:
    Jennison and Turnbull 2000, chapter 4.4).

    Raises ValueError for a look that is not in the plan, or an alpha that is not between 0 and 1.
    """
    if look not in looks:
        raise ValueError(f"got a look at {look} seeds, expected one of {list(looks)}")
    if not 0 < alpha < 1:
        raise ValueError(f"got alpha {alpha}, expected a number between 0 and 1")
    return _levels(tuple(looks), alpha)[list(looks).index(look)]


def overall_p(p_value: float, look: int, looks: Sequence[int]) -> float:
    """The smallest alpha at which a plan would find this p-value significant at this look.

    It is as rare under the null hypothesis, over all looks of the plan, as a p-value should be: so
    Holm's correction applies to it as to the p-value of an experiment without looks. 1 at most.
    """
    if p_value <= 0 or len(looks) == 1:
        return p_value
    if level_at(look, looks, 1 - 1e-9) <= p_value:
        return 1.0
    return math.exp(
        solve(
            lambda x: level_at(look, looks, math.exp(x)) - p_value, math.log(p_value), -1e-9, 1e-9
        )
    )


@functools.lru_cache(maxsize=256)
def _levels(looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    from scipy.special import ndtr, ndtri

    times = np.array(looks) / looks[-1]
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    levels = []
    # The sum of the seeds' differences at time t is normal with variance t; it has crossed no
    # bound yet at the points `at`, which have the masses `mass`.
    at: Floats = np.zeros(1)
    mass: Floats = np.ones(1)
    before = 0.0
    for time in times:
        spread = math.sqrt(time - before)
        left = functools.partial(_left_of, alpha * (time - before), at, mass, spread)
        # The bound lies between zero and that of a single look at the level that is spent here.
        highest = 0.01 - float(ndtri(alpha * (time - before) / 2)) * math.sqrt(time)
        bound = solve(left, 0.0, highest, 1e-12)
        levels.append(float(2 * ndtr(-bound / math.sqrt(time))))
        points = bound * nodes
        density = np.exp(-(((points[:, None] - at) / spread) ** 2) / 2) @ mass
        mass = bound * weights * density / (spread * math.sqrt(2 * math.pi))
        at, before = points, float(time)
    return tuple(levels)


def _left_of(spent: float, at: Floats, mass: Floats, spread: float, bound: float) -> float:
    """What is left of `spent` after the probability of crossing a bound on either side."""
    from scipy.special import ndtr

    beyond = ndtr((at - bound) / spread) + ndtr((-at - bound) / spread)
    return spent - float(mass @ beyond)
