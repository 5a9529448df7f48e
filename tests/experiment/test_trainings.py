"""As many trainings run at the same time as there are cores for, whatever the student."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe_file import parse_recipe
from tutelage.core.progress import Silent
from tutelage.experiment import trainings
from tutelage.experiment.prepare import load_splits
from tutelage.experiment.training_rows import TrainingRows
from tutelage.student.jobs import resources, worker
from tutelage.student.model.loading import load_student


class _Runner:
    def __init__(self, workers: int, report: object) -> None:
        self.workers = workers

    def warm_up(self) -> None:
        pass


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize(("threads", "asked", "workers"), [(1, None, 8), (4, None, 2), (4, 3, 3)])
def test_workers_share_the_cores(
    small_recipe: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pretrained: bool,
    threads: int,
    asked: int | None,
    workers: int,
) -> None:
    monkeypatch.setattr(trainings, "Runner", _Runner)
    monkeypatch.setattr(resources, "cores", lambda: 8)
    monkeypatch.setattr(resources, "_BYTES_PER_PROCESS", 0)
    monkeypatch.setattr(worker, "visible_gpus", tuple)
    values = small_recipe(arms=[{"name": "labels"}])
    values["student"]["threads"] = threads

    def built() -> trainings.Students:
        recipe = parse_recipe(values)
        splits = load_splits(recipe)
        rows = TrainingRows(recipe, splits, {})
        return trainings.Students(recipe, tmp_path, splits, rows, asked, Silent())

    found = built()
    if pretrained:
        load_student("scratch:t5-tiny", tokenizer=found.tokenizer).save(tmp_path / "model")
        values["student"]["model"] = str(tmp_path / "model")
        found = built()
    assert found.runner.workers == workers
