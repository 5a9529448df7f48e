"""Promises are kept by rows that chose nothing, or refused with what could be promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from tutelage.config.serve_settings import ServeSettings
from tutelage.core.errors import UsageError
from tutelage.core.types import Prediction
from tutelage.deliver.kept_promise import keep_promise, write_calibration


def predictions(count: int, wrong_below: float) -> list[Prediction]:
    found = []
    for i in range(count):
        confidence = 0.5 + 0.5 * i / count
        gold = "b" if confidence < wrong_below and i % 2 else "a"
        shares = {"a": confidence, "b": 1 - confidence}
        found.append(Prediction(str(i), "a", shares, gold))
    return found


def test_a_promise_is_kept_by_the_loosest_threshold_that_is_proved(tmp_path: Path) -> None:
    dev = [0.5 + 0.5 * i / 1000 for i in range(1000)]
    write_calibration(tmp_path, dev, predictions(1000, 0.6))
    kept = keep_promise(tmp_path, 0.97)
    # Deciles of dev are 0.55, 0.60, …; below 0.6 half of the answers are wrong.
    assert kept.threshold == pytest.approx(0.6, abs=0.001)
    assert kept.rows == pytest.approx(800, abs=2) and kept.errors <= 1
    assert kept.share == pytest.approx(0.8, abs=0.002)


def test_a_promise_that_cannot_be_proved_is_refused_with_what_could_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no calibration rows: set data\.calibration"):
        keep_promise(tmp_path, 0.9)
    dev = [0.5 + 0.5 * i / 100 for i in range(100)]
    write_calibration(tmp_path, dev, predictions(100, 0.6))
    with pytest.raises(UsageError, match=r"highest that can be kept is 0\.\d+; 0\.99 would need"):
        keep_promise(tmp_path, 0.99)
    write_calibration(tmp_path, dev, predictions(100, 1.1))
    with pytest.raises(UsageError, match="no threshold was right that often"):
        keep_promise(tmp_path, 0.9)


def test_a_threshold_and_a_promise_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="both choose the threshold"):
        ServeSettings(threshold=0.5, promise=0.9)
