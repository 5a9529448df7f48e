"""Do a model's probabilities mean what they say, and are its confident answers the right ones?

    confidence_table            predictions -> confidence and correctness, rows × seeds
    reliability_curve           accuracy by confidence, with intervals by cluster
    calibration                 the whole in numbers: ECE, the gap, Brier's score
    risk_coverage               errors among the most confident share of the rows

Confidence is the probability of the predicted label.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.core.errors import DataError, UsageError
from tutelage.core.results.measurements import (
    Calibration,
    ReliabilityBin,
    RiskAtCoverage,
    RiskCoverage,
)
from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.evaluation.bootstrap import Statistic, bootstrap
from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.metrics import by_uid, check_same_rows, group_keys
from tutelage.evaluation.numeric import Floats, Ints
from tutelage.evaluation.ratio import ratio_of_means

_SIMULATIONS = 200


@dataclass(frozen=True, slots=True)
class ConfidenceTable:
    """Rows × seeds, the rows in one order, the seeds rising.

    groups: each row's unit; None where rows are independent
    """

    confidence: Floats
    correct: Floats
    groups: tuple[Hashable, ...] | None


def confidence_table(
    predictions_by_seed: Mapping[int, Sequence[Prediction]],
    task: Task,
    groups: Mapping[str, Hashable] | None = None,
) -> ConfidenceTable:
    """Confidence and correctness of one arm's predictions.

    Raises UsageError for no seeds; DataError as `metrics.evaluate` does, and for a prediction
    without a probability, between 0 and 1, of the label that it predicts.
    """
    if not predictions_by_seed:
        raise UsageError("got no predictions to calibrate, expected those of at least one seed")
    seeds = sorted(predictions_by_seed)
    tables = {seed: by_uid(predictions_by_seed[seed], f"seed {seed}", task) for seed in seeds}
    first = tables[seeds[0]]
    for seed in seeds[1:]:
        check_same_rows(first, f"seed {seeds[0]}", tables[seed], f"seed {seed}")
    uids = list(first)
    answers = [[tables[seed][uid] for seed in seeds] for uid in uids]
    for row in answers:
        for prediction in row:
            value = prediction.probabilities.get(prediction.label)
            if value is None or not -1e-6 <= value <= 1 + 1e-6:
                raise DataError(
                    f"row {prediction.uid!r}: got {value} as the probability of the predicted "
                    f"label {prediction.label!r}, expected one between 0 and 1: score it again"
                )
    return ConfidenceTable(
        confidence=np.array([[p.probabilities[p.label] for p in row] for row in answers]),
        correct=np.array([[float(p.label == p.gold) for p in row] for row in answers]),
        groups=None if groups is None else tuple(group_keys(uids, groups)),
    )


def reliability_curve(table: ConfidenceTable, bins: int = 10) -> list[ReliabilityBin]:
    """Accuracy by confidence in bins of equally many answers, lowest first.

    Answers of equal confidence stay together, so there may be fewer bins than asked for. The
    interval is that of a ratio of means over rows × seeds (`ratio.ratio_of_means`).
    """
    edges = np.quantile(table.confidence, np.linspace(0, 1, bins + 1)[1:-1])
    place = np.searchsorted(np.unique(edges), table.confidence, side="left")
    curve = []
    for number in np.unique(place):
        inside = (place == number).astype(np.float64)
        confidence = table.confidence[inside == 1]
        accuracy = ratio_of_means(table.correct * inside, inside, table.groups, bounds=(0.0, 1.0))
        curve.append(
            ReliabilityBin(
                low=float(confidence.min()),
                high=float(confidence.max()),
                answers=int(inside.sum()),
                confidence=float(confidence.mean()),
                accuracy=accuracy.estimate,
                ci95=(accuracy.ci_low, accuracy.ci_high),
            )
        )
    return curve


def expected_calibration_error(confidence: Floats, correct: Floats, bins: int = 15) -> float:
    """Σ_b |Σ_{i in b} (correct_i - confidence_i)| / n over bins of equal width (Guo et al. 2017).

    One model's n answers; a bin is (k / bins, (k + 1) / bins], as theirs are. It is biased upwards:
    chance alone sets a bin's accuracy off its confidence. See `Calibration.ece_if_calibrated`.
    """
    place = _bin(confidence, bins)
    return float(np.abs(np.bincount(place, correct - confidence, bins)).sum() / len(correct))


def ece_of(confidence: Floats, correct: Floats, bins: int = 15) -> Statistic:
    """The mean over seeds of their `expected_calibration_error`, for `bootstrap.bootstrap`.

    confidence, correct: rows × seeds.
    """
    rows, seeds = confidence.shape
    gaps = np.zeros((rows, seeds, bins))
    np.put_along_axis(
        gaps, _bin(confidence, bins)[:, :, None], (correct - confidence)[:, :, None], axis=2
    )
    flat = gaps.reshape(rows, seeds * bins)

    def statistic(of_rows: Floats, of_seeds: Floats) -> Floats:
        off = np.abs((of_rows @ flat).reshape(len(of_rows), seeds, bins)).sum(axis=2)
        by_seed = off / of_rows.sum(axis=1, keepdims=True)
        mean: Floats = (by_seed * of_seeds).sum(axis=1) / of_seeds.sum(axis=1)
        return mean

    return statistic


def _bin(confidence: Floats, bins: int) -> Ints:
    place: Ints = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return place


def calibration(table: ConfidenceTable, bins: int = 15, seed: int = 0) -> Calibration:
    """ECE with its interval and its floor, the signed gap with its interval, and Brier's score of
    the confidence.

    The floor is the mean over 200 simulations from `seed`, rows taken as independent.
    """
    confidence, correct = np.clip(table.confidence, 0, 1), table.correct
    by_seed = tuple(
        expected_calibration_error(c, r, bins) for c, r in zip(confidence.T, correct.T, strict=True)
    )
    rng = np.random.default_rng(seed)
    each = -(-_SIMULATIONS // confidence.shape[1])
    by_chance = [
        expected_calibration_error(c, (rng.random(len(c)) < c).astype(np.float64), bins)
        for c in confidence.T
        for _ in range(each)
    ]
    rows, seeds = confidence.shape
    drawn = bootstrap(
        ece_of(confidence, correct, bins), rows, seeds, table.groups, bounds=(0.0, 1.0)
    )
    gap = crossed_random_effects(confidence - correct, table.groups)
    return Calibration(
        ece=float(np.mean(by_seed)),
        ece_by_seed=by_seed,
        ece_ci95=drawn.ci95,
        ece_ci_method=drawn.method,
        ece_if_calibrated=float(np.mean(by_chance)),
        gap=gap.estimate,
        gap_ci95=(gap.ci_low, gap.ci_high),
        brier=float(((confidence - correct) ** 2).mean()),
        bins=bins,
    )


def risk_coverage(
    table: ConfidenceTable, coverages: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
) -> RiskCoverage:
    """Errors among each seed's most confident answers (El-Yaniv and Wiener 2010).

    Answers of equal confidence are taken in shares, so that the order of rows does not matter: of
    a tie that is only partly covered, each answer counts by the covered part. The interval is that
    of a ratio of means over rows (or groups) × seeds, with each seed's threshold taken as given.
    The area is the mean of the risk over coverages 1/n, 2/n, …, 1, and over seeds.
    """
    if wrong := [coverage for coverage in coverages if not 0 < coverage <= 1]:
        raise ValueError(f"got coverages {wrong}, expected shares above 0 and at most 1")
    errors = 1 - table.correct
    points = []
    for coverage in coverages:
        taken, thresholds = _most_confident(table.confidence, coverage)
        risk = ratio_of_means(errors * taken, taken, table.groups, bounds=(0.0, 1.0))
        points.append(
            RiskAtCoverage(
                coverage, risk.estimate, (risk.ci_low, risk.ci_high), float(thresholds.mean())
            )
        )
    areas = [_area(c, e) for c, e in zip(table.confidence.T, errors.T, strict=True)]
    return RiskCoverage(tuple(points), float(np.mean(areas)), float(errors.mean()))


def _most_confident(confidence: Floats, coverage: float) -> tuple[Floats, Floats]:
    """How much of each answer is covered (rows × seeds, 0 to 1), and each seed's threshold."""
    rows = len(confidence)
    wanted = coverage * rows
    threshold = -np.sort(-confidence, axis=0)[min(rows - 1, int(np.ceil(wanted - 1e-9)) - 1)]
    above, level = confidence > threshold, confidence == threshold
    part = (wanted - above.sum(axis=0)) / level.sum(axis=0)
    taken: Floats = above + level * np.clip(part, 0, 1)
    return taken, threshold


def _area(confidence: Floats, errors: Floats) -> float:
    """Mean risk over coverages k / n, each tie's errors spread evenly over its places."""
    _, place, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    spread = (np.bincount(place, errors) / counts).repeat(counts)
    return float((np.cumsum(spread) / np.arange(1, len(errors) + 1)).mean())
