"""The whole pipeline, small: the files it leaves, repeats, interruptions, another task."""

from __future__ import annotations

import csv
import json
import multiprocessing
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killed_run
import pytest
import yaml

from tutelage.config.recipe_file import load_recipe, parse_recipe
from tutelage.core.errors import TeacherError
from tutelage.core.progress import Silent
from tutelage.core.results import (
    DepartureResult,
    Results,
    load_results,
)
from tutelage.core.storage import read_json, read_jsonl
from tutelage.core.task import NLI
from tutelage.core.types import TrainingExample
from tutelage.evaluation.statistics import holm
from tutelage.experiment import training_rows
from tutelage.experiment.run import run
from tutelage.student.encoding.targets import build_training_examples

Make = Callable[..., dict[str, Any]]


def _same(one: Results, other: Results) -> bool:
    return (one.arms, one.comparisons) == (other.arms, other.comparisons)


def test_the_files_of_a_run(finished: Path) -> None:
    names = {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()}
    assert {"recipe.yaml", "manifest.json", "results.json", "report.html"} <= names
    assert {f"rationales/{arm}.jsonl" for arm in ("reasoning", "reasoning-shuffled")} <= names
    results = load_results(finished / "results.json")
    for arm in results.arms:
        folders = list(arm.folder_by_seed)
        for seed, config, folder in zip(
            arm.seeds, arm.config_by_seed, arm.folder_by_seed, strict=True
        ):
            assert config is not None
            name = f"lr-{config.learning_rate:g}_w-{config.label_weight:g}"
            assert folder == f"arms/{arm.name}/{name}/seed-{seed}"
        for trial in arm.trials:
            name = f"lr-{trial.config.learning_rate:g}_w-{trial.config.label_weight:g}"
            folders.append(f"arms/{arm.name}/{name}/trial-{trial.seed}")
        for folder in folders:
            assert {f"{folder}/{f}" for f in ("log.jsonl", "dev.jsonl", "done.json")} <= names
            assert f"{folder}/model/model.safetensors" in names
        read = {n for n in names if n.startswith(f"arms/{arm.name}/") and "test" in n}
        expected = {
            f"{folder}/test{suffix}"
            for folder in arm.folder_by_seed
            for suffix in (".jsonl", ".key.json")
        }
        assert read == expected
    assert not [n for n in names if n.endswith((".pt", ".bin", ".pkl"))]


def test_results_say_what_the_predictions_say(finished: Path) -> None:
    results = load_results(finished / "results.json")
    assert results.finished is True
    assert [f"{c.arm}/{c.baseline}" for c in results.comparisons] == [
        "reasoning/labels",
        "reasoning/reasoning-shuffled",
    ]
    means = {}
    for arm in results.arms:
        by_seed = []
        for folder in arm.folder_by_seed:
            rows = list(read_jsonl(finished / folder / "test.jsonl"))
            by_seed.append(sum(r["gold"] == r["label"] for r in rows) / len(rows))
            assert len(rows) == 45
            assert all(abs(sum(r["probabilities"].values()) - 1) < 1e-6 for r in rows)
        assert arm.test.accuracy_by_seed == pytest.approx(by_seed)
        means[arm.name] = sum(by_seed) / len(by_seed)
        assert (arm.configurations, len(arm.trials)) == (2, 2 * 2)
        assert arm.training.rows == 90
    for comparison in results.comparisons:
        difference = means[comparison.arm] - means[comparison.baseline]
        assert comparison.difference == pytest.approx(difference)
    assert results.choosing_on_test is not None and results.selection is not None
    claimed = results.choosing_on_test.by_arm
    for arm in results.arms:
        assert claimed[arm.name].models_tried == 2 * (2 + 1)  # seeds × (trials + the tested one)
        assert claimed[arm.name].best_accuracy >= max(arm.test.accuracy_by_seed)
    for arm in results.arms:
        diagnostics = results.diagnostics[arm.name]
        for slices in (diagnostics.by_label, diagnostics.by_tag, diagnostics.by_length):
            right = sum(part.n * part.accuracy for part in slices)
            assert right / 45 == pytest.approx(arm.test.accuracy)  # no row is lost or twice
        assert results.selection.by_arm[arm.name].models == claimed[arm.name].models_tried
    by_chance = [chosen.gain_by_chance for chosen in results.selection.by_arm.values()]
    assert all(gain is not None and gain >= 0 for gain in by_chance)
    assert any(by_chance)  # an arm whose two students are alike shows no spread
    assert results.teacher.cost_usd == 0.0
    assert "labels" in (finished / "report.html").read_text(encoding="utf-8")


def test_a_repeat_trains_nothing_and_agrees(
    searched_recipe: dict[str, Any], finished: Path, tmp_path: Path
) -> None:
    finished = shutil.copytree(finished, tmp_path / "small")  # others may be reading it
    before = load_results(finished / "results.json")
    stamps = {p: p.stat().st_mtime_ns for p in finished.rglob("model.safetensors")}
    again = run(parse_recipe(searched_recipe), runs=tmp_path, workers=1)
    assert _same(again.results, before)
    assert load_results(finished / "results.json") == again.results
    assert stamps == {p: p.stat().st_mtime_ns for p in finished.rglob("model.safetensors")}
    assert len(read_json(finished / "manifest.json")["test_set_openings"]) == 1


def test_workers_do_not_change_the_results(
    searched_recipe: dict[str, Any], small_recipe: Make, finished: Path, tmp_path: Path
) -> None:
    """The first of the seeds: each file of its trainings is that of the run in one process."""
    values = small_recipe(search=searched_recipe["search"], seeds=[0], explain_rows=0)
    apart = run(parse_recipe(values), runs=tmp_path, workers=2)
    names = ("dev.jsonl", "test.jsonl", "log.jsonl", "model.safetensors")
    files = [p for name in names for p in sorted((apart.folder / "arms").rglob(name))]
    # Three arms with two trials each and the training that is tested; only this has test rows.
    assert [sum(p.name == name for p in files) for name in names] == [9, 3, 9, 9]
    for path in files:
        assert path.read_bytes() == (finished / path.relative_to(apart.folder)).read_bytes(), path
    for one, other in zip(
        apart.results.arms, load_results(finished / "results.json").arms, strict=True
    ):
        assert one.test.accuracy_by_seed == other.test.accuracy_by_seed[:1]
        assert one.config_by_seed == other.config_by_seed[:1]
        assert one.trials == tuple(trial for trial in other.trials if trial.seed == 0)


def test_kills_in_annotation_and_in_training_change_nothing(
    small_recipe: Make, tmp_path: Path
) -> None:
    """SIGKILL twice; a live server for the teacher, so that there is something to lose."""
    values = small_recipe(
        data={
            "train": "synthetic:nli?n=36&seed=1",
            "dev": "synthetic:nli?n=15&seed=2",
            "test": "synthetic:nli?n=15&seed=3",
        },
        explain_rows=0,
        seeds=[0],
    )
    values["student"] |= {"batch_size": 6}
    recipe = yaml.safe_dump(values)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(recipe, encoding="utf-8")
    # Rationales, and labels for dev: the teacher as a baseline.
    assert killed_run.main(tmp_path / "whole") == 36 + 30
    _kill(tmp_path / "parts", "annotation")
    _kill(tmp_path / "parts", "training")
    requests = killed_run.main(tmp_path / "parts")
    results = [load_results(tmp_path / n / "runs/small/results.json") for n in ("whole", "parts")]
    assert _same(*results)
    found = [(e.accuracy, e.unparsed) for r in results for e in r.baselines.teacher]
    assert len(found) == 4
    assert found[:2] == found[2:]
    assert requests == 0
    asked = sum(1 for _ in read_jsonl(tmp_path / "parts" / "asked.jsonl"))
    # What was in flight when the kill came (at most 4) may be asked again, nothing else.
    assert 66 <= asked <= 70


def _kill(folder: Path, stage: str) -> None:
    """Run the recipe in a process of its own, and kill this in the middle of `stage`."""
    # A fork has torch already; a new interpreter would spend most of the test importing it.
    process = multiprocessing.get_context("fork").Process(target=killed_run.main, args=(folder,))
    process.start()
    asked, arms = folder / "asked.jsonl", folder / "runs/small/arms"
    reached = {
        "annotation": lambda: asked.exists() and len(asked.read_text(encoding="utf-8")) > 200,
        "training": lambda: list(arms.glob("reasoning/*/seed-0/state.pt")),
    }
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.is_alive() and not reached[stage]():
        time.sleep(0.01)
    assert process.is_alive(), process.exitcode
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_task_that_is_not_nli(tmp_path: Path) -> None:
    """Two fields of another kind, two labels with words of their own, reasons in the data."""
    random.seed(0)
    rows = []
    for i in range(160):
        price, budget = random.randrange(10, 99), random.randrange(10, 99)
        fits = price <= budget
        reason = f"{price} is {'not more' if fits else 'more'} than {budget}."
        rows.append([f"r{i}", f"costs {price}", f"has {budget}", "YES" if fits else "no", reason])
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["key", "offer", "purse", "buys", "why"], *rows])
    recipe = parse_recipe(
        {
            "name": "purchase",
            "task": {
                "name": "purchase",
                "fields": ["offer", "purse"],
                "labels": ["yes", "no"],
                "verbalizers": {"yes": "they buy", "no": "leave it"},
            },
            "data": {
                "train": str(tmp_path / "rows.csv"),
                "dev": 0.15,
                "test": 40,
                "columns": {"uid": "key", "label": "buys", "reason": "why"},
            },
            "student": {
                "model": "scratch:t5-tiny",
                "epochs": 2,
                "batch_size": 16,
                "max_rationale_tokens": 16,
            },
            "arms": [{"name": "labels"}, {"name": "human", "strategy": "human"}],
            "explain_rows": 5,
            "search": {"learning_rate": [2e-3]},
            "seeds": [0, 1],
            "controls": [],
            "departures": {"controls": "another task is what is looked at"},
        }
    )
    done = run(recipe, runs=tmp_path / "runs", workers=1)
    arm = done.results.arms[1]
    assert arm.test.n == 40
    assert arm.training.rows == 160 - 40 - 24
    assert arm.training.with_rationale == arm.training.rows
    assert set(arm.test.per_label) == {"yes", "no"}
    learnt = next(read_jsonl(done.folder / "rationales" / "human.jsonl"))
    assert "than" in learnt["text"]


def test_every_objective_runs_from_end_to_end(small_recipe: Make, tmp_path: Path) -> None:
    reasoning = {"strategy": "informed_reasoning"}
    first = {**reasoning, "objective": "rationale_then_label"}
    two = {**reasoning, "objective": "multitask"}
    recipe = parse_recipe(
        small_recipe(
            arms=[
                {"name": "labels"},
                {"name": "reasoning", **reasoning},
                {"name": "first", **first},
                {"name": "first-shuffled", **first, "control": "shuffled"},
                {"name": "two", **two},
                {"name": "two-shuffled", **two, "control": "shuffled"},
            ],
            search={"learning_rate": [3e-3], "label_weight": [0.3]},
            seeds=[0],
            student={
                "model": "scratch:t5-tiny",
                "epochs": 1,
                "batch_size": 16,
                "warmup_steps": 1,
                "max_rationale_tokens": 12,
            },
        )
    )
    done = run(recipe, runs=tmp_path, workers=1)
    assert {a.name: a.objective for a in done.results.arms} == {
        "labels": "label",
        "reasoning": "label_then_rationale",
        "first": "rationale_then_label",
        "first-shuffled": "rationale_then_label",
        "two": "multitask",
        "two-shuffled": "multitask",
    }
    pairs = {(c.arm, c.baseline) for c in done.results.comparisons}
    assert {("first", "first-shuffled"), ("two", "two-shuffled"), ("two", "labels")} <= pairs
    written = {}
    for arm in ("reasoning", "first", "two"):
        (path,) = done.folder.glob(f"arms/{arm}/*/seed-0/test.jsonl")
        written[arm] = {row["rationale"] is not None for row in read_jsonl(path)}
    # Only the student that writes its rationale first has one to show.
    assert written == {"reasoning": {False}, "first": {True}, "two": {False}}


def test_the_full_protocol_is_followed(
    small_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All controls, the student that does not see the premise, two families of comparisons."""
    built: list[list[TrainingExample]] = []

    def build(*arguments: Any) -> list[TrainingExample]:
        built.append(build_training_examples(*arguments))
        return built[-1]

    monkeypatch.setattr(training_rows, "build_training_examples", build)
    test = tmp_path / "test.csv"
    hypotheses = ["A lamp is red.", "Nobody is at home."] * 8
    with test.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["premise", "hypothesis", "label"]]
            + [[f"The mill has {i} lamps.", h, NLI.labels[i % 3]] for i, h in enumerate(hypotheses)]
        )
    values = small_recipe(
        data={"train": "synthetic:nli?n=48&seed=1", "dev": 0.25, "test": str(test)},
        search={"learning_rate": [3e-3], "label_weight": [0.3]},
        departures={"baselines": "nobody to ask"},
        baselines=["majority", "omitted_context"],
        margin=2.5,
    )
    values["student"] = {
        "model": "scratch:t5-tiny",
        "max_steps": 2,
        "batch_size": 16,
        "max_rationale_tokens": 16,
    }
    values["arms"] = values["arms"][:2]
    values["protocol"] = "full"
    del values["controls"]
    observer = Notes()
    done = run(parse_recipe(values), runs=tmp_path, workers=1, observer=observer)
    results = load_results(done.folder / "results.json")
    assert results == done.results

    arms = {arm.name: arm for arm in results.arms}
    assert {name: (arm.control, arm.omits) for name, arm in arms.items()} == {
        "labels": (None, ()),
        "reasoning": (None, ()),
        "reasoning-shuffled": ("shuffled", ()),
        "reasoning-scrambled": ("scrambled", ()),
        "reasoning-filler": ("filler", ()),
        "label-echo": ("label_echo", ()),
        "hypothesis-only": (None, ("premise",)),
    }
    assert {(arm.configurations, arm.trials) for arm in arms.values()} == {(1, ())}
    learnt = {p.stem: list(read_jsonl(p)) for p in (done.folder / "rationales").glob("*.jsonl")}
    assert set(learnt) == set(arms) - {"labels", "hypothesis-only"}
    for own, filled in zip(learnt["reasoning"], learnt["reasoning-filler"], strict=True):
        assert abs(len(own["text"]) - len(filled["text"])) <= 5
        assert filled["text"].startswith("These words stand")
    assert {row["text"][:14] for row in learnt["label-echo"]} == {"The answer is "}

    # The student without the premise sees none, in training and on the test set.
    read = ({row.source.text[:8] for row in rows} for rows in built)
    sources = dict(zip(arms, read, strict=True))
    assert sources["hypothesis-only"] == {"Hypothes"}
    assert sources["labels"] == sources["label-echo"] == {"Premise:"}

    def distinct(arm: str) -> int:
        (path,) = done.folder.glob(f"arms/{arm}/*/seed-0/test.jsonl")
        return len({json.dumps(row["probabilities"]) for row in read_jsonl(path)})

    assert distinct("hypothesis-only") == 2
    assert distinct("labels") > 2

    families = {
        primary: [c for c in results.comparisons if c.primary is primary]
        for primary in (True, False)
    }
    assert results.comparisons == (*families[True], *families[False])
    assert {c.baseline for c in families[True]} == {"labels", "reasoning-shuffled"}
    secondary = {"label-echo", "reasoning-filler", "reasoning-scrambled"}
    assert {c.baseline for c in families[False]} == secondary
    for primary, family in families.items():
        assert [c.family for c in family] == ([2, 2] if primary else [3, 3, 3])
        assert [c.p_adjusted for c in family] == pytest.approx(holm([c.p_value for c in family]))
    assert {c.equivalence_margin for c in results.comparisons} == {0.025}
    assert [(c.arm, c.baseline, c.family) for c in results.context_comparisons] == [
        (arm, baseline, 1)
        for baseline in ("hypothesis-only", "majority class")
        for arm in ("labels", "reasoning")
    ]
    assert results.task.context == "premise"
    assert results.choosing_on_test is not None
    claims = results.choosing_on_test.claims
    assert {c.baseline for c in claims} == {"labels", "reasoning-shuffled"}

    missing = "no bag_of_words, no teacher_labels, no teacher"
    assert results.departures == (DepartureResult("baselines", missing, "nobody to ask"),)
    assert observer.lines[0] == (
        f"departure from the protocol (baselines): nobody to ask ({missing})"
    )
    for name in ("report.html", "report.md"):
        assert f"Departure from the protocol (baselines): nobody to ask ({missing})." in _plain(
            done.folder / name
        )

    # What was resolved is what was run: the run folder's recipe asks for nothing more.
    assert load_recipe(done.folder / "recipe.yaml") == parse_recipe(values)


def _plain(path: Path) -> str:
    """A report without the backslashes of Markdown."""
    return path.read_text(encoding="utf-8").replace("\\", "")


class Notes(Silent):
    """Keeps the notes of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def test_a_teacher_that_never_answers_well_stops_the_run(
    small_recipe: Make, tmp_path: Path
) -> None:
    values = small_recipe()
    (tmp_path / "empty.jsonl").write_text(
        '{"uid": "x", "rationales": {"k": "y"}}\n', encoding="utf-8"
    )
    values["teacher"] = f"recorded:{tmp_path / 'empty.jsonl'}#k"
    with pytest.raises(TeacherError, match="none of 90 rationales can be used"):
        run(parse_recipe(values), runs=tmp_path / "runs", workers=1)
