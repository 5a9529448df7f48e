"""How well the label can be predicted from a rationale alone, corrected for leakage.

A rationale that says "so the answer is entailment" predicts its label without giving a reason. So
the label is predicted from the rationale as written and from the rationale with the label's words
masked. The predictions are those of a classifier that is trained elsewhere (`text_classifier`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.evaluation.crossed import CrossedResult, crossed_random_effects
from tutelage.evaluation.numeric import Floats, Groups


@dataclass(frozen=True, slots=True)
class PredictabilityResult:
    """Accuracy of predicting the label from the rationale alone, and its parts.

    as_written: accuracy on the rationales as they were written
    masked:     accuracy with the label's words masked
    majority:   accuracy without any rationale: the most frequent label
    leakage:    as_written - masked: what the label's own words give away
    gain:       masked - majority: what the rest of the rationale says about the label
    """

    as_written: CrossedResult
    masked: CrossedResult
    majority: CrossedResult
    leakage: CrossedResult
    gain: CrossedResult


def label_predictability(
    as_written: NDArray[Any],
    masked: NDArray[Any],
    majority: NDArray[Any],
    groups: Groups | None = None,
) -> PredictabilityResult:
    """Accuracies and their differences, with intervals over rows (or groups) and seeds.

    as_written, masked, majority: rows × seeds of the classifier, 1 where it predicted the label
    from the rationale as written, from the rationale with the label's words masked, and from
    nothing. All cover the same rows: a missing rationale counts with what was predicted for it.

    Raises ValueError for tables of different shapes, or values other than 0 and 1.
    """
    tables = [_zeros_and_ones(table) for table in (as_written, masked, majority)]
    if len({table.shape for table in tables}) != 1:
        raise ValueError(
            f"got tables of shapes {[table.shape for table in tables]}, expected the same rows "
            "and seeds in each"
        )
    full, rest, nothing = tables
    fraction = (0.0, 1.0)
    return PredictabilityResult(
        as_written=crossed_random_effects(full, groups, bounds=fraction),
        masked=crossed_random_effects(rest, groups, bounds=fraction),
        majority=crossed_random_effects(nothing, groups, bounds=fraction),
        leakage=crossed_random_effects(full - rest, groups),
        gain=crossed_random_effects(rest - nothing, groups),
    )


def _zeros_and_ones(table: NDArray[Any]) -> Floats:
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or not np.isin(values, (0.0, 1.0)).all():
        raise ValueError("got a table whose values are not all 0 or 1, expected rows × seeds")
    return values
