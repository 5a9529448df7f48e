"""Accuracy against cost where a teacher answers the rows that the student is not sure of.

A pure function of what either answers: row for row, the student's answer from the threshold on, and
the teacher's below it. Where the teacher's answer names no label, the student's stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """Student and teacher together at one threshold.

    threshold:  rows whose confidence is below it go to the teacher
    asked:      share of the rows that do
    unanswered: share of the rows that do and have no label from it
    accuracy:   of all rows
    usd:        US dollars for 1,000 rows; None where no price is known
    """

    threshold: float
    asked: float
    unanswered: float
    accuracy: float
    usd: float | None


@dataclass(frozen=True, slots=True)
class Alone:
    """One of the two that answers every row.

    accuracy: an answer without a label counts as wrong
    ci95:     its interval, over groups of rows where rows share one
    usd:      US dollars for 1,000 rows; None where no price is known
    """

    accuracy: float
    ci95: tuple[float, float]
    usd: float | None


@dataclass(frozen=True, slots=True)
class TestedThreshold:
    """The chosen threshold on the test set.

    point:    there
    student:  accuracy of the student alone on the same rows
    gain:     `point.accuracy` minus `student`
    ci95:     of the gain, over groups of rows where rows share one
    time:     when the test set was first opened for it
    """

    rows: int
    point: FrontierPoint
    student: float
    gain: float
    ci95: tuple[float, float]
    time: str


@dataclass(frozen=True, slots=True)
class Frontier:
    """What a teacher's help costs a student's user, and what it is worth.

    model:       the student's folder in the run; model_sha256: its digest
    teacher:     its model
    temperature: by which the student's scores are divided, fitted on dev as an export's is
    rows:        of dev
    student, teacher_alone: each answering all of them
    points:      every threshold that changes an answer, the lowest first
    chosen:      one of them; `rule` says why
    test:        None where it was not asked for
    others:      other thresholds that this run's test set was opened for, as the manifest has them
    notes:       what a reader should know, one sentence each
    """

    name: str
    model: str
    model_sha256: str
    teacher: str
    temperature: float
    rows: int
    student: Alone
    teacher_alone: Alone
    points: tuple[FrontierPoint, ...]
    chosen: FrontierPoint
    rule: str
    test: TestedThreshold | None = None
    others: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    format: int = 1


def thresholds_between(confidence: Sequence[float]) -> list[float]:
    """0 (the student answers all rows), and one threshold between each two neighbouring values,
    the last one above all of them (the teacher is asked about all rows).

    In the middle between two values, so that another engine's rounding changes no answer.
    """
    values = np.unique(np.asarray(confidence, dtype=np.float64))
    ends = np.append(values[1:], 1.0)
    return [0.0, *(float(t) for t in (values + ends) / 2 if t > values[0])]


def right_together(
    threshold: float,
    confidence: Floats,
    student_right: Flags,
    teacher_right: Flags,
    unanswered: Flags,
) -> Flags:
    """Rows on which student and teacher together are right; arguments as in `point_at`."""
    below = confidence < threshold
    return np.where(below & ~unanswered, teacher_right, student_right)


def point_at(
    threshold: float,
    confidence: Floats,
    student_right: Flags,
    teacher_right: Flags,
    unanswered: Flags,
    usd: Floats | None,
) -> FrontierPoint:
    """Student and teacher together on rows.

    teacher_right: of each row; looked at only below the threshold
    unanswered:    rows for which the teacher names no label
    usd:           what the teacher's answer costs, for each row
    """
    below = confidence < threshold
    right = right_together(threshold, confidence, student_right, teacher_right, unanswered)
    return FrontierPoint(
        threshold=float(threshold),
        asked=float(below.mean()),
        unanswered=float((below & unanswered).mean()),
        accuracy=float(right.mean()),
        usd=None if usd is None else float(1000 * np.where(below, usd, 0.0).mean()),
    )


def choose_point(
    points: Sequence[FrontierPoint], most_usd: float | None = None
) -> FrontierPoint | None:
    """The most accurate point, of equally accurate ones the one that asks least.

    most_usd: US dollars for 1,000 rows, at most; points of unknown cost are left out then
    """
    able = [p for p in points if most_usd is None or (p.usd is not None and p.usd <= most_usd)]
    return max(able, key=lambda p: (p.accuracy, -p.asked), default=None)
