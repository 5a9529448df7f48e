"""Reads a run's folder: all of it, a part of it, or one whose files do not belong together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from report_sample import NASTY, sample_predictions, write_folder

from tutelage.core.errors import RunFolderError
from tutelage.core.storage import read_jsonl, write_jsonl
from tutelage.core.types import Prediction
from tutelage.report.run_files import read_files, read_run

ARMS = {"labels": 0.0, "informed-reasoning": 0.1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path, sample_predictions(30, 3, ARMS))
    return tmp_path


def _change(folder: Path, arm: str, seed: int, rows: list[dict]) -> None:
    write_jsonl(folder / "arms" / arm / "lr-0.003_w-1" / f"seed-{seed}" / "test.jsonl", rows)


def _rows(folder: Path, arm: str, seed: int) -> list[dict]:
    path = folder / "arms" / arm / "lr-0.003_w-1" / f"seed-{seed}" / "test.jsonl"
    return list(read_jsonl(path))


def test_everything_is_read_in_the_rows_order(folder: Path) -> None:
    for seed in range(3):  # whatever the order of the predictions
        _change(folder, "labels", seed, _rows(folder, "labels", seed)[::-1])
    _, files = read_run(folder)
    made = sample_predictions(30, 3, ARMS)
    assert list(files.uids) == [f"r{i}" for i in range(30)]
    assert files.examples[1].fields == NASTY and files.groups[5] == "r3"
    assert list(files.predictions) == list(ARMS) and list(files.foreign) == []
    labels = ["entailment", "neutral", "contradiction"]
    assert [labels[gold] for gold in files.gold] == [p.gold for p in made["labels"][0]]
    for name, arm in files.predictions.items():
        assert arm.seeds == (0, 1, 2)
        for seed, predicted in zip(arm.seeds, arm.labels, strict=True):
            assert [labels[number] for number in predicted] == [p.label for p in made[name][seed]]
        for number, label in enumerate(labels):
            mean = [
                sum(made[name][seed][row].probabilities[label] for seed in range(3)) / 3
                for row in range(30)
            ]
            assert [share / 1000 for share in arm.probabilities[number]] == pytest.approx(
                mean, abs=0.0006
            )
    assert files.manifest["git_revision"] == "cd" * 20 and "a recipe" in files.recipe
    assert list(files.reasons["informed-reasoning"].items()) == [
        (("refused", "I cannot help with <that>"), 3),
        (("empty", ""), 2),
    ]


def test_the_first_seed_that_wrote_a_rationale_is_shown(folder: Path) -> None:
    for seed, text in ((1, "because"), (2, "why not")):
        rows = _rows(folder, "labels", seed)
        rows[4]["rationale"] = text
        _change(folder, "labels", seed, rows)
    _, files = read_run(folder)
    assert files.predictions["labels"].rationales == {4: (1, "because")}


def test_what_is_not_there_is_empty(folder: Path) -> None:
    results, _ = read_run(folder)
    for name in ("rows.jsonl", "manifest.json", "recipe.yaml"):
        (folder / name).unlink()
    shutil.rmtree(folder / "rationales")
    files = read_files(folder, results)
    assert list(files.predictions) == list(ARMS)
    assert list(files.uids) == [f"r{i}" for i in range(30)]
    assert not (files.examples or files.groups or files.manifest or files.recipe or files.reasons)
    shutil.rmtree(folder / "arms")
    assert read_files(folder, results).predictions == {}


def test_of_two_configurations_the_one_of_the_results_is_read(folder: Path) -> None:
    arm = folder / "arms" / "labels"
    shutil.copytree(arm / "lr-0.003_w-1", arm / "lr-0.001_w-1")  # it sorts first
    right = [Prediction(f"r{i}", "neutral", {}, r["gold"]) for i, r in
             enumerate(_rows(folder, "labels", 0))]  # fmt: skip
    write_jsonl(arm / "lr-0.001_w-1" / "seed-0" / "test.jsonl", right)
    _, files = read_run(folder)
    made = sample_predictions(30, 3, ARMS)["labels"][0]
    labels = ["entailment", "neutral", "contradiction"]
    predicted = [labels[number] for number in files.predictions["labels"].labels[0]]
    assert predicted == [p.label for p in made]


def test_predictions_of_other_rows_or_labels_are_foreign(folder: Path) -> None:
    rows = _rows(folder, "labels", 2)
    for changed in (
        rows[:-1],
        [*rows[:-1], {**rows[-1], "uid": "else"}],
        [*rows[:-1], {**rows[-1], "gold": "neutral"}],
        [{**r, "label": "neutral"} for r in rows],
    ):
        _change(folder, "labels", 2, changed)
        _, files = read_run(folder)
        assert list(files.foreign) == ["labels"]
        assert list(files.predictions) == ["informed-reasoning"]


def test_files_of_something_else_are_one_clear_line(folder: Path) -> None:
    _change(folder, "labels", 1, [{"text": "no prediction"}])
    with pytest.raises(RunFolderError, match=r"arms.labels: .* without predictions"):
        read_run(folder)
    (folder / "rows.jsonl").write_text(json.dumps({"uid": "r0"}) + "\n")
    with pytest.raises(RunFolderError, match=r"rows.jsonl:1: is not a test row"):
        read_run(folder)
