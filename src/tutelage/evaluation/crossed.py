"""The primary test: the mean of a table over rows × seeds, generalised to new rows and seeds.

    mean_squares            the sufficient statistics of a table of differences
    crossed_random_effects  its mean, interval and p-value (`crossed_result` from mean squares)
    equivalence             two one-sided tests: is the mean within a margin of zero?

All differences are fractions (0.01 is one point).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.evaluation.numeric import Floats, Groups, Ints, shared_groups, solve, t_upper

Table = Sequence[Sequence[float]] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class MeanSquares:
    """The statistics of a units × seeds table that its mean's interval depends on.

    mean:               grand mean
    rows, seeds, error: the mean squares R, C and E; C and E are 0 with one seed
    units, columns:     number of rows (or groups of rows), and of seeds
    grouped:            whether units are groups of several rows
    """

    mean: float
    rows: float
    seeds: float
    error: float
    units: int
    columns: int
    grouped: bool = False


@dataclass(frozen=True, slots=True)
class CrossedResult:
    """A mean over rows × seeds, with an interval that generalises to both.

    The interval is `estimate ± t(degrees_of_freedom) * standard_error`. Both are None where the
    data show no variance; the interval then rests on the bounds alone. `method` says in words how
    it was computed.
    """

    estimate: float
    standard_error: float | None
    degrees_of_freedom: float | None
    ci_low: float
    ci_high: float
    p_value: float
    method: str


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Two one-sided tests of a mean against a margin on either side.

    p_value:    the larger of the two one-sided p-values
    ci90:       the interval at 1 - 2 alpha (90% for alpha = 5%); it lies within the margin where
                p_value < alpha
    equivalent: p_value < alpha. False shows neither a difference nor its absence
    """

    margin: float
    p_value: float
    ci90: tuple[float, float]
    equivalent: bool


def crossed_random_effects(
    difference: Table,
    groups: Groups | None = None,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> CrossedResult:
    """Mean of `difference` (rows × seeds), its interval, and the test that the mean is zero.

    Model: d[i, s] = mean + row_i + seed_s + error_is, with rows and seeds both drawn at random,
    like readers and cases in multi-reader studies (Obuchowski and Rockette 1995; Hillis 2007). With
    R, C, E the mean squares of rows, seeds and residue of the G × S table,

        Var(mean) = (R + C - E) / (G S),  never less than max(R, E) / (G S),

    that is, with the seeds' component clamped at zero (R) and with the noise of single predictions
    as a lower bound (E). The half-width h is the larger of

        h² = [t²(G-1) (R - E) + t²(S-1) C - t²(G-1) E / (2 (S-1))] / (G S)
        h² =  t²(G-1) Var(mean)

    that is, each component with its own t quantile, less an allowance, and never narrower than with
    a known variance. `degrees_of_freedom` are those whose t quantile turns the standard error into
    h. The p-value is the level at which the interval ends at zero.

    groups: one key for each row. Rows that share a key (a premise) are one unit, and the table
    holds linearised group totals y[g, s] = m + (G / n) Σ_{i in g} (d[i, s] - m), m the grand
    mean (Taylor linearisation of a ratio, as in cluster surveys), so that the mean over
    groups equals the mean over rows whatever the sizes of the groups. Where each row has a key of
    its own, rows are the units.

    bounds: the smallest and the largest value that a mean difference can have

    Why not Satterthwaite's degrees of freedom for the sum: where C is small by luck, the variance
    is lower and the degrees of freedom are higher at the same time. With mean squares drawn from
    their distributions under the null hypothesis (G = 333, R/E and C/E from 1 to 8 and 50) it gave
    up to 12% false alarms with 2 seeds, 8% with 3 and 6% with 5. Also clamping C at E in the
    degrees of freedom cost width (1.44 times that of a known variance, compared with 1.30, at 5
    seeds and no effect) and still gave 12% and 8%; the median-unbiased C instead gave 10% and 7%.
    With a quantile of its own for each component the rate is never above 5% where the components
    are independent (Banerjee 1960, Sankhyā 22).

    Why the allowance: without it the test is conservative where seeds vary little, because E, a
    part of C that is known well, is multiplied by the quantile for few seeds: 2% false alarms at 5
    seeds, and a median width of 1.298 times that of a known variance. By quadrature over C/E from 1
    to 150 and R/E of 1, 1.5, 3 and 9, at 2 to 50 seeds, the allowance raises the worst case from
    5.00% to 5.14%, from 1.25% to 1.30% and from 0.1% to 0.105%, and lowers the 1.298 to 1.249. An
    allowance that grows with t²(S-1) costs more at small levels (1.7% instead of 1.25% at 3 seeds).
    Little more can be gained: of all half-widths that rise with C and hold 5.00% throughout, the
    best that constrained optimisation found are 5% shorter on average. What remains is low power at
    two or three seeds, where no test can know the seeds' variance: five seeds are worth their cost.

    Degenerate cases:
    - one seed: rows (groups) alone, t(G-1); `method` says that it applies to these models only
    - one unit, or every value equal to c: no variance can be estimated. With n equal units, the
      chance that more than q = 1 - ((1-confidence)/2)^(1/n) of all units differ is below
      (1-confidence)/2 (Clopper and Pearson's bound at zero), and those can lie anywhere between
      the bounds: c + q * (bounds - c), p = min(1, 2 / (1 + |c| / bound)^n), where bound is the one
      on the other side of zero. So no difference at all in n rows does not give an interval of
      width zero.

    Raises ValueError for an empty table, values that are not finite, or keys of another length.
    """
    return crossed_result(mean_squares(difference, groups), confidence, bounds)


def crossed_result(
    squares: MeanSquares, confidence: float = 0.95, bounds: tuple[float, float] = (-1.0, 1.0)
) -> CrossedResult:
    """`crossed_random_effects` from the mean squares of a table."""
    unit = "groups of rows" if squares.grouped else "rows"
    estimate, units = squares.mean, squares.units
    if not _has_variance(squares):
        low, high, p = _interval_without_variance(estimate, units, confidence, bounds)
        method = f"no variance over {units} {unit}: exact binomial bound"
        return CrossedResult(estimate, None, None, low, high, p, method)
    half, error = half_width(squares, 1 - confidence), standard_error(squares)
    if squares.columns == 1:
        method = f"t-test over {unit} of one seed: applies to these models only, not to other seeds"
    else:
        method = f"crossed random effects over {units:,} {unit} and {squares.columns} seeds"
    return CrossedResult(
        estimate=estimate,
        standard_error=error,
        degrees_of_freedom=_matching_df(half / error, confidence, units - 1),
        ci_low=max(estimate - half, bounds[0]),
        ci_high=min(estimate + half, bounds[1]),
        p_value=two_sided_level(squares, abs(estimate)),
        method=method,
    )


def mean_squares(difference: Table, groups: Groups | None = None) -> MeanSquares:
    """The grand mean of a rows × seeds table, and R, C, E of its units × seeds table.

    A table without variance (up to rounding), or with one unit, has mean squares of zero.
    Raises ValueError as `crossed_random_effects` does.
    """
    d = np.asarray(difference, dtype=np.float64)
    if d.ndim != 2 or 0 in d.shape:
        raise ValueError(f"got differences of shape {d.shape}, expected rows × seeds, neither zero")
    if not np.isfinite(d).all():
        raise ValueError("got differences that are not finite")
    index = None if groups is None else shared_groups(groups, len(d))
    y = d if index is None else _group_totals(d, index)
    units, seeds = y.shape
    mean, grouped = float(d.mean()), index is not None
    if units == 1 or np.ptp(y) <= 1e-12 * max(1.0, float(np.abs(y).max())):
        return MeanSquares(mean, 0.0, 0.0, 0.0, units, seeds, grouped)
    row_effect = y.mean(axis=1, keepdims=True) - y.mean()
    seed_effect = y.mean(axis=0, keepdims=True) - y.mean()
    rows = seeds * float((row_effect**2).sum()) / (units - 1)
    if seeds == 1:
        return MeanSquares(mean, rows, 0.0, 0.0, units, 1, grouped)
    residue = y - y.mean() - row_effect - seed_effect
    columns = units * float((seed_effect**2).sum()) / (seeds - 1)
    error = float((residue**2).sum()) / ((units - 1) * (seeds - 1))
    return MeanSquares(mean, rows, columns, error, units, seeds, grouped)


def standard_error(squares: MeanSquares) -> float:
    """sqrt(Var(mean)), as `crossed_random_effects` defines it."""
    variance = max(squares.rows + squares.seeds - squares.error, squares.rows, squares.error)
    return math.sqrt(variance / (squares.units * squares.columns))


def half_width(squares: MeanSquares, level: float) -> float:
    """Half the width of the interval that misses the mean with probability `level`."""
    q = squares
    return math.sqrt(squared_half_width(level, q.rows, q.seeds, q.error, q.units, q.columns))


def squared_half_width(
    level: float,
    rows: Any,
    seeds: Any,
    error: Any,
    units: int,
    columns: int,
    largest: Callable[[Any, Any, Any], Any] = max,
) -> Any:
    """h² of `crossed_random_effects` for mean squares R, C and E: floats, or arrays of one shape.

    largest: the maximum of three values; for arrays an elementwise one
    """
    known = t_upper(level / 2, units - 1) ** 2
    if columns == 1:
        return known * rows / units
    few = t_upper(level / 2, columns - 1) ** 2
    allowance = error / (2 * (columns - 1))
    parts = known * (rows - error - allowance) + few * seeds
    floor = known * largest(rows + seeds - error, rows, error)
    return largest(parts, floor, 0.0) / (units * columns)


def two_sided_level(squares: MeanSquares, distance: float) -> float:
    """The level at which the interval's half-width is `distance`: a two-sided p-value.

    1 for a distance of zero. Undefined, and not to be called, without variance.
    """
    if distance <= 0:
        return 1.0
    return solve(lambda level: distance - half_width(squares, level), 0.0, 1.0)


def equivalence(
    difference: Table,
    margin: float,
    groups: Groups | None = None,
    alpha: float = 0.05,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> Equivalence:
    """Tests whether the mean of `difference` (rows × seeds) is nearer to zero than `margin`.

    Two one-sided tests (Schuirmann 1987): that the mean is -margin or less, and that it is margin
    or more, each at `alpha`. Each p-value is half of the two-sided level of
    `crossed_random_effects` at which the interval ends at that margin; the p-value is the larger
    one. No correction for two tests is due, since both have to be rejected.

    Without variance, with n units equal to c: for a mean as large as the margin m, a share
    q = (m - c) / (bound - c) of units has to differ, and none among n has probability (1 - q)^n.

    Raises ValueError for a margin that is not above zero, and as `crossed_random_effects` does.
    """
    return equivalence_result(mean_squares(difference, groups), margin, alpha, bounds)


def equivalence_result(
    squares: MeanSquares,
    margin: float,
    alpha: float = 0.05,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> Equivalence:
    """`equivalence` from the mean squares of a table."""
    if margin <= 0:
        raise ValueError(f"got the margin {margin}, expected one above zero")
    tails = (margin - squares.mean, bounds[1]), (squares.mean + margin, -bounds[0])
    if _has_variance(squares):
        half = half_width(squares, 2 * alpha)
        low, high = squares.mean - half, squares.mean + half
        p_value = _one_sided(squares, min(distance for distance, _ in tails))
    else:
        low, high, _ = _interval_without_variance(
            squares.mean, squares.units, 1 - 2 * alpha, bounds
        )
        p_value = max(
            (1 - distance / (distance + room - margin)) ** squares.units
            if distance > 0 and margin < room
            else float(distance <= 0)
            for distance, room in tails
        )
    ci90 = max(low, bounds[0]), min(high, bounds[1])
    return Equivalence(margin, p_value, ci90, p_value < alpha)


def _one_sided(squares: MeanSquares, distance: float) -> float:
    half = two_sided_level(squares, abs(distance)) / 2
    return half if distance > 0 else 1 - half


def _has_variance(squares: MeanSquares) -> bool:
    return squares.units > 1 and max(squares.rows, squares.seeds, squares.error) > 0


def _group_totals(d: Floats, index: Ints) -> Floats:
    mean = d.mean()
    count = int(index.max()) + 1
    totals = np.stack([np.bincount(index, column - mean, count) for column in d.T], axis=1)
    result: Floats = mean + totals * (count / len(d))
    return result


def _interval_without_variance(
    value: float, units: int, confidence: float, bounds: tuple[float, float]
) -> tuple[float, float, float]:
    others = 1 - ((1 - confidence) / 2) ** (1 / units)
    low, high = (value + others * (bound - value) for bound in bounds)
    opposite = abs(bounds[0] if value > 0 else bounds[1])
    if value == 0:
        return low, high, 1.0
    if opposite == 0:  # zero is the bound itself: only a value of zero reaches it
        return low, high, 0.0
    return low, high, float(min(1.0, 2 * (1 + abs(value) / opposite) ** -units))


def _matching_df(quantile: float, confidence: float, largest: float) -> float:
    """Degrees of freedom at which the t quantile for `confidence` is `quantile`."""
    tail = (1 - confidence) / 2
    if t_upper(tail, largest) >= quantile:
        return float(largest)
    return math.exp(solve(lambda x: t_upper(tail, math.exp(x)) - quantile, -2.0, math.log(largest)))
