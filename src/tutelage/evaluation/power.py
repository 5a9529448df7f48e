"""Power analysis: the difference that an experiment can detect, from its design or its data.

    Design, expected_variance  rows, groups, seeds, disagreement, seed SDs -> parts of the variance
    balanced_design            the same design, about balanced accuracy
    design_of                  the design estimated from an earlier experiment
    power_of                   probability that the primary test detects a difference
    detectable_difference      the difference that it detects with a given probability
    detectable_range           the same, where few seeds show little of how seeds vary
    seeds_needed               the number of seeds that detects a given difference

The power is that of the primary test itself (`crossed.half_width`), not of a similar t-test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tutelage.evaluation.balanced import effective_units, row_weights
from tutelage.evaluation.crossed import half_width, welch_degrees_of_freedom
from tutelage.evaluation.numeric import Floats, Groups, effective_groups, group_index, solve
from tutelage.evaluation.variance import Table, VarianceEstimates, variance_estimates

_SEED_POINTS, _ROW_POINTS, _ROW_POINTS_OF_ONE_SEED = 40, 4, 2000
"""Numbers of quantiles of each part to average the power over; rows are many, seeds are few."""


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
    inflation:     variance that the rows add, as a multiple of what they would add to an accuracy:
                   for balanced accuracy the mean of w² (`balanced.row_weights`), rows in
                   proportion to their disagreement. 1 for accuracy
    unit_share:    effective units of the test, as a share of those of an accuracy's
                   (`balanced.effective_units`)
    """

    group_sizes: Sequence[int]
    seeds: int
    disagreement: float
    seed_sd: float
    repeated: float = 0.5
    within_group: float = 0.1
    inflation: float = 1.0
    unit_share: float = 1.0

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
        if not self.inflation > 0 or not 0 < self.unit_share <= 1:
            problems.append(
                "an inflation above 0 and a share of units above 0 and at most 1, got "
                f"{self.inflation} and {self.unit_share}"
            )
        if problems:
            raise ValueError("expected " + "; ".join(problems))


def balanced_design(design: Design, labels: Groups, groups: Groups) -> Design:
    """The same design about balanced accuracy, if the rows of all labels disagree alike.

    labels, groups: of each test row; two units of each label or more
    """
    plain = effective_groups(group_index(groups), len(groups))
    return replace(
        design,
        inflation=float((row_weights(labels) ** 2).mean()),
        unit_share=min(1.0, effective_units(labels, groups) / plain),
    )


def expected_variance(design: Design) -> VarianceEstimates:
    """The expected parts of the variance of an experiment with this design.

    With n rows, D the disagreement (the variance of a difference that is -1, 0 or 1 and has a small
    mean), f its repeated share, S seeds of each arm, and the design effect of clusters

        deff = 1 + within_group (Σ m² / n - 1)          over group sizes m (Kish 1965)

    times `inflation`, the residue of the two arms together is (1 - f) D deff / (n S), half of it
    from each arm; rows, which contain the residue, are f D deff / n more; and the seeds of each
    arm, which contain the arm's residue, are seed_sd² / S more. So rows + seeds - residue is

        f D deff / n + (1 - f) D deff / (n S) + 2 seed_sd² / S
    """
    sizes = np.asarray(design.group_sizes, dtype=np.float64)
    rows, seeds = float(sizes.sum()), design.seeds
    effective = rows**2 / float((sizes**2).sum())
    effect = 1 + design.within_group * (rows / effective - 1)
    per_row = design.disagreement * design.inflation * effect / rows
    residue = (1 - design.repeated) * per_row / seeds
    of_rows = design.repeated * per_row + residue
    # With one seed, neither the variance of seeds nor the residue can be separated from rows.
    of_seeds = residue / 2 + design.seed_sd**2 / seeds if seeds > 1 else 0.0
    each = residue / 2 if seeds > 1 else 0.0
    return VarianceEstimates(
        mean=0.0,
        rows=of_rows,
        seeds=(of_seeds, of_seeds),
        residue=(each, each),
        columns=(seeds, seeds),
        units=len(sizes),
        effective_units=max(design.unit_share * effective, 1.0),
        grouped=len(sizes) < rows,
    )


def design_of(
    arm: Table, baseline: Table, groups: Groups | None = None, *, labels: Groups | None = None
) -> Design:
    """The design estimated from two arms' correctness (rows × seeds, 1 or 0, as many seeds each).

    labels: the gold label of each row, where the experiment is about balanced accuracy

    The inverse of `expected_variance` by the method of moments, with shares clamped to [0, 1]. A
    seed SD from few seeds is a rough estimate. With one seed, `repeated` is 1 and `seed_sd` is 0,
    since they cannot be estimated. Raises ValueError where no row differs, or all rows are of one
    group.
    """
    first, second = np.asarray(arm, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    rows = len(first)
    # The mean over all pairs of a seed of one arm and a seed of the other.
    one, other = first.mean(axis=1), second.mean(axis=1)
    by_row = one * (1 - other) + other * (1 - one)
    disagreement = float(by_row.mean())
    if disagreement == 0:
        raise ValueError("got arms that agree on every row, expected some that differ")
    parts = variance_estimates(first, groups, baseline=second, labels=labels)
    plain, inflation = effective_groups(None if groups is None else group_index(groups), rows), 1.0
    if labels is not None:
        inflation = float((row_weights(labels) ** 2 * by_row).mean()) / disagreement
    sizes = (1,) * len(first) if groups is None else tuple(Counter(groups).values())
    seeds = parts.columns[0]
    residue = sum(parts.residue)
    repeats = max(parts.rows - residue, 0.0)
    spread = repeats + seeds * residue
    effect = spread * rows / (disagreement * inflation)
    weighted = rows / plain
    seed_variance = seeds * max(sum(parts.seeds) - residue, 0.0) / 2
    return Design(
        group_sizes=sizes,
        seeds=seeds,
        disagreement=disagreement,
        seed_sd=math.sqrt(seed_variance),
        repeated=repeats / spread if spread else 1.0,
        within_group=min(max((effect - 1) / (weighted - 1), 0.0), 1.0) if weighted > 1 else 0.0,
        inflation=inflation,
        unit_share=min(parts.effective_units / plain, 1.0),
    )


def power_of(parts: VarianceEstimates, difference: float, alpha: float = 0.05) -> float:
    """The probability that the primary test at level `alpha` detects a true `difference`.

    parts: expected parts of the variance, or those of an experiment; `mean` is not used. Seeds or
           rows below the residue are raised to it, since an expectation cannot be lower

    The average of P(|N(difference, Var(mean))| > h) over the distributions of each arm's seeds
    (chi² with S - 1 degrees of freedom) and of rows (G* - 1), at midpoint quantiles. The residue
    has many degrees of freedom and is taken as known.
    """
    known = _possible(parts)
    return _power(_half_widths(known, alpha), _standard_deviation(known), difference)


def detectable_difference(
    parts: VarianceEstimates, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The true difference that the primary test at level `alpha` detects with probability `power`.

    Solves `power_of`(δ) = power, in the unit of the differences. For Holm's strictest step, divide
    alpha by the size of the family. None without variance, and where it is larger than 1, which no
    difference of two accuracies is. With one seed it is that of a t-test (Cohen 1988, chapter 2)
    and applies to fixed models.
    """
    if not 0 < alpha < power < 1:
        raise ValueError(f"got alpha {alpha} and power {power}, expected 0 < alpha < power < 1")
    if not parts.has_variance:
        return None
    known = _possible(parts)
    half, deviation = _half_widths(known, alpha), _standard_deviation(known)
    if _power(half, deviation, 1.0) < power:
        return None
    return solve(lambda delta: _power(half, deviation, delta) - power, 0.0, 1.0, 1e-4)


def detectable_range(
    parts: VarianceEstimates, alpha: float = 0.05, power: float = 0.8
) -> tuple[float | None, float | None]:
    """`detectable_difference` for seeds that vary as little, and as much, as the data may hide.

    With ν Welch's degrees of freedom, the seeds' parts are multiplied by ν / q, q the 90% and the
    10% quantile of chi²(ν): a range that holds the true detectable difference four times in five,
    as far as it depends on the seeds. The upper end is None where it is above 1. Both ends are
    `detectable_difference` itself with one seed, of which nothing is known.
    """
    if parts.one_seed or not parts.has_variance:
        size = detectable_difference(parts, alpha, power)
        return size, size
    from scipy.special import chdtri

    df = float(welch_degrees_of_freedom(parts.seeds, parts.columns))
    ends = []
    for tail in (0.1, 0.9):
        factor = df / float(chdtri(df, tail))
        moved = replace(parts, seeds=tuple(factor * part for part in parts.seeds))
        ends.append(detectable_difference(moved, alpha, power))
    return ends[0], ends[1]


MOST_SEEDS = 1000
"""More seeds than this are as good as none: what they do not detect, no number of seeds does."""


def seeds_needed(
    design: Design, difference: float, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """The smallest number of seeds, at least 2, with which `difference` is detected on these rows.

    None where MOST_SEEDS are not enough: the rows themselves leave too much to chance.
    """

    def detects(seeds: int) -> bool:
        size = detectable_difference(expected_variance(replace(design, seeds=seeds)), alpha, power)
        return size is not None and size <= difference

    if not detects(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if detects(middle) else (middle, high)
    return high


def _possible(parts: VarianceEstimates) -> VarianceEstimates:
    """The parts as expectations: rows and seeds are at least their residue."""
    seeds = tuple(max(c, e) for c, e in zip(parts.seeds, parts.residue, strict=True))
    return replace(parts, rows=max(parts.rows, sum(parts.residue)), seeds=seeds)


def _standard_deviation(parts: VarianceEstimates) -> float:
    return math.sqrt(parts.rows + sum(parts.seeds) - sum(parts.residue))


def _half_widths(parts: VarianceEstimates, alpha: float) -> Floats:
    """Possible half-widths of the test at level `alpha`, all equally likely."""
    points = _ROW_POINTS_OF_ONE_SEED if parts.one_seed else _ROW_POINTS
    rows = parts.rows * _mean_square_law(points, parts.effective_units - 1)
    seeds: tuple[Floats, ...] = tuple(np.zeros(1) for _ in parts.seeds)
    if not parts.one_seed:
        laws = [
            part * _mean_square_law(_SEED_POINTS, columns - 1)
            for part, columns in zip(parts.seeds, parts.columns, strict=True)
        ]
        rows, *seeds_of = np.meshgrid(rows, *laws, indexing="ij", sparse=True)
        seeds = tuple(seeds_of)
    widths: Floats = half_width(replace(parts, rows=rows, seeds=seeds), alpha)
    return widths


def _mean_square_law(points: int, df: float) -> Floats:
    """Quantiles of chi²(df) / df at the midpoints of `points` equal parts of probability."""
    from scipy.special import chdtri

    law: Floats = chdtri(df, (np.arange(points) + 0.5) / points) / df
    return law


def _power(half: Floats, deviation: float, difference: float) -> float:
    from scipy.special import ndtr

    above = ndtr((difference - half) / deviation)
    below = ndtr((-difference - half) / deviation)
    return float((above + below).mean())
