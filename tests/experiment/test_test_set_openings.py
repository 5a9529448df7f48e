"""A second opening of the test set with another choice is recorded and reported everywhere.

Also: the training time, which the same calls report.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from shared_jobs import shared_jobs

sys.path.append(str(Path(__file__).parents[1] / "report"))
import small_results

from tutelage.cli.main import app
from tutelage.config.recipe_file import parse_recipe
from tutelage.config.training_settings import Config
from tutelage.core.results import load_results
from tutelage.core.storage import read_json, write_json
from tutelage.experiment.manifest import (
    opening_of,
    record_answer,
    record_runs_on_same_rows,
    record_test_opening,
)
from tutelage.experiment.run import run
from tutelage.report.answer import answer_sentences

Make = Callable[..., dict[str, Any]]
FEW = {
    "train": "synthetic:nli?n=60&seed=1",
    "dev": "synthetic:nli?n=12&seed=2",
    "test": "synthetic:nli?n=24&seed=3",
}
"""Rows: an epoch has four steps, one of the calls makes two."""
FEWER = {**FEW, "train": "synthetic:nli?n=36&seed=1"}
"""Those of tests/experiment/test_interim.py, which has the same trainings of two steps."""


@pytest.fixture(scope="module")
def calls(
    small_recipe: Make, tmp_path_factory: pytest.TempPathFactory, shared_folder: Path
) -> tuple[Path, list[Any]]:
    """`tutelage run` four times: a recipe, the same with another learning rate, that again, and
    with fewer steps."""
    folder = tmp_path_factory.mktemp("openings")
    calls = []
    for rate, steps in ((1e-3, None), (2e-3, None), (2e-3, None), (2e-3, 2)):
        values = small_recipe(
            arms=[{"name": "labels"}],
            search={"learning_rate": [rate], "label_weight": [0.3]},
            seeds=[0, 1],
            data=FEW,
        )
        values["student"] |= {"epochs": 1, "evaluate_every": None, "max_steps": steps}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        arguments = [str(folder / "recipe.yaml"), "--runs", str(folder), "--workers", "1"]
        with shared_jobs(shared_folder / "jobs"):
            calls.append(CliRunner().invoke(app, ["run", *arguments]))
        assert calls[-1].exit_code == 0, calls[-1].output
    return folder / "small", calls


def test_another_choice_is_in_the_manifest_and_the_same_is_not_repeated(
    calls: tuple[Path, list[Any]],
) -> None:
    folder, _ = calls
    openings = read_json(folder / "manifest.json")["test_set_openings"]
    chosen = [opening["chosen"]["labels"] for opening in openings]
    assert all(set(by_seed) == {"0", "1"} for by_seed in chosen)
    rates = [{of_seed["learning_rate"] for of_seed in by_seed.values()} for by_seed in chosen]
    assert rates == [{1e-3}, {2e-3}, {2e-3}]
    students = [opening["students"] for opening in openings]
    assert all(one != other for one, other in itertools.combinations(students, 2))
    others = load_results(folder / "results.json").other_answers
    assert [other.change for other in others] == ["choice", "choice"]


def test_the_terminal_says_so(calls: tuple[Path, list[Any]]) -> None:
    first, second, third, fourth = calls[1]
    assert "it has now been opened" not in first.stderr
    assert "The test set was opened" not in first.stdout
    for later in (second, third):
        assert "it has now been opened 2 times, each time for another choice" in later.stderr
        assert "The test set was opened 2 times" in later.stdout
    assert "it has now been opened 3 times" in fourth.stderr


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_the_report_tells_it(calls: tuple[Path, list[Any]], name: str) -> None:
    assert "The test set was opened 3 times, each time for another choice" in (
        calls[0] / name
    ).read_text(encoding="utf-8")


def test_every_training_is_timed_once(calls: tuple[Path, list[Any]]) -> None:
    """One configuration: no search, one training for each seed."""
    folder, _ = calls
    place = folder / "arms/labels"
    taken = [read_json(p)["result"]["seconds"] for p in place.glob("lr-0.002*/seed-*/done.json")]
    assert len(taken) == 2
    (seconds,) = load_results(folder / "results.json").training_seconds.values()
    assert seconds == pytest.approx(sum(taken), abs=0.051)
    assert min(taken) > 0.01


def record(folder: Path, chosen: Any, students: str, data: str, rows: str) -> tuple[Any, ...]:
    opening = opening_of(chosen, dict.fromkeys(chosen["labels"], students), data, rows)
    return record_test_opening(folder, opening)


def count_openings(folder: Path) -> int:
    return len(read_json(folder / "manifest.json")["test_set_openings"])


def test_the_same_opening_is_counted_once(tmp_path: Path) -> None:
    chosen = {"labels": {0: Config(1e-3, 1.0), 1: Config(1e-3, 1.0)}}
    write_json(tmp_path / "manifest.json", {"test_set_openings": []})
    for _ in range(2):
        record(tmp_path, chosen, "students", "a", "rows")
    assert count_openings(tmp_path) == 1
    record(tmp_path, chosen, "students", "b", "rows")
    record(tmp_path, chosen, "other students", "b", "rows")
    record(tmp_path, chosen, "other students", "b", "rows")
    assert count_openings(tmp_path) == 3
    record(tmp_path, chosen, "other students", "b", "other rows")
    other = {"labels": {0: Config(1e-3, 1.0), 1: Config(2e-3, 1.0)}}  # of one replicate alone
    record(tmp_path, other, "students", "a", "rows")
    assert count_openings(tmp_path) == 5
    record(tmp_path, {"labels": {**other["labels"], 1: None}}, "s", "a", "rows")
    assert count_openings(tmp_path) == 6


def test_a_run_names_those_in_its_folder_that_used_the_same_rows(tmp_path: Path) -> None:
    chosen = {"labels": {0: Config(1e-3, 1.0), 1: Config(1e-3, 1.0)}}
    for name, rows in (("b", "rows"), ("a", "rows"), ("others", "other rows"), ("me", "rows")):
        write_json(tmp_path / name / "manifest.json", {"test_set_openings": []})
        record(tmp_path / name, chosen, "students", "one file", rows)
    held_out = [{"test_sha256": "rows", "test_rows_sha256": "a part"}]
    write_json(tmp_path / "held-out" / "manifest.json", {"test_set_openings": held_out})
    broken = ("{", "[]", "7", '{"test_set_openings": 7}', '{"test_set_openings": ["rows"]}', "{}")
    for number, text in enumerate(broken):
        (tmp_path / f"broken-{number}").mkdir()
        (tmp_path / f"broken-{number}" / "manifest.json").write_text(text, encoding="utf-8")
    (tmp_path / "broken-folder" / "manifest.json").mkdir(parents=True)

    assert record_runs_on_same_rows(tmp_path / "me", "rows") == ("a", "b")
    recorded = read_json(tmp_path / "me" / "manifest.json")
    assert recorded["test_rows_also_used_by"] == ["a", "b"]
    assert len(recorded["test_set_openings"]) == 1
    assert record_runs_on_same_rows(tmp_path / "me", "unused rows") == ()
    assert read_json(tmp_path / "me" / "manifest.json")["test_rows_also_used_by"] == []


@pytest.mark.usefixtures("once")
def test_another_name_hides_no_opening(calls: tuple[Path, list[Any]], small_recipe: Make) -> None:
    """The recipe of the fourth call by another name: nothing differs but what is reported of it."""
    first = calls[0]
    values = yaml.safe_load((first.parent / "recipe.yaml").read_text(encoding="utf-8")) | {
        "name": "renamed"
    }
    (first.parent / "renamed.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    arguments = [str(first.parent / "renamed.yaml"), "--runs", str(first.parent), "--workers", "1"]
    called = CliRunner().invoke(app, ["run", *arguments])
    assert called.exit_code == 0, called.output
    assert "other runs were evaluated on the same rows: small" in called.stderr
    sentence = "The run small used the same test rows:"
    assert sentence in called.stdout
    renamed = first.parent / "renamed"
    assert sentence in (renamed / "report.html").read_text(encoding="utf-8")
    before, after = (load_results(each / "results.json") for each in (first, renamed))
    assert (before.test_rows_also_used_by, after.test_rows_also_used_by) == ((), ("small",))
    assert after.other_answers == ()
    assert (before.arms, before.comparisons) == (after.arms, after.comparisons)


@pytest.mark.usefixtures("once")
def test_seeds_that_are_added_to_a_known_answer_are_named_as_that(
    small_recipe: Make, tmp_path: Path
) -> None:
    """Two seeds, then three, then two others of them: no plan said so beforehand."""
    arms = [{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}]
    answers = []
    for seeds in ([0, 1], [0, 1, 2], [1, 2]):
        values = small_recipe(
            arms=arms,
            search={"learning_rate": [3e-3]},
            seeds=seeds,
            explain_rows=0,
            data=FEWER,
        )
        values["student"] |= {"max_steps": 2}
        answers.append(run(parse_recipe(values), runs=tmp_path, workers=1).results)
    first, second, third = answers
    assert first.other_answers == ()
    (before,) = second.other_answers
    (gain,) = first.comparisons
    assert (before.change, before.seeds) == ("seeds added", (0, 1))
    (kept,) = before.differences
    assert (kept.arm, kept.baseline, kept.difference, kept.ci95, kept.p_adjusted) == (
        gain.arm, gain.baseline, gain.difference, gain.ci95, gain.p_adjusted
    )  # fmt: skip
    assert [other.change for other in third.other_answers] == ["choice", "seeds left out"]
    (sentence,) = [s for s in answer_sentences(second) if "Seeds were added" in s]
    assert sentence.startswith("Seeds were added after an answer with 2 seeds (reasoning − labels ")
    assert "outside of a plan" in sentence and "another choice" not in sentence
    assert not any("Seeds were added" in s for s in answer_sentences(first))
    assert any("These results leave out seeds of" in s for s in answer_sentences(third))
    # Every answer is still there, with its figures.
    openings = read_json(tmp_path / "small" / "manifest.json")["test_set_openings"]
    assert [len(opening["answer"]) for opening in openings] == [1, 1, 1]


def test_an_answer_belongs_to_its_own_opening(tmp_path: Path) -> None:
    one = {"labels": {0: Config(1e-3, 1.0), 1: Config(1e-3, 1.0)}}
    more = {"labels": {**one["labels"], 2: None}}
    write_json(tmp_path / "manifest.json", {"test_set_openings": []})
    made = {}
    for name, chosen in (("one", one), ("more", more)):
        made[name] = opening_of(chosen, dict.fromkeys(chosen["labels"], "same"), "a", "rows")
        record_test_opening(tmp_path, made[name])
        record_answer(tmp_path, made[name], [small_results.comparison("a", name)])
    (other,) = record_test_opening(tmp_path, made["one"])
    assert (other.change, other.differences[0].baseline) == ("seeds left out", "more")
    (other,) = record_test_opening(tmp_path, made["more"])
    assert (other.change, other.differences[0].baseline) == ("seeds added", "one")
    # The same seeds with other students are another choice.
    changed = opening_of(one, {0: "same", 1: "another"}, "a", "rows")
    assert [o.change for o in record_test_opening(tmp_path, changed)] == ["choice", "choice"]
    rows = opening_of(more, dict.fromkeys(more["labels"], "same"), "a", "other rows")
    assert {o.change for o in record_test_opening(tmp_path, rows)} == {"choice"}
