"""What several tests share: where the recorded data are, and small recipes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a hub


@pytest.fixture
def shared_data() -> Path:
    """The folder of recorded data, which is no part of the project."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("TUTELAGE_SHARED_DATA", root / "../shared/data"))
    if not (folder / "esnli").is_dir():
        pytest.skip(f"no recorded data in {folder} (set TUTELAGE_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def small_recipe() -> Callable[..., dict[str, Any]]:
    """A recipe of seconds: tiny data, a tiny student, two seeds."""

    def make(**changes: Any) -> dict[str, Any]:
        reasoning = {"strategy": "informed_reasoning"}
        return {
            "name": "small",
            "data": {
                "train": "synthetic:nli?n=90&seed=1",
                "dev": "synthetic:nli?n=30&seed=2",
                "test": "synthetic:nli?n=45&seed=3",
            },
            "teacher": "scripted",
            "student": {
                "model": "scratch:t5-tiny",
                "epochs": 2,
                "batch_size": 16,
                "warmup_steps": 2,
                "evaluate_every": 3,
            },
            "arms": [
                {"name": "labels"},
                {"name": "reasoning", **reasoning},
                {"name": "reasoning-shuffled", **reasoning, "control": "shuffled"},
            ],
            "search": {"learning_rate": [1e-3, 3e-3], "label_weight": [0.3]},
            "seeds": [0, 1],
            **changes,
        }

    return make
