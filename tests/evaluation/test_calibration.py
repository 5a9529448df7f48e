"""ECE, reliability, risk against coverage: by hand, scikit-learn and data whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from tutelage.core.errors import DataError, UsageError
from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.evaluation.calibration import (
    ConfidenceTable,
    calibration,
    confidence_table,
    ece_of,
    expected_calibration_error,
    reliability_curve,
    risk_coverage,
)

TASK = Task("yes or no", ("text",), ("yes", "no"))


def answer(uid: str, label: str, confidence: float, gold: str = "yes") -> Prediction:
    other = "no" if label == "yes" else "yes"
    return Prediction(uid, label, {label: confidence, other: 1 - confidence}, gold)


def simulated(rows: int, seeds: int, over: float = 0.0) -> ConfidenceTable:
    """Answers that are right with a chance `over` below their confidence."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, (rows, seeds))
    right = (rng.random((rows, seeds)) < confidence - over).astype(float)
    return ConfidenceTable(confidence, right, None)


def table(confidence: list[float], correct: list[float]) -> ConfidenceTable:
    return ConfidenceTable(np.array(confidence)[:, None], np.array(correct)[:, None], None)


def test_confidence_is_that_of_the_predicted_label_whatever_the_order() -> None:
    one = [answer("a", "yes", 0.9), answer("b", "no", 0.7)]
    two = [answer("b", "yes", 0.6), answer("a", "yes", 0.8)]
    found = confidence_table({1: one, 0: two}, TASK, {"a": "p", "b": "q"})
    assert found.confidence.tolist() == [[0.6, 0.7], [0.8, 0.9]]
    assert found.correct.tolist() == [[1, 0], [1, 1]]
    assert found.groups == ("q", "p")


def test_predictions_without_probabilities_are_refused() -> None:
    with pytest.raises(DataError, match="got None as the probability of the predicted label 'yes'"):
        confidence_table({0: [Prediction("a", "yes", {}, "yes")]}, TASK)
    with pytest.raises(DataError, match=r"got 1\.5"):
        confidence_table({0: [answer("a", "yes", 1.5)]}, TASK)
    with pytest.raises(UsageError, match="at least one seed"):
        confidence_table({}, TASK)


def test_ece_by_hand() -> None:
    # Bins of a half: (0, .5]: 0.4 wrong, 0.5 right; (.5, 1]: 0.9 right, 0.7 wrong, 1.0 right.
    # |(-0.4 + 0.5)| + |(0.1 - 0.7 + 0)| = 0.1 + 0.6, over 5
    confidence, correct = np.array([0.4, 0.5, 0.9, 0.7, 1.0]), np.array([0.0, 1, 1, 0, 1])
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx(0.7 / 5)


def test_ece_is_the_weighted_gap_of_scikit_learns_curve() -> None:
    answers = simulated(500, 1)
    confidence, correct = answers.confidence[:, 0], answers.correct[:, 0]
    share, mean = calibration_curve(correct, confidence, n_bins=10)
    counts = np.histogram(confidence, bins=10, range=(0, 1))[0]
    referee = (np.abs(share - mean) * counts[counts > 0]).sum() / 500
    assert expected_calibration_error(confidence, correct, bins=10) == pytest.approx(referee)


def test_a_calibrated_model_is_at_its_floor_and_an_overconfident_one_above() -> None:
    good, bold = calibration(simulated(600, 4)), calibration(simulated(600, 4, over=0.1))
    assert good.ece == pytest.approx(good.ece_if_calibrated, rel=0.35)
    assert good.gap_ci95[0] < 0 < good.gap_ci95[1]
    assert bold.ece > 2 * bold.ece_if_calibrated
    assert bold.gap == pytest.approx(0.1, abs=0.03) and bold.gap_ci95[0] > 0
    assert len(bold.ece_by_seed) == 4 and bold.ece == pytest.approx(np.mean(bold.ece_by_seed))


def test_the_interval_of_the_ece() -> None:
    answers = simulated(300, 3, over=0.15)
    found = calibration(answers)
    assert found.ece_ci95 is not None
    low, high = found.ece_ci95
    assert 0.05 < low < found.ece < high < 0.3
    assert found.ece_ci_method == "bootstrap by parts over 300 rows and 3 seeds, 1,000 resamples"
    assert calibration(answers) == found  # whatever was drawn meanwhile
    # Resampled rows are rows that come more than once.
    weights = np.random.default_rng(1).integers(0, 3, 300)
    again = np.repeat(np.arange(300), weights)
    each = [
        expected_calibration_error(c, r)
        for c, r in zip(answers.confidence[again].T, answers.correct[again].T, strict=True)
    ]
    drawn = ece_of(answers.confidence, answers.correct)(
        weights[None].astype(float), np.array([[2.0, 0.0, 1.0]])
    )
    assert drawn == pytest.approx([(2 * each[0] + each[2]) / 3])
    twice = ConfidenceTable(
        np.repeat(answers.confidence, 2, axis=0),
        np.repeat(answers.correct, 2, axis=0),
        tuple(i // 2 for i in range(600)),
    )
    clustered = calibration(twice)
    assert clustered.ece_ci95 == pytest.approx(found.ece_ci95)
    assert "300 groups of rows" in clustered.ece_ci_method


def test_an_ece_without_variance_has_no_interval() -> None:
    found = calibration(table([0.8] * 30, [1] * 30))
    assert (found.ece, found.ece_ci95) == (pytest.approx(0.2), None)
    assert found.ece_ci_method == "no interval: no variance to be seen over 30 rows"


def test_brier_by_hand() -> None:
    assert calibration(table([0.9, 0.6], [1, 0])).brier == pytest.approx((0.01 + 0.36) / 2)


def test_reliability_in_bins_of_equally_many() -> None:
    answers = simulated(400, 3)
    curve = reliability_curve(answers, bins=5)
    assert [bin_.answers for bin_ in curve] == [240] * 5
    assert all(a.high <= b.low for a, b in itertools.pairwise(curve))
    weights = [bin_.answers * bin_.accuracy for bin_ in curve]
    assert sum(weights) / 1200 == pytest.approx(answers.correct.mean())
    assert sum(bin_.ci95[0] <= bin_.confidence <= bin_.ci95[1] for bin_ in curve) >= 4
    assert sum(b.ci95[0] > b.confidence for b in reliability_curve(simulated(400, 3, -0.15))) >= 3


def test_equal_confidences_stay_together() -> None:
    curve = reliability_curve(table([0.6] * 7 + [0.9] * 3, [1, 0] * 5), bins=5)
    assert [(bin_.low, bin_.answers) for bin_ in curve] == [(0.6, 7), (0.9, 3)]


def test_risk_against_coverage_by_hand() -> None:
    answers = table([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    curve = risk_coverage(answers, coverages=(0.25, 0.5, 0.75, 1))
    assert [p.risk for p in curve.points] == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert [p.threshold for p in curve.points] == [0.9, 0.8, 0.7, 0.6]
    assert curve.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert curve.area_by_chance == 1 / 2


def test_ties_are_covered_in_shares() -> None:
    # Half of four rows: 0.9 and a third of the tie, of which two of three are wrong.
    answers = table([0.5, 0.9, 0.5, 0.5], [0, 1, 0, 1])
    [point] = risk_coverage(answers, coverages=(0.5,)).points
    assert point.risk == pytest.approx((2 / 3) / 2)
    turned = table([0.5, 0.5, 0.5, 0.9], [1, 0, 0, 1])
    assert risk_coverage(turned).area == pytest.approx(risk_coverage(answers).area)


def test_confidence_that_tells_something_lowers_the_risk() -> None:
    curve = risk_coverage(simulated(600, 3))
    risks = [point.risk for point in curve.points]
    assert risks == sorted(risks) and curve.area < 0.7 * curve.area_by_chance
    assert all(p.ci95[0] <= p.risk <= p.ci95[1] for p in curve.points)
    with pytest.raises(ValueError, match="coverages"):
        risk_coverage(simulated(10, 1), coverages=(0,))
