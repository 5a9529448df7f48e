"""How many gold rows an arm is worth: the size at which training on gold rows alone does as well.

gold_equivalent   an arm's table and those of a gold curve -> the size, with its interval
gold_sizes        the same for many experiments at once
break_even_price  the price of a gold label at which the arm's use costs as much
closing_range     before a run: for which arms the interval is expected to close
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.evaluation.crossed import half_width
from tutelage.evaluation.numeric import Floats, Groups
from tutelage.evaluation.power import Design, detectable_difference, expected_variance
from tutelage.evaluation.variance import (
    ArmVariance,
    Table,
    VarianceEstimates,
    variance_of_contrasts,
    variances_of_arms,
)

LEAST_SIZES = 4
"""The smallest number of sizes of a gold curve."""

GAPS = (1.5, 4.0)
"""How many times the size before it each size of a gold curve is, at least and at most. Nearer
sizes say little more than one; over wider gaps no curve is known well enough in between."""

_POINTS = 64
"""Intervals of log N on which the ends are searched, by linear interpolation in between."""


@dataclass(frozen=True, slots=True)
class GoldEquivalent:
    """The number of gold rows that do as well as an arm, and what it adds to the arm's own.

    sizes:      of the gold curve, rising; nothing is said beyond the first and the last
    gold_rows:  how many of the arm's training rows are gold
    estimate:   the size at which the fitted curve reaches the arm's accuracy; None where that is
                not between the first and the last size
    low, high:  ends of the interval, in rows. None is an open end: the curve at its first size is
                not significantly below the arm (low), or at its last not above (high). The first or
                the last size stands for all beyond: an arm that is above the whole curve is worth
                `low` = the last size or more, one that is below all of it at most `high` = the
                first size
    confidence: of the interval
    """

    sizes: tuple[int, ...]
    gold_rows: int
    estimate: float | None
    low: float | None
    high: float | None
    confidence: float

    @property
    def closed(self) -> bool:
        """Whether the interval has two ends."""
        return self.low is not None and self.high is not None

    @property
    def unknown(self) -> bool:
        """Whether it has none: nothing can be said."""
        return self.low is None and self.high is None

    @property
    def worth(self) -> float | None:
        """`estimate` minus the arm's gold rows: what its other rows are worth in gold rows."""
        return self._beyond(self.estimate)

    @property
    def worth_interval(self) -> tuple[float | None, float | None]:
        """The interval's ends minus the arm's gold rows; None where they are open."""
        return self._beyond(self.low), self._beyond(self.high)

    def _beyond(self, size: float | None) -> float | None:
        return None if size is None else size - self.gold_rows


@dataclass(frozen=True, slots=True)
class BreakEven:
    """The price of a gold label at which people cost as much as the arm, for the same accuracy.

    Where a label costs more, the arm is the cheaper way.

    price:     the estimate, in the unit of the costs; None where the worth is unknown or not above
               zero
    low, high: interval. `low` is 0 where the arm may be worth any number of rows, and infinite
               where it is shown to be worth none; `high` is None where it may be worth none, so
               that people may be cheaper at any price
    """

    price: float | None
    low: float
    high: float | None


@dataclass(frozen=True, slots=True)
class ClosingRange:
    """For which arms a gold curve's interval is expected to close.

    distance: how far an arm's true accuracy has to be from the curve's first and from its last
              point for that end to close four times in five; a fraction. None where no possible
              distance is enough
    rise:     by how much the assumed curve rises from its first size to its last, a fraction
    low, high: the sizes between which an arm's true gold equivalent has to lie; both are None where
              no arm's interval is expected to close, because the rise is less than twice the
              distance
    """

    distance: float | None
    rise: float
    low: float | None
    high: float | None

    @property
    def can_close(self) -> bool:
        """Whether any arm's interval is expected to close at both ends."""
        return self.low is not None


@dataclass(frozen=True, slots=True)
class GoldSizes:
    """`GoldEquivalent`'s estimate and ends for many experiments: arrays, NaN for None."""

    estimate: Any
    low: Any
    high: Any


def gold_equivalent(
    arm: Table,
    curve: Mapping[int, Table],
    gold_rows: int,
    groups: Groups | None = None,
    confidence: float = 0.95,
    *,
    labels: Groups | None = None,
) -> GoldEquivalent:
    """The number of gold rows that an arm is worth, by the primary test.

    arm:       rows × seeds of correctness
    curve:     size -> the table of the arm that was trained on so many gold rows alone, same rows
    gold_rows: gold rows among the arm's training rows
    groups, labels: of each row, as in `crossed_random_effects`

    Between its sizes the curve is a parabola in log N through three neighbouring sizes; where two
    such parabolas are possible, their mean, weighted by how near log N is to either's middle. So
    the curve passes through its points, is smooth, and its value at each N is a weighted sum of its
    arms. (One parabola fitted to all sizes was tried: where a curve bends at both ends, it misses
    it by 1 to 4 points. Straight lines miss it by 1 to 3.)

    The interval holds the sizes that the test of `crossed_random_effects` of arm - curve(N) does
    not reject. What changes with N is only how the curve's arms are weighted: their rows are
    compared in sums, and each arm's seeds with the square of its weight, as in
    `share.share_of_gain`. More rows are taken not to harm: an N is too small where the arm is
    significantly above the curve, and the interval begins at the first size that is not too small
    and ends at the last that is not too large. So an arm's interval closes where the curve rises by
    more than the half-width of that test on either side of it, which it does four times in five
    where the true rise is some 1.5 half-widths.

    Raises ValueError for sizes that are not at least LEAST_SIZES whole numbers, each GAPS times the
    one before; for a number of gold rows below zero; and as `variance_estimates` does.
    """
    sizes = checked_sizes(list(curve))
    if gold_rows < 0:
        raise ValueError(f"got {gold_rows} gold rows, expected a number of zero or more")
    tables = [arm, *(curve[size] for size in sizes)]
    arms, grouped = variances_of_arms(tables, groups, labels)
    found = gold_sizes(arms[0], arms[1:], sizes, grouped, 1 - confidence)
    estimate, low, high = (
        None if np.isnan(value) else float(value)
        for value in (found.estimate, found.low, found.high)
    )
    return GoldEquivalent(sizes, gold_rows, estimate, low, high, confidence)


def gold_sizes(
    arm: ArmVariance,
    curve: Sequence[ArmVariance],
    sizes: Sequence[int],
    grouped: bool = False,
    level: float = 0.05,
) -> GoldSizes:
    """`gold_equivalent` from the parts of the variance; of many experiments, arrays.

    curve: of each size in rising order
    """
    places = np.linspace(0, np.log(sizes[-1] / sizes[0]), _POINTS + 1) + np.log(sizes[0])
    weights = np.concatenate([np.ones((len(places), 1)), -curve_weights(sizes, places)], axis=1)
    parts = variance_of_contrasts([arm, *curve], weights, grouped)
    above = parts.mean
    half = _half_widths(parts, level)
    first = _crossing(above, places)
    too_small, too_large = above - half, above + half
    # From the left, where too small a size ends; from the right, where too large a one does.
    low = _crossing(too_small, places)
    high = _crossing(-too_large[..., ::-1], places[::-1])
    estimate, low, high = (
        np.clip(np.exp(each), sizes[0], sizes[-1]) for each in (first, low, high)
    )
    low = np.where((too_small > 0).all(axis=-1), sizes[-1], low)
    high = np.where((too_large < 0).all(axis=-1), sizes[0], high)
    return GoldSizes(estimate, low, high)


def curve_weights(sizes: Sequence[int], log_sizes: Floats) -> Floats:
    """The weight of each of a curve's points in its value at other sizes: sizes asked × points.

    sizes:     of the points, rising, three or more
    log_sizes: natural logarithms of the sizes asked, none beyond the first and the last point
    """
    points = np.log(np.asarray(sizes, dtype=np.float64))
    last = len(points) - 2
    gap = np.clip(np.searchsorted(points, log_sizes, side="right") - 1, 0, last)
    share = (log_sizes - points[gap]) / (points[gap + 1] - points[gap])
    weights = np.zeros((len(log_sizes), len(points)))
    # The parabola that has one more point to the left of the gap, and that with one to the right;
    # at either end of the curve they are the same.
    for begin, part in ((gap - 1, 1 - share), (gap, share)):
        begin = np.clip(begin, 0, last - 1)
        three = points[begin[:, None] + np.arange(3)]
        for own in range(3):
            others = [place for place in range(3) if place != own]
            factors = [
                (log_sizes - three[:, other]) / (three[:, own] - three[:, other])
                for other in others
            ]
            weights[np.arange(len(log_sizes)), begin + own] += part * factors[0] * factors[1]
    return weights


def checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """The sizes in rising order; ValueError unless they are enough, and neither near nor far."""
    rising = sorted(sizes)
    near, far = GAPS
    ratios = [after / before for before, after in itertools.pairwise(rising) if before]
    good = len(rising) >= LEAST_SIZES and rising[0] > 0
    if not good or not all(near <= ratio <= far for ratio in ratios):
        raise ValueError(
            f"got a gold curve of the sizes {rising}, expected {LEAST_SIZES} sizes or more, each "
            f"{near:g} to {far:g} times the one before"
        )
    return tuple(rising)


def break_even_price(found: GoldEquivalent, cost: float) -> BreakEven:
    """The price of a gold label at which the arm's worth in gold rows costs as much as its use.

    cost: what the arm's use costs apart from its gold rows

    Raises ValueError for a cost below zero.
    """
    if not cost >= 0:
        raise ValueError(f"got the cost {cost}, expected a number of zero or more")
    low, high = found.worth_interval
    price = None if found.worth is None or found.worth <= 0 else cost / found.worth
    # Worth no more than nothing: no price of a label is high enough.
    at_least = 0.0 if high is None else cost / high if high > 0 else np.inf
    at_most = None if low is None or low <= 0 else cost / low
    return BreakEven(price, at_least, at_most)


def closing_range(
    sizes: Sequence[int],
    accuracies: Sequence[float],
    design: Design,
    level: float = 0.05,
    power: float = 0.8,
) -> ClosingRange:
    """For which arms the interval is expected to close, before a run.

    sizes:      of the gold curve
    accuracies: that are assumed at these sizes, fractions
    design:     the experiment's rows and seeds, and how much two arms' students are assumed to
                differ (`power.Design`)

    At the curve's ends the test is that of two arms: the arm and the one with the first or the last
    size. So an end closes with probability `power` where the arm's true accuracy is as far from it
    as `power.detectable_difference` says.

    Raises ValueError as `gold_equivalent` does for the sizes, and for another number of accuracies.
    """
    rising = checked_sizes(sizes)
    if len(accuracies) != len(rising) or list(sizes) != list(rising):
        raise ValueError(
            f"got {len(accuracies)} accuracies for the sizes {list(sizes)}, expected one for each "
            "size, the sizes in rising order"
        )
    values = np.asarray(accuracies, dtype=np.float64)
    rise = float(values[-1] - values[0])
    distance = None
    if design.seeds > 1:
        distance = detectable_difference(expected_variance(design), level, power)
    if distance is None or rise < 2 * distance:
        return ClosingRange(distance, rise, None, None)
    places = np.linspace(np.log(rising[0]), np.log(rising[-1]), _POINTS + 1)
    fitted = curve_weights(rising, places) @ values
    inside = (fitted >= values[0] + distance) & (fitted <= values[-1] - distance)
    if not inside.any():  # the curve jumps over the range between two sizes
        return ClosingRange(distance, rise, None, None)
    low, high = (float(np.exp(places[inside][end])) for end in (0, -1))
    return ClosingRange(distance, rise, low, high)


def _half_widths(parts: VarianceEstimates, level: float) -> Any:
    """Half-widths of the test, with the bound for data that show no variance (`crossed`)."""
    none = np.max([parts.rows, *parts.seeds, *parts.residue], axis=0) == 0
    if parts.effective_units <= 1:
        none = np.ones_like(none)
    share = 1 - (level / 2) ** (1 / parts.effective_units)
    with np.errstate(invalid="ignore"):
        half = np.zeros_like(parts.mean) if none.all() else half_width(parts, level)
    return np.where(none, share * (1 + np.abs(parts.mean)), half)


def _crossing(values: Any, places: Floats) -> Any:
    """The place at which values (… × places) first stop being above zero, by linear interpolation.

    NaN where the first value is not above zero, or none stops.
    """
    stopped = values <= 0
    after = np.argmax(stopped, axis=-1)
    inside = stopped.any(axis=-1) & (after > 0)
    after = np.where(inside, after, 1)
    left, right = (
        np.take_along_axis(values, at[..., None], axis=-1)[..., 0] for at in (after - 1, after)
    )
    step = np.where(inside, left - right, 1.0)
    found = places[after - 1] + left / step * (places[after] - places[after - 1])
    return np.where(inside, found, np.nan)
