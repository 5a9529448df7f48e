"""What rationales are worth: how well the label is predicted from them, corrected for leakage.

A rationale that says "so the answer is entailment" predicts its label without a reason. Two
corrections are given, both from answers of a predictor that somebody else trained and scored:

    rationale_worth   the rationale alone, as written and with the label's words masked
    simulatability    the rationale beside the input, apart for rationales that leak and those
                      that do not (leakage-adjusted simulatability: Hase et al. 2020)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.evaluation.bootstrap import Statistic
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


@dataclass(frozen=True, slots=True)
class Simulatability:
    """What the rationale adds to the input, in accuracy.

    raw:        with the rationale minus without it, over all rows
    leaking, sound: the same over rows whose rationale alone gives the label, and over the others;
                None where there are no such rows
    adjusted:   the mean of the two with equal weight; None where one is missing
    leaking_share: of the answers
    """

    raw: float
    leaking: float | None
    sound: float | None
    adjusted: float | None
    leaking_share: float


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


def simulatability(
    with_rationale: NDArray[Any], input_alone: NDArray[Any], rationale_alone: NDArray[Any]
) -> Simulatability:
    """Leakage-adjusted simulatability from three tables of correctness (rows × seeds, 0 and 1).

    An answer leaks where the predictor gets the label from the rationale alone. The mean of
    (with_rationale - input_alone) is taken apart over leaking and other answers, and the two are
    averaged with equal weight. It has no formula for its error: `bootstrap.bootstrap` with
    `simulatability_of` gives one.
    """
    tables = [_zeros_and_ones(t) for t in (with_rationale, input_alone, rationale_alone)]
    if len({table.shape for table in tables}) != 1:
        raise ValueError(
            f"got tables of shapes {[table.shape for table in tables]}, expected the same rows "
            "and seeds in each"
        )
    gain, leaks = tables[0] - tables[1], tables[2] == 1
    leaking = float(gain[leaks].mean()) if leaks.any() else None
    sound = float(gain[~leaks].mean()) if not leaks.all() else None
    return Simulatability(
        raw=float(gain.mean()),
        leaking=leaking,
        sound=sound,
        adjusted=(leaking + sound) / 2 if leaking is not None and sound is not None else None,
        leaking_share=float(leaks.mean()),
    )


def simulatability_of(
    with_rationale: NDArray[Any], input_alone: NDArray[Any], rationale_alone: NDArray[Any]
) -> Statistic:
    """`Simulatability.adjusted` as a statistic for `bootstrap.bootstrap`.

    In a resample without a leaking answer, or without a sound one, it is the other's mean.
    """
    gain = _zeros_and_ones(with_rationale) - _zeros_and_ones(input_alone)
    leaks = _zeros_and_ones(rationale_alone)

    def statistic(rows: Floats, seeds: Floats) -> Floats:
        means = []
        for part in (leaks, 1 - leaks):
            answers = ((rows @ part) * seeds).sum(axis=1)
            total = ((rows @ (gain * part)) * seeds).sum(axis=1)
            means.append(np.where(answers > 0, total / np.maximum(answers, 1), np.nan))
        adjusted: Floats = np.nanmean(np.stack(means), axis=0)
        return adjusted

    return statistic


def _zeros_and_ones(table: NDArray[Any]) -> Floats:
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or not np.isin(values, (0.0, 1.0)).all():
        raise ValueError("got a table that is not rows × seeds of 0 and 1")
    return values
