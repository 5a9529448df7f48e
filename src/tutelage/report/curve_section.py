"""Arranges the learning curve for the report: what more rows bring, next to explanations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tutelage.core.results import (
    CurveAnnotation,
    CurveArm,
    CurveDifference,
    CurvePoint,
    Results,
)
from tutelage.core.wording import percent, points_interval


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One arm on one fraction of the rows, as a table shows it.

    difference: from labels alone; None for labels alone and control arms
    annotation: what the explanations of these rows took; None likewise
    """

    arm: CurveArm
    fraction: float
    rows: int
    difference: CurveDifference | None
    annotation: CurveAnnotation | None


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The curves of a run.

    points:    in rising order of rows; the last is on all rows
    baseline:  the arm that differences are from; None where there are none
    drawn:     the arms in the figure: the baseline and the treatment arms
    sentences: how many rows explanations were worth, where the curves show it
    """

    points: Sequence[CurvePoint]
    baseline: str | None
    drawn: tuple[str, ...]
    sentences: tuple[str, ...]

    @property
    def dev_rows(self) -> int:
        """The number of rows that every point was evaluated on."""
        return self.points[-1].dev_rows

    @property
    def test(self) -> str | None:
        """How the intervals of the differences were computed; None where there are none."""
        return next((d.test for point in self.points for d in point.differences), None)

    @property
    def rows(self) -> list[CurveRow]:
        """Arm by arm, each in rising order of rows."""
        names = [arm.name for arm in self.points[-1].arms]
        return [self._row(point, name) for name in names for point in self.points]

    def _row(self, point: CurvePoint, name: str) -> CurveRow:
        return CurveRow(
            next(arm for arm in point.arms if arm.name == name),
            point.fraction,
            point.rows,
            next((each for each in point.differences if each.arm == name), None),
            next((each for each in point.annotation if each.arm == name), None),
        )

    def of(self, name: str) -> list[tuple[int, CurveArm]]:
        """One arm's curve: (training rows, its scores)."""
        return [(row.rows, row.arm) for row in self.rows if row.arm.name == name]


def learning_curve(results: Results) -> LearningCurve | None:
    """The curves of a run; None for a run without fractions."""
    points = results.learning_curve
    if not points:
        return None
    differences = points[-1].differences
    baseline = differences[0].baseline if differences else None
    compared = {baseline, *(d.arm for d in differences)}
    names = [arm.name for arm in points[-1].arms]
    drawn = tuple(name for name in names if name in compared) if differences else tuple(names)
    curve = LearningCurve(points, baseline, drawn, ())
    return LearningCurve(points, baseline, drawn, tuple(_rows_saved(curve)))


def _rows_saved(curve: LearningCurve) -> Iterator[str]:
    """A sentence for each point of a treatment arm that differs from the baseline (its interval
    excludes zero) and whose accuracy the baseline's curve reaches between two of its points."""
    if curve.baseline is None:
        return
    reached = [(rows, arm.dev_accuracy) for rows, arm in curve.of(curve.baseline)]
    for row in curve.rows:
        if row.difference is None or row.difference.ci95[0] <= 0 <= row.difference.ci95[1]:
            continue
        level = row.arm.dev_accuracy
        crossing = rows_at(reached, level)
        if crossing is not None:
            yield (
                f"{row.arm.name} reaches {percent(level)} with {row.rows:,} rows, for which "
                f"{curve.baseline} needs about {float(f'{crossing:.2g}'):,.0f} rows (difference at "
                f"{row.rows:,} rows: {points_interval(row.difference.ci95)} points)."
            )


def rows_at(curve: Sequence[tuple[int, float]], level: float) -> float | None:
    """The number of rows at which a curve first reaches `level`, interpolated between two of its
    points, linearly in the logarithm of the rows.

    curve: (rows, accuracy), in rising order of rows

    None where the curve starts above the level or never reaches it: there is no extrapolation.
    """
    if not curve or curve[0][1] > level:
        return None
    for (rows, low), (more, high) in pairwise(curve):
        if low <= level <= high and low < high:
            share = (level - low) / (high - low)
            return math.exp(math.log(rows) + share * (math.log(more) - math.log(rows)))
    return None
