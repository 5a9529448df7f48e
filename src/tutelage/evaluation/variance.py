"""Estimates the variance of a mean over rows × seeds, from rows, seeds and residue separately.

    of_units            a rows × seeds table -> the values of its units (rows, or groups of rows)
    variance_of_mean    units' values of one arm, or of two -> the parts of the mean's variance
    variance_estimates  both, from tables

All functions work on the last two axes, so that a simulation can pass many tables at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.evaluation.numeric import Floats, Groups, Ints, effective_groups, shared_groups

Table = Sequence[Sequence[float]] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class VarianceEstimates:
    """A mean over rows × seeds (of one arm, or of an arm minus another), and its variance's parts.

    Of a single experiment the fields are floats; of many at once, arrays of one shape.

    mean:    the grand mean, of the first arm minus that of the second
    rows:    variance of the units' values, each a mean over the seeds, divided by the number of
             units. It contains the residue
    seeds:   of each arm: variance of its seeds' means, divided by its number of seeds. It contains
             the arm's residue; 0 with one seed
    residue: of each arm: mean square of what neither unit nor seed explains, divided by the number
             of values; 0 with one seed
    columns: of each arm: its number of seeds
    units:   number of units: rows, or groups of rows
    effective_units: n² / Σ m² over the units' numbers of rows m; `units` where all are equal
    grouped: whether units are groups of several rows
    """

    mean: Any
    rows: Any
    seeds: tuple[Any, ...]
    residue: tuple[Any, ...]
    columns: tuple[int, ...]
    units: int
    effective_units: float
    grouped: bool = False

    @property
    def one_seed(self) -> bool:
        """Whether some arm has a single seed, so that the seeds' part is unknown."""
        return min(self.columns) == 1

    @property
    def has_variance(self) -> bool:
        """Whether these data show any variance; always true of several units that differ."""
        return self.effective_units > 1 and max(self.rows, *self.seeds, *self.residue) > 0


def variance_estimates(
    table: Table, groups: Groups | None = None, *, baseline: Table | None = None
) -> VarianceEstimates:
    """The parts of the variance of a table's mean, or of its difference from a baseline's mean.

    table, baseline: rows × seeds; the same rows in the same order. The seeds of the two are not
    paired, and their numbers may differ.

    Data without variance (up to rounding), and a single unit, have parts of zero.
    Raises ValueError for an empty table, values that are not finite, tables of other rows, or keys
    of another length.
    """
    tables = [checked_table(each) for each in (table, baseline) if each is not None]
    rows = {len(each) for each in tables}
    if len(rows) > 1:
        raise ValueError(f"got tables of {len(tables[0])} and {len(tables[1])} rows")
    index = None if groups is None else shared_groups(groups, len(tables[0]))
    effective = effective_groups(index, len(tables[0]))
    units = [of_units(each, index) for each in tables]
    return variance_of_mean(units, effective, index is not None)


def of_units(table: Floats, index: Ints | None) -> Floats:
    """The values of the units: … × rows × seeds -> … × units × seeds.

    index: each row's group as a number from 0; None where the rows are the units

    A group's value is its linearised total m + (G / n) Σ_{i in g} (d_i - m), with m the seed's
    mean, n rows and G groups (Taylor linearisation of a ratio, as in cluster surveys: Cochran 1977,
    chapter 9). So a seed's mean over groups equals its mean over rows whatever the sizes.
    """
    if index is None:
        return table
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    means = table.mean(axis=-2, keepdims=True)
    totals = np.add.reduceat((table - means)[..., order, :], starts, axis=-2)
    values: Floats = means + totals * (len(starts) / len(index))
    return values


def variance_of_mean(
    units: Sequence[Floats],
    effective_units: float,
    grouped: bool = False,
    weights: Sequence[float] | None = None,
) -> VarianceEstimates:
    """The parts of the variance of the mean of one arm's units, or of the first minus the second.

    units:   of each arm an array … × units × seeds, as `of_units` makes them
    weights: of the arms' means in the mean: (1,) or (1, -1) where none are given. The parts of an
             arm's seeds and residue are multiplied by the square of its weight

    With y[g, s] an arm's value for unit g and seed s, S its seeds, G units and G* effective ones
    (`numeric.effective_groups`), a dot for a mean, and the second arm's values marked by ',

        rows       Σ_g (y[g, .] - y'[g, .] - mean)² / G²  ·  G* / (G* - 1)
        seeds      Σ_s (y[., s] - y[., .])² / (S (S - 1))                            for each arm
        residue    Σ_gs (y[g, s] - y[g, .] - y[., s] + y[., .])² / (G² S (S - 1))
                       ·  G* / (G* - 1)                                              for each arm

    The factor G* / (G* - 1) instead of G / (G - 1): over groups of m rows that are independent
    within a group, the sum of squares about the mean is expected to be n σ² (1 - Σ m² / n²). Where
    the rows of a group agree it is lower still; the degrees of freedom allow for that (`crossed`).
    """
    weights = weights or (1.0, -1.0)[: len(units)]
    means = [each.mean(axis=-1) for each in units]
    of_rows = sum(weight * each for weight, each in zip(weights, means, strict=True))
    count = of_rows.shape[-1]
    mean = of_rows.mean(axis=-1)
    scale = effective_units / max(effective_units - 1, 1e-12) / count**2
    rows = scale * _squares(of_rows - mean[..., None])
    seeds, residue = [], []
    for each, over_seeds, weight in zip(units, means, weights, strict=True):
        columns = each.shape[-1]
        by_seed = each.mean(axis=-2)
        of_seeds = by_seed - by_seed.mean(axis=-1, keepdims=True)
        left = each - over_seeds[..., None] - of_seeds[..., None, :]
        pairs = max(columns * (columns - 1), 1)
        factor = weight**2 / pairs
        seeds.append(factor * _squares(of_seeds))
        residue.append(factor * scale * _squares(left.reshape(*left.shape[:-2], -1)))
    tiny = (1e-12 * np.maximum(1.0, np.max([np.abs(each).max() for each in units]))) ** 2
    if count == 1 or np.max([rows, *seeds, *residue]) <= tiny:
        rows, seeds = 0 * rows, [0 * each for each in seeds]
        residue = [0 * each for each in residue]
    single = mean.ndim == 0
    return VarianceEstimates(
        mean=float(mean) if single else mean,
        rows=float(rows) if single else rows,
        seeds=tuple(float(each) if single else each for each in seeds),
        residue=tuple(float(each) if single else each for each in residue),
        columns=tuple(each.shape[-1] for each in units),
        units=count,
        effective_units=effective_units,
        grouped=grouped,
    )


def _squares(values: Floats) -> Any:
    return np.einsum("...i,...i->...", values, values)


def checked_table(table: Table) -> Floats:
    """A rows × seeds table as an array of floats; ValueError for any other shape or value."""
    values: Floats = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"got shape {values.shape}, expected rows × seeds, neither zero")
    if not np.isfinite(values).all():
        raise ValueError("got values that are not finite")
    return values
