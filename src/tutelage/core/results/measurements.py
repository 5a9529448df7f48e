"""What statistics are reported of predictions: accuracy, differences, slices, calibration.

`tutelage.evaluation` computes these values; results.json holds them. Accuracies and differences are
fractions: 0.01 is one percentage point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Interval = tuple[float, float]
"""The lower and the upper end of a confidence interval."""


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Scores of one label, from the confusion matrix summed over the seeds.

    precision: TP / (TP + FP); None where the label was never predicted
    recall:    TP / (TP + FN); None where no row has the label
    f1:        2 TP / (2 TP + FP + FN); None where the label neither occurs nor is predicted
    support:   rows of this label, each counted once whatever the number of seeds
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of one arm's predictions on one set of rows.

    n:           rows
    seeds:       of the arm's students, in rising order
    accuracy:    mean over the seeds, a fraction
    accuracy_by_seed: fractions, in the order of `seeds`
    ci95:        95% interval of `accuracy`
    ci_method:   how `ci95` was computed, in words
    macro_f1:    mean F1 of the labels that have one; None where no label has
    labels:      the order of the rows and columns of `confusion`
    per_label:   label -> scores
    confusion:   counts, gold × predicted, summed over the seeds
    truncated:   rows whose input was cut for the student of at least one seed
    """

    n: int
    seeds: tuple[int, ...]
    accuracy: float
    accuracy_by_seed: tuple[float, ...]
    ci95: Interval
    ci_method: str
    macro_f1: float | None
    labels: tuple[str, ...]
    per_label: Mapping[str, LabelScores]
    confusion: tuple[tuple[int, ...], ...]
    truncated: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference in accuracy between two arms on the same rows: arm minus baseline.

    arm, baseline: their names
    difference:  a fraction
    ci95:        95% interval of the difference, not corrected for the number of comparisons
    p_value:     of the primary test, two-sided
    p_adjusted:  `p_value` after Holm's correction over the `family` comparisons made together
    test:        the primary test, in words
    minimum_detectable_difference: the true difference that this test detects in 80 of 100
                 experiments with mean squares like these, at the level 5% / family, which is Holm's
                 strictest step, so that it holds whatever the other comparisons show. None where no
                 standard error can be estimated, and where not even 100 points would be detected
    detectable_range: the same difference if the seeds vary as little, and as much, as so few may
                 hide: it holds the true value four times in five. The upper end is None where not
                 even 100 points would be detected; both are where nothing can be estimated
    n:           rows
    groups:      units of the test: rows, or groups of rows that share a context
    effective_groups: n² / Σ m² over groups of m rows, n in all: as many groups of equal size weigh
                 as much. `groups` where all are of one size
    few_groups:  a warning: there are so few effective groups that a true null hypothesis may be
                 rejected in up to 8% of experiments instead of 5%
    seeds:       of each arm
    family:      comparisons that are corrected together
    standard_error: of the difference; None where the data show no variance
    degrees_of_freedom: those whose t quantile turns the standard error into `ci95`; None as above
    only_arm_right_by_seed, only_baseline_right_by_seed: rows that one of the two alone predicts
                 correctly, for each pair of seeds
    mcnemar_p_by_seed: exact McNemar p-value of each pair of fixed models; it does not generalise to
                 other seeds
    equivalence_margin: differences nearer to zero than this fraction are taken not to matter
    equivalence_p_value: of two one-sided tests that the true difference lies within the margin; not
                 corrected for the number of comparisons
    ci90:        the 90% interval that belongs to the equivalence test
    """

    arm: str
    baseline: str
    difference: float
    ci95: Interval
    p_value: float
    p_adjusted: float
    test: str
    minimum_detectable_difference: float | None
    detectable_range: tuple[float | None, float | None]
    n: int
    groups: int
    effective_groups: float
    few_groups: bool
    seeds: int
    family: int
    standard_error: float | None
    degrees_of_freedom: float | None
    only_arm_right_by_seed: tuple[int, ...]
    only_baseline_right_by_seed: tuple[int, ...]
    mcnemar_p_by_seed: tuple[float, ...]
    equivalence_margin: float
    equivalence_p_value: float
    ci90: Interval


@dataclass(frozen=True, slots=True)
class SliceAccuracy:
    """The accuracy of one arm on a slice of the rows.

    name:      of the slice
    n:         rows in it
    accuracy:  mean over the seeds, a fraction
    ci95:      its 95% interval, as in `Evaluation`
    ci_method: how the interval was computed, in words
    """

    name: str
    n: int
    accuracy: float
    ci95: Interval
    ci_method: str


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The predictions whose confidence lies in one part of the scale.

    low, high:  the smallest and the largest confidence among them, fractions
    answers:    predictions in the bin, counted over rows × seeds
    confidence: their mean confidence
    accuracy:   the fraction of them that is correct
    ci95:       95% interval of `accuracy`, over rows (or groups of rows) and seeds
    """

    low: float
    high: float
    answers: int
    confidence: float
    accuracy: float
    ci95: Interval


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidence and accuracy lie apart. Confidence: probability of the predicted label.

    ece:           expected calibration error, mean over the seeds, a fraction
    ece_by_seed:   the same for each seed
    ece_ci95:      95% interval of `ece` over rows (or groups of rows) and seeds; None where there
                   is none. It is an interval of the ECE as estimated from this many rows, upward
                   bias included
    ece_ci_method: how `ece_ci95` was computed, or why there is none
    ece_if_calibrated: the ECE that perfectly calibrated predictions with these confidences would
                   have on average with this many rows: the upward bias of the estimate
    gap:           mean confidence minus accuracy; above zero is overconfidence
    gap_ci95:      95% interval of `gap`
    brier:         mean squared difference between the confidence and 1 (correct) or 0 (wrong)
    bins:          bins of equal width that the ECE is computed over
    """

    ece: float
    ece_by_seed: tuple[float, ...]
    ece_ci95: Interval | None
    ece_ci_method: str
    ece_if_calibrated: float
    gap: float
    gap_ci95: Interval
    brier: float
    bins: int


@dataclass(frozen=True, slots=True)
class RiskAtCoverage:
    """The error rate among the most confident predictions.

    coverage:  the fraction of the rows that is answered, the most confident first
    risk:      the error rate among them, a fraction
    ci95:      95% interval of `risk`
    threshold: the smallest confidence that is answered, mean over the seeds
    """

    coverage: float
    risk: float
    ci95: Interval
    threshold: float


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The risk-coverage curve: error rate against the fraction of rows that is answered.

    points:         of the curve, in rising order of coverage
    area:           under the whole curve; lower is better
    area_by_chance: the area where confidence says nothing about correctness: the error rate
    """

    points: tuple[RiskAtCoverage, ...]
    area: float
    area_by_chance: float
