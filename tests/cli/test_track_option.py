"""`tutelage train --track NAME`: for one training, and for a recipe's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from forked import run_command
from tutelage.cli.main import app


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The trackers that the stages are called with."""
    found: list[Any] = []

    def train_file(*arguments: Any, track: Any, **_: Any) -> SimpleNamespace:
        found.append(track)
        return SimpleNamespace(dev_accuracy=0.5, best_step=1, steps=1)

    def run(recipe: Any, *, track: Any, **_: Any) -> SimpleNamespace:
        found.append(track)
        return SimpleNamespace(folder=Path("runs"))

    monkeypatch.setattr("tutelage.experiment.train_file.train_file", train_file)
    monkeypatch.setattr("tutelage.experiment.run.run", run)
    return found


def test_the_trackers_reach_the_training(
    asked: list[Any], small_recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(small_recipe()), encoding="utf-8")
    for data, dev in ((str(recipe), None), ("rows.jsonl", "dev.jsonl")):
        dev_option = [] if dev is None else ["--dev", dev, "--task", "nli"]
        for trackers in (["--track", "tensorboard", "--track", "wandb"], []):
            done = CliRunner().invoke(app, ["train", data, *dev_option, *trackers])
            assert done.exit_code == 0, done.output
    assert [list(names) for names in asked] == [["tensorboard", "wandb"], []] * 2


def test_an_unknown_tracker_is_a_usage_error(tmp_path: Path) -> None:
    words = ["train", "rows.jsonl", "--dev", "dev.jsonl", "--track", "mlflow"]
    done = run_command(*words, cwd=tmp_path, environment=os.environ)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "tutelage: error: --track: got 'mlflow': input should be 'tensorboard', 'wandb' or "
        "'trackio'"
    ]
    assert not list(tmp_path.iterdir())
