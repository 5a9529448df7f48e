"""When a reader should doubt a comparison: seeds unlike those that a t-test takes for granted.

    unlike_seeds   are some arms' seeds far more spread than the others', or is a seed far below?
    exaggeration   how much too large significant differences of this size are on average

All accuracies and differences are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEW_SEEDS = 5
"""Below this number of seeds the warnings are given sooner: so little shows in so few."""

_LEVELS = {True: (0.15, 0.03), False: (0.05, 0.03)}
"""Few seeds or not -> levels of the test of the treatment arms together, and of all arms singly.

Simulated with whole experiments (`benchmarks/evidence.py`): with seeds that are alike a warning is
given in 14 to 18% of experiments with three seeds, and in 5 to 9% with five or ten.
"""

_COLLAPSED = 0.05
"""Level at which the lowest seed of an arm that is far more spread is said to have collapsed."""

_TINY = 1e-9
"""Differences of accuracies below this are rounding."""


@dataclass(frozen=True, slots=True)
class UnlikeSeeds:
    """Why the t-tests of an experiment may not hold.

    kind:  `collapsed`: a seed lies far below its arm's others; `spread`: the seeds of `arms` differ
           far more, or far less, than those of the other arms
    place: of the seed that collapsed, among its arm's seeds; None for `spread`
    ratio: SD of the accuracies of these arms' seeds, divided by the other arms'; infinite where the
           others' are equal
    """

    kind: Literal["collapsed", "spread"]
    arms: tuple[str, ...]
    place: int | None
    ratio: float


def unlike_seeds(
    accuracies: Mapping[str, Sequence[float]], treatments: Collection[str]
) -> tuple[UnlikeSeeds, ...]:
    """What makes the seeds of an experiment's arms so unlike that its t-tests are in doubt.

    accuracies: of each seed, by arm; arms with fewer than three seeds show nothing and are left out
    treatments: the treatment arms, whose seeds may be more spread together

    Variances are compared by F-tests, after the arcsine transformation sin⁻¹√accuracy, which makes
    the variance independent of the accuracy. First each arm with all others pooled: the arm that
    differs most is set aside, and the rest is tested again. If none differs, all treatment arms are
    compared with all other arms: what they have in common shows in few seeds, too.
    """
    # Rounded, because the mean of equal floats may differ from them in the last digit.
    arms: dict[str, Floats] = {
        arm: np.asarray(np.round(np.asarray(values), 9), dtype=np.float64)
        for arm, values in accuracies.items()
        if len(values) >= 3
    }
    if len(arms) < 2:
        return ()
    together, apart = _LEVELS[min(map(len, arms.values())) < FEW_SEEDS]
    # Of two arms, each test compares the one with the other: there is only one test.
    level = together + apart if len(arms) == 2 else apart / len(arms)
    found = []
    plain = {arm: _squares([values]) for arm, values in arms.items()}
    steady = {arm: _squares([_steady(values)]) for arm, values in arms.items()}
    left = list(arms)
    while len(left) > 1:
        p_values = {arm: _same_spread(steady, {arm}, left) for arm in left}
        # Of two arms that differ, the one with the larger spread is named.
        arm = min(left, key=lambda name: (round(p_values[name], 9), -_spread(plain, [name])))
        if p_values[arm] >= level:
            break
        left.remove(arm)
        ratio = _ratio(_spread(plain, [arm]), _spread(plain, left))
        found.append(_described(arm, arms[arm], [arms[name] for name in left], ratio))
    group = [arm for arm in arms if arm in treatments]
    others = [arm for arm in arms if arm not in treatments]
    if not found and group and others and _same_spread(steady, group, arms) < together:
        ratio = _ratio(_spread(plain, group), _spread(plain, others))
        found.append(UnlikeSeeds("spread", tuple(group), None, ratio))
    return tuple(found)


def _described(arm: str, values: Floats, others: Sequence[Floats], ratio: float) -> UnlikeSeeds:
    """The arm that differs, as one with a collapsed seed where that explains it.

    ratio: of its spread to that of the others
    """
    if ratio > 1 and _lowest(values, others) * len(values) < _COLLAPSED:
        return UnlikeSeeds("collapsed", (arm,), int(values.argmin()), ratio)
    return UnlikeSeeds("spread", (arm,), None, ratio)


def _ratio(one: float, other: float) -> float:
    return math.inf if other == 0 else one / other


def _steady(values: Floats) -> Floats:
    """The arcsine transformation of accuracies."""
    return np.asarray(np.arcsin(np.sqrt(np.clip(values, 0.0, 1.0))))


Squares = tuple[float, int]
"""A sum of squared deviations, and its degrees of freedom."""


def _squares(arms: Iterable[Floats]) -> Squares:
    """Sum of the squared deviations from each arm's mean, and their degrees of freedom."""
    total, freedom = 0.0, 0
    for values in arms:
        squares = float(((values - values.mean()) ** 2).sum())
        total += squares if squares > len(values) * _TINY**2 else 0.0
        freedom += len(values) - 1
    return total, freedom


def _added(squares: Mapping[str, Squares], names: Iterable[str]) -> Squares:
    """The sums over these arms."""
    chosen = [squares[name] for name in names]
    return sum(total for total, _ in chosen), sum(freedom for _, freedom in chosen)


def _spread(squares: Mapping[str, Squares], names: Iterable[str]) -> float:
    """The pooled SD of the accuracies of these arms' seeds."""
    total, freedom = _added(squares, names)
    return math.sqrt(total / freedom)


def _lowest(values: Floats, others: Sequence[Floats]) -> float:
    """One-sided p-value that an arm's lowest seed belongs to its others, with the spread of all
    other seeds; 1 if nothing shows it."""
    from scipy.special import stdtr

    steady = _steady(values)
    lowest = int(steady.argmin())
    rest = np.delete(steady, lowest)
    squares, freedom = _squares([rest, *map(_steady, others)])
    gap = float(rest.mean() - steady[lowest])
    if gap < _TINY:
        return 1.0
    if squares == 0:
        return 0.0
    error = math.sqrt(squares / freedom * (1 + 1 / len(rest)))
    return float(stdtr(freedom, -gap / error))


def _same_spread(
    steady: Mapping[str, Squares], names: Collection[str], arms: Iterable[str]
) -> float:
    """Two-sided p-value of the F-test that the seeds of the arms `names` have the variance of those
    of all other `arms`."""
    from scipy.special import fdtrc

    squares, freedom = _added(steady, names)
    others, of_others = _added(steady, (arm for arm in arms if arm not in names))
    if squares == others == 0:
        return 1.0
    if squares == 0 or others == 0:
        return 0.0
    ratio = squares / freedom * of_others / others
    if ratio < 1:
        ratio, freedom, of_others = 1 / ratio, of_others, freedom
    return float(min(1.0, 2 * fdtrc(freedom, of_others, ratio)))


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
