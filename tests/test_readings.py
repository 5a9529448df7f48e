"""A second reading of the test set with another choice: written down, and told wherever one looks.

And what a run's trainings took, which the same two calls tell.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tutelage.commands.main import app
from tutelage.manifest import record_test_reading
from tutelage.manifest import test_readings as count_readings
from tutelage.runfolder import as_json, read_json, write_json
from tutelage.sections import Config

Make = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def calls(small_recipe: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """`tutelage run` four times: a recipe, the same with another learning rate, that again, and
    with fewer steps."""
    folder = tmp_path_factory.mktemp("readings")
    told = []
    for rate, steps in ((1e-3, None), (2e-3, None), (2e-3, None), (2e-3, 2)):
        values = small_recipe(
            arms=[{"name": "labels"}],
            search={"learning_rate": [rate], "label_weight": [0.3]},
            seeds=[0, 1],
        )
        values["student"] |= {"epochs": 1, "evaluate_every": None, "max_steps": steps}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
        arguments = [str(folder / "recipe.yaml"), "--runs", str(folder), "--workers", "1"]
        told.append(CliRunner().invoke(app, ["run", *arguments]))
        assert told[-1].exit_code == 0, told[-1].output
    return folder / "small", told


def test_another_choice_is_in_the_manifest_and_the_same_is_no_other(
    calls: tuple[Path, list[Any]],
) -> None:
    folder, _ = calls
    readings = read_json(folder / "manifest.json")["test_readings"]
    rates = [reading["chosen"]["labels"]["learning_rate"] for reading in readings]
    assert rates == [1e-3, 2e-3, 2e-3]
    assert len({reading["students"] for reading in readings}) == 3
    assert read_json(folder / "results.json")["test_readings"] == 3


def test_the_terminal_tells_it(calls: tuple[Path, list[Any]]) -> None:
    first, second, third, fourth = calls[1]
    assert "it has been opened" not in first.stderr
    assert "The test set was opened" not in first.stdout
    for later in (second, third):
        assert "it has been opened 2 times now, for another choice each time" in later.stderr
        assert "The test set was opened 2 times" in later.stdout
    assert "it has been opened 3 times now" in fourth.stderr


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_the_report_tells_it(calls: tuple[Path, list[Any]], name: str) -> None:
    assert (
        "The test set was opened 3 times, each time for another choice"
        in (calls[0] / name).read_text()
    )


def test_every_training_is_timed_once(calls: tuple[Path, list[Any]]) -> None:
    """One configuration: the search trains seed 0 of it, the other stage both seeds."""
    folder, _ = calls
    place = folder / "arms/labels"
    taken = [read_json(p)["result"]["seconds"] for p in place.glob("lr-0.002*/seed-*/done.json")]
    assert len(taken) == 2
    (seconds,) = read_json(folder / "results.json")["training_seconds"].values()
    assert seconds == pytest.approx(sum(taken), abs=0.051)
    assert min(taken) > 0.01


def test_a_reading_that_an_earlier_version_noted_is_no_other(tmp_path: Path) -> None:
    chosen = {"labels": Config(1e-3, 1.0)}
    noted = {"chosen": as_json(chosen), "test_sha256": "a", "time": "2026-01-01"}
    write_json(tmp_path / "manifest.json", {"test_readings": [noted]})
    record_test_reading(tmp_path, chosen, "students", "a")
    assert count_readings(tmp_path) == 1
    record_test_reading(tmp_path, chosen, "students", "b")
    record_test_reading(tmp_path, chosen, "other students", "b")
    assert count_readings(tmp_path) == 3
