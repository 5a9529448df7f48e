"""Makes the servers of the teacher's tests importable for the tests of doctor, and measures no
trainings where a test is about something else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.planning import duration
from tutelage.student.jobs.measuring import TrainingCost

sys.path.append(str(Path(__file__).parents[1] / "teacher"))

_MEASURE = duration.measure
_COST = TrainingCost(
    start=1.0, encoded_row=0.0, step=0.1, scored_row=0.01, merged=0.0, saved_model=0.1,
    saved_state=0.1, written_row=0.1, memory_bytes=10**9,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def made_up(recipe: Any, splits: Any, ledger: Any = None) -> duration.Measured:
        kinds = {duration._kind(recipe, arm) for arm in recipe.arms}
        return duration.Measured(dict.fromkeys(kinds, _COST), 2, False)

    monkeypatch.setattr(duration, "measure", made_up)


@pytest.fixture
def unpatched_measure() -> Callable[..., duration.Measured]:
    """The measurement itself."""
    return _MEASURE
