"""What rationales are worth: how well the label is predicted from them, corrected for leakage.

A rationale that says "so the answer is entailment" predicts its label without a reason. So it is
predicted from the rationale alone, as written and with the label's words masked, by a predictor
that somebody else trained and scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.evaluation.crossed import CrossedResult, crossed_random_effects
from tutelage.evaluation.numeric import Floats, Groups


@dataclass(frozen=True, slots=True)
class RationaleWorth:
    """Accuracy of predicting the label from the rationale alone, and what of it is left.

    as_written, masked: accuracies, the second with the label's words masked
    without:    accuracy without any rationale: the majority class
    leaked:     as_written - masked: what the label's own words gave away
    worth:      masked - without: what the rest of the rationale tells of the label
    """

    as_written: CrossedResult
    masked: CrossedResult
    without: CrossedResult
    leaked: CrossedResult
    worth: CrossedResult


def rationale_worth(
    as_written: NDArray[Any],
    masked: NDArray[Any],
    without: NDArray[Any],
    groups: Groups | None = None,
) -> RationaleWorth:
    """Accuracies and their differences, with intervals over rows (or groups) and seeds.

    as_written, masked, without: rows × seeds of the predictor, 1 where it got the label right from
    the rationale as written, from the one with the label's words masked, and from nothing. They
    cover the same rows: a rationale that is missing counts as what was predicted for it.

    Raises ValueError for tables of different shapes, or values other than 0 and 1.
    """
    tables = [_zeros_and_ones(table) for table in (as_written, masked, without)]
    if len({table.shape for table in tables}) != 1:
        raise ValueError(
            f"got tables of shapes {[table.shape for table in tables]}, expected the same rows "
            "and seeds in each"
        )
    full, rest, nothing = tables
    share = (0.0, 1.0)
    return RationaleWorth(
        as_written=crossed_random_effects(full, groups, bounds=share),
        masked=crossed_random_effects(rest, groups, bounds=share),
        without=crossed_random_effects(nothing, groups, bounds=share),
        leaked=crossed_random_effects(full - rest, groups),
        worth=crossed_random_effects(rest - nothing, groups),
    )


def _zeros_and_ones(table: NDArray[Any]) -> Floats:
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or not np.isin(values, (0.0, 1.0)).all():
        raise ValueError("got a table that is not rows × seeds of 0 and 1")
    return values
