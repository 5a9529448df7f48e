"""Computes intervals over rows and seeds for quantities without a formula: macro F1, ECE.

Rows (or groups of rows) and seeds are resampled with replacement, independently of each other: the
pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1). Its percentiles are too narrow
where seeds are few, since three resampled seeds are never further apart than the three were. So the
interval uses its variances, each component with the t quantile of its own number of units.

A mean has a formula (`crossed.crossed_random_effects`), which also covers the case that all values
are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.evaluation.crossed import half_width, standard_error
from tutelage.evaluation.metrics import by_uid, group_keys
from tutelage.evaluation.numeric import Floats, Groups, effective_groups, shared_groups
from tutelage.evaluation.variance import VarianceEstimates

Statistic = Callable[[Floats, Floats], Floats]
"""(row weights B × n, seed weights B × S) -> B values. A weight is how often the row or seed was
drawn. Either argument may have one line instead of B, which then holds for all."""

RESAMPLES = 1000

_BATCH_CELLS = 2_000_000
"""Row weights held in memory at a time: 16 MB."""

_NO_VARIANCE = 1e-12


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """A quantity and its interval over rows and seeds.

    ci95:   by variance components, as in `crossed.crossed_random_effects`; None where there is none
    method: how it was computed, or why there is none, in words
    """

    estimate: float
    standard_error: float | None
    ci95: tuple[float, float] | None
    method: str


def bootstrap(
    statistic: Statistic,
    rows: int,
    seeds: int,
    groups: Groups | None = None,
    *,
    bounds: tuple[float, float],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> BootstrapResult:
    """The statistic with all weights equal to one, and its interval over rows (or groups), seeds.

    With w and v the drawn weights of rows and seeds, T the statistic and 1 weights of one,

        rows = G*/(G*-1) Var T(w, 1)        seeds = S/(S-1) Var T(1, v)
        residue = G*/(G*-1) S/(S-1) Var [T(w, v) - T(w, 1) - T(1, v) + T(1, 1)]

    (G* effective groups.) For a mean these are, up to the random draws, the parts that
    `variance.variance_of_mean` computes; for any other smooth quantity, those of its linear part.
    The interval is computed from them as in the primary test. With one seed it applies to these
    models only.

    bounds: the smallest and the largest value that the quantity can have
    seed:   of the draws: the same seed gives the same interval, whatever was drawn before

    Degenerate cases, without an interval: one unit; and resamples that all give the same value (for
    example, no prediction is wrong). No variance is then seen, which does not mean that there is
    none: an interval of width zero would say that more rows could not change anything.

    Raises ValueError for no rows or seeds, less than two resamples, keys of another length, or a
    statistic that is not finite in some resample.
    """
    if rows < 1 or seeds < 1 or resamples < 2:
        raise ValueError(
            f"got {rows} rows, {seeds} seeds and {resamples} resamples, expected at least one row, "
            "one seed and two resamples"
        )
    index = None if groups is None else shared_groups(groups, rows)
    units = rows if index is None else int(index.max()) + 1
    unit = "rows" if index is None else "groups of rows"
    one_row, one_seed = np.ones((1, rows)), np.ones((1, seeds))
    estimate = float(statistic(one_row, one_seed)[0])
    if units < 2:
        why = "no interval: all rows are one group" if rows > 1 else "no interval: a single row"
        return BootstrapResult(estimate, None, None, why)

    rng = np.random.default_rng(seed)
    values = []
    for start in range(0, resamples, batch := max(1, _BATCH_CELLS // rows)):
        size = min(batch, resamples - start)
        of_rows = _draw(rng, size, units)
        if index is not None:
            of_rows = of_rows[:, index]
        of_seeds = _draw(rng, size, seeds)
        weights = (of_rows, of_seeds), (of_rows, one_seed), (one_row, of_seeds)
        values.append(np.stack([statistic(*pair) for pair in weights]))
    both, by_rows, by_seeds = np.concatenate(values, axis=1)
    if not np.isfinite(both + by_rows + by_seeds + estimate).all():
        raise ValueError("got a statistic that is not finite in some resample")

    effective = effective_groups(index, rows)
    rows_factor = effective / (effective - 1)
    of_seeds_only = of_residue = 0.0
    method = f"bootstrap over {unit} of one seed: applies to these models only, not to other seeds"
    if seeds > 1:
        seeds_factor = seeds / (seeds - 1)
        interaction = both - by_rows - by_seeds + estimate
        of_seeds_only = seeds_factor * float(by_seeds.var())
        of_residue = rows_factor * seeds_factor * float(interaction.var())
        method = f"bootstrap of variance components over {units:,} {unit} and {seeds} seeds"
    parts = VarianceEstimates(
        mean=estimate,
        rows=rows_factor * float(by_rows.var()),
        seeds=(of_seeds_only,),
        residue=(of_residue,),
        columns=(seeds,),
        units=units,
        effective_units=effective,
    )
    error = float(standard_error(parts))
    if error <= _NO_VARIANCE:
        why = f"no interval: no variance over {units:,} {unit}"
        return BootstrapResult(estimate, None, None, why)
    half = float(half_width(parts, 0.05))
    ci95 = max(estimate - half, bounds[0]), min(estimate + half, bounds[1])
    return BootstrapResult(estimate, error, ci95, f"{method}, {resamples:,} resamples")


def macro_f1_of(gold: NDArray[Any], predicted: NDArray[Any], labels: int) -> Statistic:
    """Macro F1 of the confusion table summed over seeds, as `metrics.macro_f1` has it.

    gold:      n label numbers from 0 to labels - 1
    predicted: n × S label numbers

    A label that neither occurs nor is predicted in a resample is left out of that resample's mean.
    """
    truth, guess = np.asarray(gold)[:, None], np.asarray(predicted)
    seeds = guess.shape[1]
    hits = [np.float64((truth == label) & (guess == label)) for label in range(labels)]
    share = [np.float64(truth == label) + np.float64(guess == label) for label in range(labels)]
    counts = np.concatenate([*hits, *share], axis=1)

    def statistic(rows: Floats, of_seeds: Floats) -> Floats:
        table = (rows @ counts).reshape(len(rows), 2, labels, seeds)
        top, bottom = np.moveaxis((table * of_seeds[:, None, None, :]).sum(axis=3), 1, 0)
        with np.errstate(invalid="ignore"):
            scores = np.where(bottom > 0, 2 * top / bottom, np.nan)
        result: Floats = np.nanmean(scores, axis=1)
        return result

    return statistic


def macro_f1_interval(
    predictions_by_seed: Mapping[int, Sequence[Prediction]],
    task: Task,
    groups: Mapping[str, Hashable] | None = None,
) -> BootstrapResult:
    """`Evaluation.macro_f1` with its interval over rows (or groups) and seeds.

    The predictions are those that `metrics.evaluate` has checked.
    """
    tables = [
        by_uid(predictions_by_seed[s], f"seed {s}", task) for s in sorted(predictions_by_seed)
    ]
    uids = list(tables[0])
    number = {label: place for place, label in enumerate(task.labels)}
    gold = np.array([number[tables[0][uid].gold] for uid in uids])
    predicted = np.array([[number[table[uid].label] for table in tables] for uid in uids])
    return bootstrap(
        macro_f1_of(gold, predicted, len(number)),
        len(uids),
        len(tables),
        None if groups is None else group_keys(uids, groups),
        bounds=(0.0, 1.0),
    )


def _draw(rng: np.random.Generator, size: int, units: int) -> Floats:
    """How often each of `units` units is drawn in `units` draws, for `size` resamples."""
    drawn = rng.integers(0, units, (size, units)) + np.arange(size)[:, None] * units
    counts = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
    result: Floats = counts.astype(np.float64)
    return result
