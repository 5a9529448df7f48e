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

from tutelage.cli.main import app
from tutelage.config.training_settings import Config
from tutelage.core.storage import as_json, read_json, write_json
from tutelage.experiment.manifest import record_other_readers, record_test_reading
from tutelage.experiment.manifest import test_readings as count_readings

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
    record_test_reading(tmp_path, chosen, "students", "a", "rows")
    assert count_readings(tmp_path) == 1
    record_test_reading(tmp_path, chosen, "students", "b", "rows")
    record_test_reading(tmp_path, chosen, "other students", "b", "rows")
    record_test_reading(tmp_path, chosen, "other students", "b", "rows")
    assert count_readings(tmp_path) == 3


def test_a_run_names_those_beside_it_that_read_the_same_rows(tmp_path: Path) -> None:
    chosen = {"labels": Config(1e-3, 1.0)}
    for name, rows in (("b", "rows"), ("a", "rows"), ("others", "other rows"), ("me", "rows")):
        write_json(tmp_path / name / "manifest.json", {"test_readings": []})
        record_test_reading(tmp_path / name, chosen, "students", "one file", rows)
    # Of an earlier version, whose rows were those of the file; and one held out of such a file.
    earlier = [{"chosen": {}, "test_sha256": "rows"}]
    write_json(tmp_path / "earlier" / "manifest.json", {"test_readings": earlier})
    held_out = [{"test_sha256": "rows", "test_rows_sha256": "a part"}]
    write_json(tmp_path / "held-out" / "manifest.json", {"test_readings": held_out})
    broken = ("{", "[]", "7", '{"test_readings": 7}', '{"test_readings": ["rows"]}', "{}")
    for number, text in enumerate(broken):
        (tmp_path / f"broken-{number}").mkdir()
        (tmp_path / f"broken-{number}" / "manifest.json").write_text(text)
    (tmp_path / "broken-folder" / "manifest.json").mkdir(parents=True)

    assert record_other_readers(tmp_path / "me", "rows") == ["a", "b", "earlier"]
    noted = read_json(tmp_path / "me" / "manifest.json")
    assert noted["test_rows_also_read_by"] == ["a", "b", "earlier"]
    assert len(noted["test_readings"]) == 1
    assert record_other_readers(tmp_path / "me", "unread rows") == []
    assert read_json(tmp_path / "me" / "manifest.json")["test_rows_also_read_by"] == []


def test_another_name_hides_no_reading(calls: tuple[Path, list[Any]], small_recipe: Make) -> None:
    """The recipe of the fourth call by another name: nothing differs but what is told of it."""
    first = calls[0]
    values = yaml.safe_load((first.parent / "recipe.yaml").read_text()) | {"name": "renamed"}
    (first.parent / "renamed.yaml").write_text(yaml.safe_dump(values))
    arguments = [str(first.parent / "renamed.yaml"), "--runs", str(first.parent), "--workers", "1"]
    told = CliRunner().invoke(app, ["run", *arguments])
    assert told.exit_code == 0, told.output
    assert "the same rows were read by small" in told.stderr
    sentence = "The same test rows were read by the run small:"
    assert sentence in told.stdout
    renamed = first.parent / "renamed"
    assert sentence in (renamed / "report.html").read_text()
    before, after = (read_json(each / "results.json") for each in (first, renamed))
    assert (before["test_rows_also_read_by"], after["test_rows_also_read_by"]) == ([], ["small"])
    assert after["test_readings"] == 1
    assert all(before[key] == after[key] for key in ("arms", "comparisons"))
