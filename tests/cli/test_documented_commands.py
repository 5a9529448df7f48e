"""Every example command of docs/cli.md runs, in the page's order, in one folder, and ends well.

The folder holds what a user would have: own files, a recipe, a model folder with the hub's name. A
scripted server answers in place of api.openai.com. Data and trainings of the packaged quickstart
are made small, and nothing else is changed.
"""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from scripted_server import ScriptedServer
from typer.testing import CliRunner

from tutelage.cli.main import COMMANDS, app
from tutelage.config import recipe_file
from tutelage.core.storage import write_jsonl
from tutelage.core.task import NLI
from tutelage.data.load import load_examples
from tutelage.teacher.clients.openai_api import OPENAI

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(
    r"^Example: `tutelage (.*)`$", (ROOT / "docs/cli.md").read_text(encoding="utf-8"), re.MULTILINE
)
SMALL = {"n=6400": "n=90", "n=400": "n=30", "n=1000": "n=45", "evaluate_every: 400": "max_steps: 4"}


def test_every_command_has_an_example() -> None:
    assert {example.split()[0] for example in EXAMPLES} == set(COMMANDS)


def small_quickstart(folder: Path) -> Path:
    text = recipe_file.packaged_recipes()["quickstart"].read_text(encoding="utf-8")
    for found, smaller in SMALL.items():
        assert found in text
        text = text.replace(found, smaller)
    path = folder / "quickstart.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def reviews(folder: Path, teacher: str) -> None:
    """A CSV of reviews, and a recipe for it."""
    with (folder / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for number in range(120):
            words = ("dull", "warm", "long", "wise", "flat")
            label = "good" if number % 5 in (1, 3) else "bad"
            writer.writerow([number, f"Film {number} is {words[number % 5]}.", label])
    recipe = {
        "name": "reviews",
        "task": {"fields": ["text"], "labels": ["good", "bad"]},
        "data": {"train": "reviews.csv", "dev": 0.2, "test": 0.2},
        "teacher": {"model": teacher, "max_tokens": 100, "budget_usd": 1},
        "student": {"model": "scratch:t5-tiny", "max_steps": 4},
        "arms": [{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}],
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


def nli_files(folder: Path) -> None:
    """Rows for training, and for dev and test."""
    for name, rows, seed in (("train", 30, 1), ("dev", 12, 2), ("test", 45, 3)):
        examples = load_examples(f"synthetic:nli?n={rows}&seed={seed}", NLI)
        rows_of_file = [{"uid": e.uid, **e.fields, "label": e.label} for e in examples]
        write_jsonl(folder / f"{name}.jsonl", rows_of_file)


def hub_model(folder: Path, run: Path) -> None:
    """A model folder that is called as the default student is on the hub."""
    model = next(run.glob("arms/labels/*/seed-*/model"))
    shutil.copytree(model, folder / "google-t5/t5-small")


def other_runs(folder: Path) -> None:
    """Two runs of an experiment, and predictions of two arms in files of their own."""
    recipe = yaml.safe_load((folder / "quickstart.yaml").read_text(encoding="utf-8"))
    recipe["arms"] = [{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}]
    recipe["search"] = {"learning_rate": [6e-4], "label_weight": [0.5]}
    recipe["seeds"] = [0, 1]
    for name in ("anli", "anli-larger-student"):
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**recipe, "name": name}), encoding="utf-8")
        assert CliRunner().invoke(app, ["run", str(path)]).exit_code == 0
    for name, arm in (("mine", "reasoning"), ("theirs", "labels")):
        found = next((folder / "runs/anli/arms" / arm).glob("*/seed-0/test.jsonl"))
        shutil.copy(found, folder / f"{name}.jsonl")
    shutil.copy(folder / "mine.jsonl", folder / "predictions.jsonl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch, ScriptedServer() as server:
        patch.chdir(folder)
        patch.setenv("OPENAI_API_KEY", "a key")
        patch.setenv("TUTELAGE_LEDGER", str(folder / "ledger.sqlite"))
        patch.setattr(OPENAI, "base_url", server.base_url)
        small = {"quickstart": small_quickstart(folder)}
        patch.setattr(recipe_file, "packaged_recipes", lambda: small)
        (teacher,) = set(re.findall(r"--teacher (\S+)", " ".join(EXAMPLES)))
        reviews(folder, teacher)
        nli_files(folder)
        yield folder


PREPARE: dict[str, Callable[[Path], None]] = {
    "train": lambda folder: hub_model(folder, folder / "runs/quickstart"),
    "evaluate": other_runs,
}


def test_the_examples_run_in_the_page_s_order(folder: Path) -> None:
    for example in EXAMPLES:
        words = shlex.split(example)
        if prepare := PREPARE.pop(words[0], None):
            prepare(folder)
        if words[:3] == ["ledger", "batches", "--cancel"]:
            continue  # there is no open batch here; tests/cli/test_ledger_command.py has one
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"tutelage {example}\n{done.output}\n{done.exception!r}"
