"""The calibration rows of an export: how sure and how right it was on rows that chose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tutelage.config.escalation_settings import EscalationSettings
from tutelage.core.checkpoint_record import CheckpointRecord
from tutelage.core.errors import UsageError
from tutelage.core.export_record import ExportRecord
from tutelage.core.storage import read_json, write_json
from tutelage.core.types import Prediction
from tutelage.evaluation.promise import Kept, candidates, choose_threshold, why_not

CALIBRATION = "calibration.json"


def write_calibration(
    folder: Path, dev_confidence: Sequence[float], found: Sequence[Prediction]
) -> None:
    """Write what `keep_promise` reads: no texts, only how sure and how right.

    dev_confidence: of other rows, which fix the thresholds and their order
    found:          the export's own predictions of the calibration rows
    """
    write_json(
        folder / CALIBRATION,
        {
            "thresholds": candidates(dev_confidence),
            "confidence": [max(p.probabilities.values()) for p in found],
            "correct": [p.label == p.gold for p in found],
        },
    )


def chosen_threshold(
    folder: Path, record: CheckpointRecord | ExportRecord, settings: EscalationSettings
) -> tuple[float | None, Kept | None]:
    """The threshold that settings ask for, or else the export's own, and what keeps the promise.

    Raises UsageError as `keep_promise` does.
    """
    if settings.promise is not None:
        kept = keep_promise(folder, settings.promise)
        return kept.threshold, kept
    own = record.threshold if isinstance(record, ExportRecord) else None
    return own if settings.threshold is None else settings.threshold, None


def keep_promise(folder: Path, promise: float) -> Kept:
    """The threshold from which an export is right at least as often as promised, against gold
    labels (see `evaluation.promise`).

    Raises UsageError where the export has no calibration rows, or they do not prove the promise.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        raise UsageError(
            "--promise: this export has no calibration rows: set data.calibration in the recipe (a "
            "share of dev that chooses nothing), run it, and export again"
        )
    values = read_json(path)
    thresholds = [float(t) for t in values["thresholds"]]
    confidence, correct = np.array(values["confidence"]), np.array(values["correct"], dtype=bool)
    try:
        kept = choose_threshold(thresholds, confidence, correct, promise)
    except ValueError as error:
        raise UsageError(f"--promise: {error}") from error
    if kept is not None:
        return kept
    reason = why_not(thresholds, confidence, correct, promise)
    could = (
        "no promise of 50% or more can be kept"
        if reason.highest is None
        else f"the highest that can be kept is {reason.highest:g}"
    )
    needed = (
        "no threshold was right that often"
        if reason.rows is None
        else f"{promise:g} would need about {reason.rows:,} calibration rows"
    )
    raise UsageError(
        f"--promise: {promise:g} cannot be proved with {len(confidence):,} calibration rows: "
        f"{could}; {needed}"
    )
