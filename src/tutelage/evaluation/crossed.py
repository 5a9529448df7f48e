"""The primary test: the mean of a table over rows × seeds, generalised to new rows and seeds.

    crossed_random_effects  the mean of a table, or of two tables' difference: interval, p-value
    crossed_result          the same from the parts of its variance (`variance`)
    one_sided_p             the test that the mean is a given value or less
    lower_limit             the smallest mean that this test does not reject
    equivalence             two one-sided tests: is the mean within a margin of zero?

All differences are fractions (0.01 is one point).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tutelage.evaluation.numeric import Groups, solve, t_upper
from tutelage.evaluation.variance import Table, VarianceEstimates, variance_estimates

FEW_GROUPS = 20
"""Below this number of effective groups, the test may give up to 8% false alarms instead of 5%."""

_LEAST_LOG_LEVEL = 460.0
"""-log of the smallest p-value that is computed, 1e-200."""


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
    table: Table,
    groups: Groups | None = None,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-1.0, 1.0),
    *,
    baseline: Table | None = None,
    labels: Groups | None = None,
) -> CrossedResult:
    """Mean of `table` minus that of `baseline`, its interval, and the test that it is zero.

    table, baseline: rows × seeds on the same rows; without a baseline, the mean of the table itself

    Model, for each arm a: y_a[i, s] = mean_a + row_ai + seed_as + error_ais, all drawn at random,
    like readers and cases in multi-reader studies (Obuchowski and Rockette 1995; Hillis 2007). The
    arms share their rows, so rows are compared in pairs. Their seeds are separate draws: nothing
    pairs the training of one arm with that of another. With r, c_a and e_a the parts `rows`,
    `seeds` and `residue` of `VarianceEstimates`, c = Σ c_a and e = Σ e_a,

        Var(mean) = r + c - e, never less than max(r, e)

    that is, with the seeds' component clamped at zero (r) and with the noise of single predictions
    as a lower bound (e). The half-width h is the larger of

        h² = t²(G* - 1) (r - e) + t²(ν) c - t²(G* - 1) Σ e_a / (2 Σ (S_a - 1))
        h² = t²(G* - 1) Var(mean)

    that is, each component with its own t quantile, less an allowance, and never narrower than with
    a known variance. ν are Welch's degrees of freedom for the sum over arms (Welch 1947),

        ν = c² / Σ c_a² / (S_a - 1)

    and G* - 1 = n² / Σ m² - 1 for n rows in groups of m rows, G - 1 where groups are equal.
    `degrees_of_freedom` are those whose t quantile turns the standard error into h. The p-value is
    the level at which the interval ends at zero.

    groups: one key for each row. Rows that share a key (a premise) are one unit, whose value is a
    linearised total (`variance.of_units`). Where each row has a key of its own, rows are the units.

    bounds: the smallest and the largest value that a mean difference can have
    labels: each row's gold label, for balanced accuracy in the place of accuracy (`balanced`)

    Why not Satterthwaite's degrees of freedom for the whole sum: where c is small by luck, the
    variance is lower and the degrees of freedom are higher at the same time, which gave up to 8%
    false alarms with 3 seeds. With a quantile of its own for each component, the rate is never
    above 5% where the components are independent (Banerjee 1960, Sankhyā 22). The allowance gives
    back what the quantile for few seeds adds to e, the part of c that is known well.

    What it does with normal seeds, 500 rows and r from e to 3 e, by 60,000 draws for each value
    (± 0.1%): with arms alike, 1.6 to 3.7% false alarms at 3 seeds, 2.6 to 4.6% at 5, 3.5 to 5.0% at
    10. With c of one arm 16 times that of the other, up to 5.8%, 5.5% and 5.2%: Welch's own excess,
    not the allowance's, which adds at most 0.3% and never to the worst case. Twice the allowance
    would add as much again. The median width is at most 1.48, 1.17 and 1.06 times that with known
    variances where arms are alike, and 1.64, 1.24 and 1.09 where they are not.

    Tried instead: the seeds' part from the differences of paired seeds, with S - 1 degrees of
    freedom (median width 1.8 and 1.25 at 3 and 5 seeds, as safe); one variance for the seeds of all
    arms, or variances shrunk towards each other (13 to 20% false alarms where arms are unlike).

    Degenerate cases:
    - one seed in either arm: rows (groups) alone, t(G* - 1); `method` says that it applies to these
      models only
    - one unit, or no variance at all, every value equal to c: with n equal units, the chance that
      more than q = 1 - ((1-confidence)/2)^(1/n) of all units differ is below (1-confidence)/2
      (Clopper and Pearson's bound at zero), and those can lie anywhere between the bounds:
      c + q * (bounds - c), p = min(1, 2 / (1 + |c| / bound)^n), where bound is the one on the
      other side of zero; n = G*. So no difference at all in n rows does not give an interval of
      width zero.

    Raises ValueError as `variance_estimates` does.
    """
    parts = variance_estimates(table, groups, baseline=baseline, labels=labels)
    return crossed_result(parts, confidence, bounds)


def crossed_result(
    parts: VarianceEstimates, confidence: float = 0.95, bounds: tuple[float, float] = (-1.0, 1.0)
) -> CrossedResult:
    """`crossed_random_effects` from the parts of the variance of one experiment."""
    unit = "groups of rows" if parts.grouped else "rows"
    estimate, units = parts.mean, parts.effective_units
    if not parts.has_variance:
        low, high, p = _interval_without_variance(estimate, units, confidence, bounds)
        method = f"no variance over {parts.units} {unit}: exact binomial bound"
        return CrossedResult(estimate, None, None, low, high, p, method)
    half = float(half_width(parts, 1 - confidence))
    error = float(standard_error(parts))
    return CrossedResult(
        estimate=estimate,
        standard_error=error,
        degrees_of_freedom=_matching_df(half / error, confidence, units - 1),
        ci_low=max(estimate - half, bounds[0]),
        ci_high=min(estimate + half, bounds[1]),
        p_value=two_sided_level(parts, abs(estimate)),
        method=_method(parts, unit),
    )


def _method(parts: VarianceEstimates, unit: str) -> str:
    if parts.one_seed:
        return f"t-test over {unit} of one seed: applies to these models only, not to other seeds"
    seeds = " and ".join(str(number) for number in sorted(set(parts.columns)))
    if len(parts.columns) > 1:
        seeds += " seeds of each arm" if len(set(parts.columns)) == 1 else " seeds of the arms"
    else:
        seeds += " seeds"
    return f"crossed random effects over {parts.units:,} {unit} and {seeds}"


def standard_error(parts: VarianceEstimates) -> Any:
    """sqrt(Var(mean)), as `crossed_random_effects` defines it."""
    seeds, residue = sum(parts.seeds), sum(parts.residue)
    return np.sqrt(np.maximum(np.maximum(parts.rows + seeds - residue, parts.rows), residue))


def half_width(parts: VarianceEstimates, level: Any) -> Any:
    """Half the width of the interval that misses the mean with probability `level`."""
    return np.sqrt(_squared_half_width(parts)(level))


def welch_degrees_of_freedom(seeds: Sequence[Any], columns: Sequence[int]) -> Any:
    """Degrees of freedom of a sum of the arms' seed variances: c² / Σ c_a² / (S_a - 1).

    seeds:   each arm's part c_a, numbers or arrays
    columns: each arm's number of seeds S_a, at least 2

    Between the smallest S_a - 1 and Σ (S_a - 1), which is also the value where all parts are zero
    (Welch 1947, Biometrika 34).
    """
    largest = sum(number - 1 for number in columns)
    total = sum(seeds)
    below = sum(part**2 / (number - 1) for part, number in zip(seeds, columns, strict=True))
    safe = np.where(below > 0, below, 1.0)
    return np.where(below > 0, np.minimum(total**2 / safe, largest), largest)


def _squared_half_width(parts: VarianceEstimates) -> Callable[[Any], Any]:
    """The square of `half_width` as a function of the level."""
    known_df, error = parts.effective_units - 1, standard_error(parts) ** 2
    if parts.one_seed:
        return lambda level: t_upper(level / 2, known_df) ** 2 * parts.rows
    seeds, residue = sum(parts.seeds), sum(parts.residue)
    few_df = welch_degrees_of_freedom(parts.seeds, parts.columns)[()]
    allowance = residue / (2 * sum(number - 1 for number in parts.columns))
    rest = parts.rows - residue - allowance

    def squared(level: Any) -> Any:
        known = t_upper(level / 2, known_df) ** 2
        return np.maximum(known * rest + t_upper(level / 2, few_df) ** 2 * seeds, known * error)

    return squared


def two_sided_level(parts: VarianceEstimates, distance: float) -> float:
    """The level at which the interval's half-width is `distance`: a two-sided p-value.

    1 for a distance of zero. Undefined, and not to be called, without variance. The root is that of
    log(level), to nine digits of the level; not below 1e-200. The bracket is opened from the side
    of large levels, because scipy's t quantile fails for tails below some 1e-110 of few degrees of
    freedom.
    """
    squared, wanted = _squared_half_width(parts), float(distance) ** 2
    if wanted == 0:  # for a distance below 1e-162, too
        return 1.0

    def beyond(log_level: float) -> float:
        found = float(squared(math.exp(-log_level)))
        if found == 0:
            return -math.inf
        # Of logarithms, which rise almost in a straight line.
        return math.inf if math.isnan(found) else math.log(found / wanted)

    low, high = 0.0, 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        while beyond(high) <= 0:
            if high >= _LEAST_LOG_LEVEL:
                return math.exp(-_LEAST_LOG_LEVEL)
            low, high = high, 2 * high
        return math.exp(-min(solve(beyond, low, high, 1e-12), _LEAST_LOG_LEVEL))


def equivalence(
    table: Table,
    margin: float,
    groups: Groups | None = None,
    alpha: float = 0.05,
    bounds: tuple[float, float] = (-1.0, 1.0),
    *,
    baseline: Table | None = None,
    labels: Groups | None = None,
) -> Equivalence:
    """Tests whether the mean of `table` minus `baseline` is nearer to zero than `margin`.

    Two one-sided tests (Schuirmann 1987): that the mean is -margin or less, and that it is margin
    or more, each at `alpha`. Each p-value is half of the two-sided level of
    `crossed_random_effects` at which the interval ends at that margin; the p-value is the larger
    one. No correction for two tests is due, since both have to be rejected.

    Without variance, with n units equal to c: for a mean as large as the margin m, a share
    q = (m - c) / (bound - c) of units has to differ, and none among n has probability (1 - q)^n.

    Raises ValueError for a margin that is not above zero, and as `crossed_random_effects` does.
    """
    parts = variance_estimates(table, groups, baseline=baseline, labels=labels)
    return equivalence_result(parts, margin, alpha, bounds)


def equivalence_result(
    parts: VarianceEstimates,
    margin: float,
    alpha: float = 0.05,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> Equivalence:
    """`equivalence` from the parts of the variance of one experiment."""
    if margin <= 0:
        raise ValueError(f"got the margin {margin}, expected one above zero")
    mirrored = replace(parts, mean=-parts.mean)
    p_value = max(
        one_sided_p(parts, -margin, bounds),
        one_sided_p(mirrored, -margin, (-bounds[1], -bounds[0])),
    )
    if parts.has_variance:
        half = float(half_width(parts, 2 * alpha))
        low, high = parts.mean - half, parts.mean + half
    else:
        units = parts.effective_units
        low, high, _ = _interval_without_variance(parts.mean, units, 1 - 2 * alpha, bounds)
    ci90 = max(low, bounds[0]), min(high, bounds[1])
    return Equivalence(margin, p_value, ci90, p_value < alpha)


def one_sided_p(
    parts: VarianceEstimates, threshold: float, bounds: tuple[float, float] = (-1.0, 1.0)
) -> float:
    """The p-value of the hypothesis that the true mean is `threshold` or less.

    bounds: the smallest and the largest value that a mean difference can have

    Half of the two-sided level of `crossed_random_effects` at which the interval ends at the
    threshold; 1 minus that where the mean lies below it.

    Without variance, with n units equal to c: for a mean as low as the threshold t, a share
    q = (c - t) / (c - bound) of units has to differ, and none among n has probability (1 - q)^n.
    """
    above = parts.mean - threshold
    if parts.has_variance:
        half = two_sided_level(parts, abs(above)) / 2
        return half if above > 0 else 1 - half
    if above <= 0 or threshold <= bounds[0]:
        return float(above <= 0)
    return float((1 - above / (parts.mean - bounds[0])) ** parts.effective_units)


def lower_limit(
    parts: VarianceEstimates, alpha: float = 0.05, bounds: tuple[float, float] = (-1.0, 1.0)
) -> float:
    """The threshold at which `one_sided_p` is alpha, or the smallest value that a mean can have."""
    if not parts.has_variance:
        units = parts.effective_units
        return _interval_without_variance(parts.mean, units, 1 - 2 * alpha, bounds)[0]
    return max(float(parts.mean) - float(half_width(parts, 2 * alpha)), bounds[0])


def _interval_without_variance(
    value: float, units: float, confidence: float, bounds: tuple[float, float]
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
    highest = math.log(largest)
    return math.exp(solve(lambda x: t_upper(tail, math.exp(x)) - quantile, highest - 12.0, highest))
