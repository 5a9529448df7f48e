"""Estimates the variance of a mean over rows × seeds, from rows, seeds and residue separately.

    of_units            a rows × seeds table -> the values of its units (rows, or groups of rows)
    variance_of_arm     units' values of one arm -> the parts of its seeds and residue
    variance_of_mean    one arm, or two -> the parts of the variance of the mean, or of a difference
    variance_of_contrasts  many weighted sums of the same arms at once
    variances_of_arms   tables of several arms -> the parts of each
    variance_estimates  all of these, from tables
    seeds_share         how much of one arm's variance comes from its seeds

All functions work on the last two axes, so that a simulation can pass many tables at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.evaluation.balanced import balanced_tables
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
    table: Table,
    groups: Groups | None = None,
    *,
    baseline: Table | None = None,
    labels: Groups | None = None,
) -> VarianceEstimates:
    """The parts of the variance of a table's mean, or of its difference from a baseline's mean.

    table, baseline: rows × seeds; the same rows in the same order. The seeds of the two are not
    paired, and their numbers may differ.
    labels:          each row's gold label, for the mean to be balanced accuracy (`balanced`)

    Data without variance (up to rounding), and a single unit, have parts of zero.
    Raises ValueError for an empty table, values that are not finite, tables of other rows, or keys
    of another length; as `balanced_tables` does for labels.
    """
    tables = [each for each in (table, baseline) if each is not None]
    return variance_of_mean(*variances_of_arms(tables, groups, labels))


def variances_of_arms(
    tables: Sequence[Table], groups: Groups | None = None, labels: Groups | None = None
) -> tuple[list[ArmVariance], bool]:
    """Each arm's parts of the variance, and whether the units are groups of several rows.

    tables: of each arm, rows × seeds; the same rows in the same order
    labels: each row's gold label, for the means to be balanced accuracies; else they are those of
            the tables

    Raises ValueError as `variance_estimates` does.
    """
    checked = [checked_table(each) for each in tables]
    if len({len(each) for each in checked}) > 1:
        numbers = " and ".join(str(len(each)) for each in checked)
        raise ValueError(f"got tables of {numbers} rows, expected the same rows in each")
    index = None if groups is None else shared_groups(groups, len(checked[0]))
    effective = effective_groups(index, len(checked[0]))
    if labels is not None:
        checked, effective = balanced_tables(checked, labels, index)
    return [variance_of_arm(of_units(each, index), effective) for each in checked], (
        index is not None
    )


def seeds_share(
    table: Table, groups: Groups | None = None, labels: Groups | None = None
) -> float | None:
    """The share of the variance of a table's mean that comes from its seeds, 0 to 1.

    labels: as in `variance_estimates`

    With r, c and e the parts `rows`, `seeds` and `residue`: max(c - e, 0) / (max(r, e) + max(c - e,
    0)). None with one seed, or where the data show no variance.
    """
    parts = variance_estimates(table, groups, labels=labels)
    if parts.one_seed or not parts.has_variance:
        return None
    of_seeds = max(parts.seeds[0] - parts.residue[0], 0.0)
    return float(of_seeds / (max(parts.rows, parts.residue[0]) + of_seeds))


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
    # With the rows last, whose sums are over neighbours in memory.
    by_seed = np.ascontiguousarray(table.swapaxes(-1, -2))
    means = by_seed.mean(axis=-1, keepdims=True)
    totals = np.add.reduceat(by_seed[..., order], starts, axis=-1)
    sizes = np.diff(starts, append=len(index))
    values: Floats = means + (totals - sizes * means) * (len(starts) / len(index))
    return values.swapaxes(-1, -2)


@dataclass(frozen=True, slots=True)
class ArmVariance:
    """What one arm adds to the variance of a mean: of one experiment, or of many at once.

    by_unit: … × units, means over the seeds
    seeds, residue: as in `VarianceEstimates`
    scale:   G* / (G* - 1) / G², see `variance_of_mean`
    tiny:    a variance below which there is only rounding
    """

    by_unit: Floats
    seeds: Any
    residue: Any
    columns: int
    effective_units: float
    scale: float
    tiny: float


def variance_of_arm(units: Floats, effective_units: float) -> ArmVariance:
    """The seeds' and the residue's part of one arm; units: … × units × seeds, from `of_units`."""
    count, columns = units.shape[-2:]
    scale = effective_units / max(effective_units - 1, 1e-12) / count**2
    by_unit, by_seed = units.mean(axis=-1), units.mean(axis=-2)
    of_seeds = by_seed - by_seed.mean(axis=-1, keepdims=True)
    rest = units - by_unit[..., None] - of_seeds[..., None, :]
    pairs = max(columns * (columns - 1), 1)
    return ArmVariance(
        by_unit=by_unit,
        seeds=(of_seeds**2).sum(axis=-1) / pairs,
        residue=scale * (rest**2).sum(axis=(-2, -1)) / pairs,
        columns=columns,
        effective_units=effective_units,
        scale=scale,
        tiny=(1e-12 * max(1.0, float(np.abs(units).max()))) ** 2,
    )


def variance_of_mean(
    arms: Sequence[ArmVariance], grouped: bool = False, weights: Sequence[float] | None = None
) -> VarianceEstimates:
    """The parts of the variance of the mean of one arm, or of the first minus the second.

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
    weights = weights or (1.0, -1.0)[: len(arms)]
    by_unit = sum(weight * arm.by_unit for weight, arm in zip(weights, arms, strict=True))
    count = arms[0].by_unit.shape[-1]
    mean = np.asarray(by_unit).mean(axis=-1)
    rows = arms[0].scale * ((by_unit - mean[..., None]) ** 2).sum(axis=-1)
    seeds = [weight**2 * arm.seeds for weight, arm in zip(weights, arms, strict=True)]
    residue = [weight**2 * arm.residue for weight, arm in zip(weights, arms, strict=True)]
    if count == 1 or np.max([rows, *seeds, *residue]) <= max(arm.tiny for arm in arms):
        rows, seeds = 0 * rows, [0 * each for each in seeds]
        residue = [0 * each for each in residue]
    single = mean.ndim == 0
    return VarianceEstimates(
        mean=float(mean) if single else mean,
        rows=float(rows) if single else rows,
        seeds=tuple(float(each) if single else each for each in seeds),
        residue=tuple(float(each) if single else each for each in residue),
        columns=tuple(arm.columns for arm in arms),
        units=count,
        effective_units=arms[0].effective_units,
        grouped=grouped,
    )


def variance_of_contrasts(
    arms: Sequence[ArmVariance], weights: Floats, grouped: bool = False
) -> VarianceEstimates:
    """`variance_of_mean` for several weighted sums of the same arms: arrays of … × sums.

    weights: sums × arms

    The rows' part of a sum with weights w is w' R w, where R holds the arms' variances and
    covariances over units; so R is computed once for all sums.
    """
    by_unit = np.stack(
        [arm.by_unit - arm.by_unit.mean(axis=-1, keepdims=True) for arm in arms], axis=-2
    )
    means = np.stack([arm.by_unit.mean(axis=-1) for arm in arms], axis=-1)
    covariances = arms[0].scale * (by_unit @ by_unit.swapaxes(-1, -2))
    rows = np.maximum(((weights @ covariances) * weights).sum(axis=-1), 0.0)
    seeds = [weights[:, a] ** 2 * np.asarray(arm.seeds)[..., None] for a, arm in enumerate(arms)]
    residue = [
        weights[:, a] ** 2 * np.asarray(arm.residue)[..., None] for a, arm in enumerate(arms)
    ]
    # Up to rounding, as in `variance_of_mean`. Of the product of sums, it is larger.
    rounding = max(arm.tiny for arm in arms) + 1e-14 * np.einsum("...aa->...", covariances)
    none = np.max([rows, *seeds, *residue], axis=0) <= rounding[..., None]
    count = by_unit.shape[-1]
    none |= count == 1
    return VarianceEstimates(
        mean=means @ weights.T,
        rows=np.where(none, 0.0, rows),
        seeds=tuple(np.where(none, 0.0, each) for each in seeds),
        residue=tuple(np.where(none, 0.0, each) for each in residue),
        columns=tuple(arm.columns for arm in arms),
        units=count,
        effective_units=arms[0].effective_units,
        grouped=grouped,
    )


def checked_table(table: Table) -> Floats:
    """A rows × seeds table as an array of floats; ValueError for any other shape or value."""
    values: Floats = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"got shape {values.shape}, expected rows × seeds, neither zero")
    if not np.isfinite(values).all():
        raise ValueError("got values that are not finite")
    return values
