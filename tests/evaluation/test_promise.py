"""A promised accuracy is kept: 2,000 simulated splits with known true accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tutelage.evaluation.promise import (
    candidates,
    choose_threshold,
    rows_to_begin,
    why_not,
)

PROMISE, ROWS, SPLITS = 0.9, 1000, 2000
MOST_BROKEN = 131
"""A procedure on the boundary of 5% breaks it more often once in a thousand times."""

Accuracy = Callable[[np.ndarray], np.ndarray]


def flat(confidence: np.ndarray) -> np.ndarray:
    """Right just less often than promised, at every confidence: whatever is chosen is wrong."""
    return np.full_like(confidence, PROMISE - 1e-9)


def falling(confidence: np.ndarray) -> np.ndarray:
    """Kept rows are right as often as promised where exactly half of them are kept."""
    return 0.8 + 0.2 * confidence - (0.8 + 0.2 * 0.75 - PROMISE)


def _true_accuracy(accuracy: Accuracy, threshold: float) -> float:
    grid = np.linspace(threshold, 1, 2001)
    return float(accuracy(grid).mean())


def _broken(accuracy: Accuracy, models: int = 1, seed: int = 7) -> tuple[int, int]:
    """(splits where the promise is broken, splits with a threshold).

    models: candidates of a search that the same rows chose among
    """
    random = np.random.default_rng(seed)
    broken = found = 0
    for _ in range(SPLITS):
        thresholds = candidates(random.random(300))
        confidence = random.random(ROWS)
        correct = random.random((models, ROWS)) < accuracy(confidence)
        best = correct[correct.mean(axis=1).argmax()]
        chosen = choose_threshold(thresholds, confidence, best, PROMISE)
        if chosen is not None:
            found += 1
            broken += _true_accuracy(accuracy, chosen.threshold) < PROMISE
    return broken, found


@pytest.mark.parametrize("accuracy", [flat, falling])
def test_the_promise_is_broken_in_at_most_5_percent_of_splits(accuracy: Accuracy) -> None:
    broken, _ = _broken(accuracy)
    assert broken <= MOST_BROKEN


def test_rows_that_chose_among_90_candidates_break_it() -> None:
    broken, _ = _broken(flat, models=90)
    assert broken > MOST_BROKEN


def test_a_threshold_is_found_where_half_the_rows_exceed_the_promise_by_3_points() -> None:
    def better(confidence: np.ndarray) -> np.ndarray:
        return 0.76 + (0.93 - 0.76) / 0.75 * confidence

    assert _true_accuracy(better, 0.5) == pytest.approx(PROMISE + 0.03, abs=1e-3)
    broken, found = _broken(better)
    assert found >= 0.8 * SPLITS and broken <= MOST_BROKEN


def test_the_start_leaves_room_for_errors() -> None:
    assert rows_to_begin(0.97) > math.log(0.05) / math.log(0.97) > 98
    confidence = np.linspace(0.5, 1, 400)
    correct = np.ones(400, dtype=bool)
    correct[[3, 200]] = False
    kept = choose_threshold([0.99, 0.7, 0.6, 0.5], confidence, correct, 0.95)
    assert kept is not None and (kept.threshold, kept.rows, kept.errors) == (0.5, 400, 2)
    assert kept.share == 1.0
    # Nothing can be proved of so few rows, whatever they say.
    assert choose_threshold([0.5], confidence[:40], correct[200:240], 0.97) is None


def test_the_sequence_ends_at_its_first_failure() -> None:
    confidence = np.concatenate([np.full(200, 0.9), np.full(200, 0.8), np.full(2000, 0.7)])
    correct = np.concatenate([np.full(200, True), np.arange(200) % 2 == 0, np.full(2000, True)])
    kept = choose_threshold([0.9, 0.8, 0.7], confidence, correct, 0.95)
    # 0.7 would pass by itself (100 errors in 2,400) but is begun at by no sequence that fails.
    assert kept is not None and kept.threshold == 0.9


def test_a_refusal_names_what_could_be_promised_and_the_rows_that_are_needed() -> None:
    random = np.random.default_rng(0)
    confidence = random.random(500)
    correct = random.random(500) < 0.93
    thresholds = [0.8, 0.5, 0.2]
    assert choose_threshold(thresholds, confidence, correct, 0.95) is None
    reason = why_not(thresholds, confidence, correct, 0.95)
    assert reason.highest is not None and 0.9 <= reason.highest < 0.95
    assert choose_threshold(thresholds, confidence, correct, reason.highest) is not None
    assert reason.rows is None or reason.rows > 500
    assert why_not(thresholds, confidence, correct, 0.995).rows is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        choose_threshold(thresholds, confidence, correct, 1.0)
