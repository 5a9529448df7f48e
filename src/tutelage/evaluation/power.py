"""Power analysis: the difference that an experiment can detect, from its design or its data.

    Design, expected_mean_squares  rows, groups, seeds, disagreement, seed SD -> R, C, E
    design_of                      the design estimated from an earlier experiment
    power_of                       probability that the primary test detects a difference
    detectable_difference          the difference that it detects with a given probability

The power is that of the primary test itself (`crossed.squared_half_width`), not of a similar
t-test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.evaluation.crossed import MeanSquares, Table, mean_squares, squared_half_width
from tutelage.evaluation.numeric import Floats, Groups, solve

_SEED_POINTS, _ROW_POINTS, _ROW_POINTS_OF_ONE_SEED = 96, 4, 2000
"""Numbers of quantiles of C and R to average the power over; rows are many, seeds are few."""


@dataclass(frozen=True, slots=True)
class Design:
    """An experiment with two arms on the same rows, and the predictions to expect.

    group_sizes:   rows of each unit: the number of rows of each premise, or ones
    seeds:         of each arm
    disagreement:  fraction of rows that only one of two models, one of each arm, predicts correctly
    seed_sd:       standard deviation of an arm's accuracy over seeds, a fraction, without the noise
                   of single predictions
    repeated:      share of the disagreement's variance that is the same for every seed. With 1,
                   more seeds add no information about the rows (the conservative assumption); with
                   0, they do
    within_group:  correlation of the differences of two rows of one group
    """

    group_sizes: Sequence[int]
    seeds: int
    disagreement: float
    seed_sd: float
    repeated: float = 0.5
    within_group: float = 0.1

    def __post_init__(self) -> None:
        problems = []
        if len(self.group_sizes) < 2 or min(self.group_sizes, default=0) < 1:
            problems.append(f"at least two groups of at least one row, got {self.group_sizes!r}")
        if self.seeds < 1:
            problems.append(f"at least one seed, got {self.seeds}")
        if not 0 < self.disagreement <= 1:
            problems.append(f"a disagreement above 0 and at most 1, got {self.disagreement}")
        if self.seed_sd < 0:
            problems.append(f"a seed SD of at least 0, got {self.seed_sd}")
        for name in ("repeated", "within_group"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"{name} between 0 and 1, got {getattr(self, name)}")
        if problems:
            raise ValueError("expected " + "; ".join(problems))


def expected_mean_squares(design: Design) -> MeanSquares:
    """The expected R, C and E of the units × seeds table of an experiment with this design.

    With n rows, G groups, D the disagreement (the variance of a difference that is -1, 0 or 1 and
    has a small mean), f its repeated share, and the design effect of clusters

        deff = 1 + within_group (Σ m² / n - 1)          over group sizes m (Kish 1965)

    the variances of rows, residue and seeds are f D deff, (1 - f) D deff and 2 seed_sd² (two arms
    with separate trainings), and

        E = (G / n) (1 - f) D deff,   R = E + S (G / n) f D deff,   C = E + G 2 seed_sd²

    so that (R + C - E) / (G S) = f D deff / n + (1 - f) D deff / (n S) + 2 seed_sd² / S.
    """
    sizes = np.asarray(design.group_sizes, dtype=np.float64)
    units, rows, seeds = len(sizes), float(sizes.sum()), design.seeds
    effect = 1 + design.within_group * (float((sizes**2).sum()) / rows - 1)
    per_unit = units / rows * design.disagreement * effect
    error = (1 - design.repeated) * per_unit
    squares = error + seeds * design.repeated * per_unit
    if seeds == 1:
        # With one seed, neither the variance of seeds nor the residue can be separated from rows.
        return MeanSquares(0.0, squares, 0.0, 0.0, units, 1)
    return MeanSquares(0.0, squares, error + units * 2 * design.seed_sd**2, error, units, seeds)


def design_of(difference: Table, groups: Groups | None = None) -> Design:
    """The design estimated from two arms' differences in correctness (rows × seeds: -1, 0, 1).

    The inverse of `expected_mean_squares` by the method of moments, with shares clamped to [0, 1].
    A seed SD from few seeds is a rough estimate. With one seed, `repeated` is 1 and `seed_sd` is 0,
    since they cannot be estimated. Raises ValueError where no row differs, or all rows are of one
    group.
    """
    d = np.asarray(difference, dtype=np.float64)
    disagreement = float((d**2).mean())
    if disagreement == 0:
        raise ValueError("got arms that agree on every row, expected some that differ")
    by_unit = mean_squares(d, groups)
    sizes = (1,) * len(d) if groups is None else tuple(Counter(groups).values())
    rows, units, seeds = len(d), by_unit.units, by_unit.columns
    repeats = max(by_unit.rows - by_unit.error, 0.0) / seeds
    spread = repeats + by_unit.error
    effect = spread * rows / units / disagreement
    weighted = sum(size**2 for size in sizes) / rows
    seed_variance = max(by_unit.seeds - by_unit.error, 0.0) / units
    return Design(
        group_sizes=sizes,
        seeds=seeds,
        disagreement=disagreement,
        seed_sd=math.sqrt(seed_variance / 2),
        repeated=repeats / spread if spread else 1.0,
        within_group=min(max((effect - 1) / (weighted - 1), 0.0), 1.0) if weighted > 1 else 0.0,
    )


def power_of(squares: MeanSquares, difference: float, alpha: float = 0.05) -> float:
    """The probability that the primary test at level `alpha` detects a true `difference`.

    squares: expected mean squares, or those of an experiment; `mean` is not used. C or R below E is
             raised to E, since an expectation cannot be lower

    The average of P(|N(difference, Var(mean))| > h(R, C, E)) over the distributions of C (chi² with
    S - 1 degrees of freedom) and R (G - 1), at midpoint quantiles. E has many degrees of freedom
    and is taken as known.
    """
    return float(_power(_half_widths(squares, alpha), _standard_deviation(squares), difference))


def detectable_difference(
    squares: MeanSquares, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The true difference that the primary test at level `alpha` detects with probability `power`.

    Solves `power_of`(δ) = power, in the unit of the differences. For Holm's strictest step, divide
    alpha by the size of the family. None without variance. With one seed it is that of a t-test
    (Cohen 1988, chapter 2) and applies to fixed models.
    """
    if not 0 < alpha < power < 1:
        raise ValueError(f"got alpha {alpha} and power {power}, expected 0 < alpha < power < 1")
    if squares.units < 2 or max(squares.rows, squares.error) <= 0:
        return None
    half, deviation = _half_widths(squares, alpha), _standard_deviation(squares)
    highest = deviation
    while _power(half, deviation, highest) < power:
        highest *= 2
    return solve(lambda delta: _power(half, deviation, delta) - power, 0.0, highest, 1e-4)


def _standard_deviation(squares: MeanSquares) -> float:
    rows, seeds = max(squares.rows, squares.error), max(squares.seeds, squares.error)
    return math.sqrt((rows + seeds - squares.error) / (squares.units * squares.columns))


def _half_widths(squares: MeanSquares, alpha: float) -> Floats:
    """Possible half-widths of the test at level `alpha`, all equally likely."""
    one_seed = squares.columns == 1
    points = _ROW_POINTS_OF_ONE_SEED if one_seed else _ROW_POINTS
    rows = max(squares.rows, squares.error) * _mean_square_law(points, squares.units - 1)
    if one_seed:
        seeds = np.zeros_like(rows)
    else:
        law = _mean_square_law(_SEED_POINTS, squares.columns - 1)
        rows, seeds = rows[:, None], max(squares.seeds, squares.error) * law
    widths: Floats = np.sqrt(
        squared_half_width(
            alpha, rows, seeds, squares.error, squares.units, squares.columns, _largest
        )
    )
    return widths


def _largest(first: Any, second: Any, third: Any) -> Floats:
    largest: Floats = np.maximum(np.maximum(first, second), third)
    return largest


def _mean_square_law(points: int, df: int) -> Floats:
    """Quantiles of chi²(df) / df at the midpoints of `points` equal parts of probability."""
    from scipy.special import chdtri

    law: Floats = chdtri(df, (np.arange(points) + 0.5) / points) / df
    return law


def _power(half: Floats, deviation: float, difference: float) -> float:
    from scipy.special import ndtr

    above = ndtr((difference - half) / deviation)
    below = ndtr((-difference - half) / deviation)
    return float((above + below).mean())
