"""Intervals over rows and seeds for quantities that have no formula: macro F1, calibration, …

Rows (or the groups they share) and seeds are drawn again, with replacement and independently: the
pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1). Its percentiles are too narrow
where seeds are few, since three seeds drawn again are never further apart than they were; so the
interval rests on its variances, each part with the t quantile of its own number of units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.evaluation.crossed import (
    MeanSquares,
    half_width,
    standard_error,
    two_sided_level,
)
from tutelage.evaluation.numeric import Floats, Groups, group_index

Statistic = Callable[[Floats, Floats], Floats]
"""(row weights B × n, seed weights B × S) -> B values: how often each row and seed was drawn."""

_BATCH_CELLS = 2_000_000
"""Row weights held at once: 16 MB."""


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """A quantity, its interval over rows and seeds, and the test that it is zero.

    ci_low, ci_high, p_value: by parts, as in `crossed.crossed_random_effects`
    percentile:               the plain percentile interval, to see skewness by. Too narrow where
                              seeds are few
    """

    estimate: float
    standard_error: float
    ci_low: float
    ci_high: float
    p_value: float
    percentile: tuple[float, float]
    resamples: int
    method: str


def bootstrap(
    statistic: Statistic,
    rows: int,
    seeds: int,
    groups: Groups | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> BootstrapResult:
    """The statistic with all weights one, and its interval over rows (or groups) and seeds.

    With w and v the drawn weights of rows and seeds, T the statistic and 1 weights of one,

        R / (G S) = G/(G-1) Var T(w, 1)        C / (G S) = S/(S-1) Var T(1, v)
        E / (G S) = G/(G-1) S/(S-1) Var [T(w, v) - T(w, 1) - T(1, v) + T(1, 1)]

    for a mean these are, but for the draws, the mean squares of the table; for any other smooth
    quantity, those of its linear part. They go through the same interval as the primary test's.
    With one seed it speaks of these models only.

    statistic: called with B × n and B × S weights for any B; it gives B finite values.
    bounds:    the smallest and largest value that the quantity can have.

    Raises ValueError for less than two units, or a statistic that is not finite in some resample
    (a label that a resample may lack, say).
    """
    index = np.arange(rows) if groups is None else group_index(groups)
    if len(index) != rows:
        raise ValueError(f"got {len(index)} group keys for {rows} rows, expected one a row")
    units = int(index.max()) + 1 if rows else 0
    if units < 2 or seeds < 1 or resamples < 2:
        raise ValueError(
            f"got {units} units, {seeds} seeds and {resamples} resamples, expected at least two "
            "units, one seed and two resamples"
        )
    rng = np.random.default_rng(seed)
    values = []
    for start in range(0, resamples, batch := max(1, _BATCH_CELLS // rows)):
        size = min(batch, resamples - start)
        of_rows = _draw(rng, size, units)[:, index]
        of_seeds = _draw(rng, size, seeds)
        values.append(
            np.stack(
                [
                    statistic(of_rows, of_seeds),
                    statistic(of_rows, np.ones((size, seeds))),
                    statistic(np.ones((size, rows)), of_seeds),
                ]
            )
        )
    both, by_rows, by_seeds = np.concatenate(values, axis=1)
    estimate = float(statistic(np.ones((1, rows)), np.ones((1, seeds)))[0])
    if not (np.isfinite(both).all() and np.isfinite(by_rows).all() and np.isfinite(estimate)):
        raise ValueError("got a statistic that is not finite in some resample")

    scale, rows_factor = units * seeds, units / (units - 1)
    squares = MeanSquares(
        mean=estimate,
        rows=scale * rows_factor * float(by_rows.var()),
        seeds=0.0,
        error=0.0,
        units=units,
        columns=seeds,
    )
    unit = "rows" if groups is None else "groups of rows"
    method = f"bootstrap over {unit} of one seed: speaks of these models only, not of other seeds"
    if seeds > 1:
        seeds_factor = seeds / (seeds - 1)
        interaction = both - by_rows - by_seeds + estimate
        squares = MeanSquares(
            mean=estimate,
            rows=squares.rows,
            seeds=scale * seeds_factor * float(by_seeds.var()),
            error=scale * rows_factor * seeds_factor * float(interaction.var()),
            units=units,
            columns=seeds,
        )
        method = f"bootstrap by parts over {units:,} {unit} and {seeds} seeds"
    half = half_width(squares, 1 - confidence)
    tail = (1 - confidence) / 2
    low, high = np.quantile(both, [tail, 1 - tail])
    return BootstrapResult(
        estimate=estimate,
        standard_error=standard_error(squares),
        ci_low=max(estimate - half, bounds[0]),
        ci_high=min(estimate + half, bounds[1]),
        p_value=two_sided_level(squares, abs(estimate)),
        percentile=(float(low), float(high)),
        resamples=resamples,
        method=method,
    )


def mean_of(table: NDArray[Any]) -> Statistic:
    """The weighted mean of a rows × seeds table."""
    values = np.asarray(table, dtype=np.float64)

    def statistic(rows: Floats, seeds: Floats) -> Floats:
        totals = ((rows @ values) * seeds).sum(axis=1)
        mean: Floats = totals / (rows.sum(axis=1) * seeds.sum(axis=1))
        return mean

    return statistic


def macro_f1_of(gold: NDArray[Any], predicted: NDArray[Any], labels: int) -> Statistic:
    """Macro F1 of the confusion table summed over seeds, as `metrics.macro_f1` has it.

    gold: n numbers from 0 to labels - 1; predicted: n × S. A label that neither comes up nor is
    predicted in a resample is left out of that resample's mean.
    """
    truth, guess = np.asarray(gold)[:, None], np.asarray(predicted)
    hits = [np.float64((truth == label) & (guess == label)) for label in range(labels)]
    share = [np.float64(truth == label) + np.float64(guess == label) for label in range(labels)]

    def statistic(rows: Floats, seeds: Floats) -> Floats:
        scores = []
        for hit, total in zip(hits, share, strict=True):
            top = 2 * ((rows @ hit) * seeds).sum(axis=1)
            bottom = ((rows @ total) * seeds).sum(axis=1)
            with np.errstate(invalid="ignore"):
                scores.append(np.where(bottom > 0, top / bottom, np.nan))
        result: Floats = np.nanmean(np.stack(scores), axis=0)
        return result

    return statistic


def difference_of(first: Statistic, second: Statistic) -> Statistic:
    """One statistic minus another on the same rows; seeds are paired by their order."""
    return lambda rows, seeds: first(rows, seeds) - second(rows, seeds)


def _draw(rng: np.random.Generator, size: int, units: int) -> Floats:
    """How often each of `units` units is drawn in `units` draws, for `size` resamples."""
    drawn = rng.integers(0, units, (size, units)) + np.arange(size)[:, None] * units
    counts = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
    result: Floats = counts.astype(np.float64)
    return result
