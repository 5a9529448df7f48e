"""A whole run whose arms buy, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage import api
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.errors import TeacherError, UsageError
from tutelage.core.progress import Silent
from tutelage.core.results import Results, load_results
from tutelage.core.storage import read_jsonl
from tutelage.core.types import Completion, Request
from tutelage.experiment.run import Run, run
from tutelage.student.jobs.jobs import read_predictions
from tutelage.teacher.clients.scripted import ScriptedTeacher

POOL = {"rows": "unlabelled"}


@pytest.fixture(scope="module")
def values(small_recipe: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    values = small_recipe(
        protocol="quick",
        arms=[
            {"name": "labels"},
            {"name": "bought", "strategy": "label", **POOL},
            {"name": "thoughts", "strategy": "chain_of_thought", **POOL},
            {"name": "gold-32", "gold": 32},
        ],
        spend={"rows": 24},
    )
    for key in ("controls", "baselines", "departures"):
        del values[key]
    values["data"] = {
        **values["data"],
        "dev": "synthetic:nli?n=15&seed=2",
        "test": "synthetic:nli?n=24&seed=3",
        "gold": 16,
        "unlabelled": "synthetic:nli?n=60&seed=4",
    }
    return values


@pytest.fixture(scope="module")
def done(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("worth")
    return run(parse_recipe(values), runs=folder, ledger=folder / "l.sqlite", workers=1)


def test_results_are_a_file_and_a_second_call_does_nothing(
    done: Run, values: dict[str, Any]
) -> None:
    assert load_results(done.folder / "results.json") == done.results
    trained = sorted(done.folder.rglob("done.json"))
    times = [path.stat().st_mtime_ns for path in trained]
    again = run(
        parse_recipe(values),
        runs=done.folder.parent,
        ledger=done.folder.parent / "l.sqlite",
        workers=1,
    )
    assert sorted(done.folder.rglob("done.json")) == trained
    assert [path.stat().st_mtime_ns for path in trained] == times
    assert (again.results.worth, again.results.arms) == (done.results.worth, done.results.arms)


def test_every_training_has_the_same_steps_and_evaluations(done: Run) -> None:
    steps = {step for arm in done.results.arms for step in arm.training.steps_by_seed}
    assert done.results.worth is not None and steps == {done.results.worth.steps}
    rows = {arm.name: arm.training.rows for arm in done.results.arms}
    assert rows["labels"] == 16 and rows["bought"] == rows["self-training"] == 40


def test_self_training_learns_what_the_students_of_labels_alone_say(done: Run) -> None:
    for seed in (0, 1):
        plain = next(done.folder.glob(f"arms/labels/*/seed-{seed}/pool.jsonl"))
        said = {row.uid: row.label for row in read_predictions(plain)}
        learnt = list(read_jsonl(done.folder / "drawn" / "self-training" / f"seed-{seed}.jsonl"))
        own = {row["uid"]: row["label"] for row in learnt if row["from"] == "pool"}
        assert own == {uid: said[uid] for uid in own} and len(own) == 24


def test_what_was_bought_is_described(done: Run) -> None:
    worth = done.results.worth
    assert worth is not None
    assert (worth.unit, worth.spend, worth.orders, worth.pool_rows) == ("rows", 24, 2, 60)
    bought, plain = worth.arm("bought"), worth.arm("labels")
    assert (bought.gold_rows, bought.pool_rows, bought.intervention) == (16, 24, "teacher labels")
    assert bought.cost is not None and bought.cost.rows == 24
    assert plain.cost is not None and plain.cost.rows == 0
    assert worth.arm("thoughts").rationales == 24
    assert worth.curve == ((16, "labels"), (32, "gold-32"))
    assert worth.no_gold is not None and "4 sizes or more" in worth.no_gold
    assert {each.arm for each in worth.candidates} == {"labels", "bought", "thoughts"}
    assert worth.may_be_best
    assert {each.arm for each in worth.preview} == {arm.name for arm in done.results.arms}


def test_the_teacher_was_compared_with_known_labels_and_a_first_student(done: Run) -> None:
    worth = done.results.worth
    assert worth is not None
    assert [(each.strategy, each.accuracy) for each in worth.agreement] == [
        ("label", 1.0),
        ("chain_of_thought", 1.0),
    ]
    assert (done.folder / "first-student" / "training" / "done.json").exists()
    assert all(each.student_accuracy is not None for each in worth.agreement)
    page = (done.folder / "report.md").read_text(encoding="utf-8")
    assert (
        "labelled training rows whose labels it did not see, scripted (label) was right on" in page
    )


def test_a_teacher_that_is_no_better_than_the_most_frequent_label_stops_the_run(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dunno(self: ScriptedTeacher, request: Request) -> Completion:
        return Completion("I cannot say.", "stop")

    monkeypatch.setattr(ScriptedTeacher, "complete", dunno)
    arms = [{"name": "labels"}, {"name": "bought", "strategy": "label", **POOL}]
    with pytest.raises(TeacherError, match="nothing else was asked"):
        run(
            parse_recipe({**values, "arms": arms}),
            runs=tmp_path,
            ledger=tmp_path / "l.sqlite",
            workers=1,
        )
    assert not (tmp_path / "small" / "arms").exists()  # nothing of the experiment was trained


def test_the_bag_of_words_learns_each_seeds_gold_rows(done: Run) -> None:
    words = done.results.baselines.bag_of_words
    assert words is not None and "seeds" in words.ci_method


def test_the_report_and_the_command_say_it(done: Run) -> None:
    page = (done.folder / "report.md").read_text(encoding="utf-8")
    assert "What the money bought" in page
    assert "24 more rows that the teacher labelled" in page


def test_annotate_buys_the_same_without_training(
    values: dict[str, Any], done: Run, tmp_path: Path
) -> None:
    written = api.annotate_recipe(parse_recipe(values), tmp_path, tmp_path / "l.sqlite", Silent())
    for path in written:
        assert path.read_bytes() == (done.folder / "rationales" / path.name).read_bytes()
    assert not (tmp_path / "small" / "first-student").exists()


def test_fractions_do_not_go_with_draws(values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add arms with gold:"):
        run(parse_recipe(values), runs=tmp_path, ledger=tmp_path / "l.sqlite", fractions=[0.5])


def test_runs_without_draws_have_no_such_part(finished: Path) -> None:
    found: Results = load_results(finished / "results.json")
    assert found.worth is None and not (finished / "drawn").exists()
