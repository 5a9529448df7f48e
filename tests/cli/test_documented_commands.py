"""Every example command of docs/cli.md runs, in the page's order, in one folder, and ends well;
and so does every block of README.

The folder holds what a user would have: own files, a recipe, a model folder with the hub's name. A
scripted server answers in place of api.openai.com. Data and trainings of the packaged quickstart
are made small, workers are forks of this process, and nothing else is changed.
"""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from scripted_server import ScriptedServer
from typer.testing import CliRunner

import forked
from shared_jobs import shared_jobs
from tutelage.cli.main import COMMANDS, app
from tutelage.config import recipe_file
from tutelage.config.recipe_file import load_recipe, parse_recipe
from tutelage.core.storage import write_jsonl
from tutelage.core.task import NLI
from tutelage.data.load import load_examples
from tutelage.planning import duration
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs import worker
from tutelage.student.model.loading import load_student
from tutelage.student.model.scratch import tokenizer_for
from tutelage.teacher.clients.openai_api import OPENAI

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(
    r"^Example: `tutelage (.*)`$", (ROOT / "docs/cli.md").read_text(encoding="utf-8"), re.MULTILINE
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = {
    "n=6400": "n=48",
    "n=400": "n=12",
    "n=1000": "n=24",
    "evaluate_every: 400": "max_steps: 3",
    "seeds: [0, 1, 2, 3, 4]": "seeds: [0, 1]",
    "weight_decay: 0.01": "max_rationale_tokens: 24",
}


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
        "student": {"model": "scratch:t5-tiny", "max_steps": 4, "max_rationale_tokens": 24},
        "arms": [{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}],
        "protocol": "quick",
        "seeds": [0, 1],
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


def nli_files(folder: Path) -> None:
    """Rows for training, and for dev and test."""
    for name, rows, seed in (("train", 30, 1), ("dev", 12, 2), ("test", 45, 3)):
        examples = load_examples(f"synthetic:nli?n={rows}&seed={seed}", NLI)
        rows_of_file = [{"uid": e.uid, **e.fields, "label": e.label} for e in examples]
        write_jsonl(folder / f"{name}.jsonl", rows_of_file)


def hub_model(folder: Path) -> None:
    """A model folder that is called as the default student is on the hub."""
    examples = load_examples("synthetic:nli?n=30&seed=1", NLI)
    rows = build_training_examples(examples, NLI, None, "label")
    tokenizer = tokenizer_for(rows, folder / "tokenizer")
    load_student("scratch:t5-tiny", tokenizer=tokenizer).save(folder / "google-t5/t5-small")


def other_runs(folder: Path) -> None:
    """Two runs of an experiment, and predictions of two arms in files of their own."""
    recipe = yaml.safe_load((folder / "quickstart.yaml").read_text(encoding="utf-8"))
    recipe["arms"] = [{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}]
    recipe["search"] = {"learning_rate": [6e-4], "label_weight": [0.5]}
    recipe["seeds"] = [0, 1]
    recipe["explain_rows"] = 0
    for name in ("anli", "anli-larger-student"):
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**recipe, "name": name}), encoding="utf-8")
        with shared_jobs(folder / "jobs"):  # the second run has the same trainings
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
        brief = partial(duration.measure_trainings, seconds=0.05)
        patch.setattr(duration, "measure_trainings", brief)
        patch.setattr(worker, "start_method", forked.start_method)
        (teacher,) = set(re.findall(r"--teacher (\S+)", " ".join(EXAMPLES)))
        reviews(folder, teacher)
        nli_files(folder)
        hub_model(folder)
        yield folder


PREPARE: dict[str, Callable[[Path], None]] = {
    "evaluate": other_runs,
}


def test_the_examples_run_in_the_page_s_order(folder: Path) -> None:
    for example in EXAMPLES:
        words = shlex.split(example)
        if prepare := PREPARE.pop(words[0], None):
            prepare(folder)
        if words[:3] == ["ledger", "batches", "--cancel"]:
            continue  # there is no open batch here; tests/cli/test_ledger_command.py has one
        if words[0] == "serve":
            assert (folder / words[1]).is_dir()
            continue  # it does not end; tests/deliver has it
        if words[0] == "frontier":
            continue  # it needs the run of a teacher; tests/experiment/test_frontier.py has one
        if words[0] == "worth":
            continue  # it needs a run whose arms buy; tests/report/test_worth_section.py has one
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"tutelage {example}\n{done.output}\n{done.exception!r}"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_readme_has_the_blocks_that_are_run_here() -> None:
    assert [len(blocks(language)) for language in ("sh", "yaml", "python")] == [5, 2, 1]


def test_readme_s_targets_and_extras_exist() -> None:
    """The first block calls make; the last one installs without it."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\S+)", blocks("sh")[0], re.MULTILINE)
    assert targets == ["quickstart", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    extras = re.findall(r"-e '\.\[(.*?)\]'", blocks("sh")[4])
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert extras and {e for group in extras for e in group.split(",")} <= {
        *declared["project"]["optional-dependencies"]
    }


def test_readme_s_way_with_own_data_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From `init` to `predict`. Only the trainings of the drafted recipe are made fewer."""
    own = folder / "own"
    own.mkdir()
    shutil.copy(folder / "reviews.csv", own)
    (own / "more.csv").write_text("text\nFilm 7 is wise.\nFilm 8 is flat.\n", encoding="utf-8")
    shutil.copytree(folder / "google-t5", own / "google-t5")
    monkeypatch.chdir(own)
    ran = []
    for line in blocks("sh")[1].splitlines():
        command = line.partition("#")[0].strip()
        if command.startswith("export "):
            monkeypatch.setenv(command.split()[1].partition("=")[0], "a key")
        elif command.startswith("tutelage "):
            words = shlex.split(command)[1:]
            done = CliRunner().invoke(app, words)
            assert done.exit_code == 0, f"{command}\n{done.output}\n{done.exception!r}"
            ran.append(words[0])
            if words[0] == "init":
                recipe = yaml.safe_load((own / "recipe.yaml").read_text(encoding="utf-8"))
                recipe["student"] |= {"max_steps": 4, "max_rationale_tokens": 24}
                recipe |= {"protocol": "quick", "search": {"label_weight": [0.5]}, "seeds": [0, 1]}
                (own / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        else:
            assert command in ("", ". .venv/bin/activate")
    assert ran == ["init", "doctor", "plan", "run", "predict"]


def test_readme_s_way_to_use_a_run(folder: Path) -> None:
    """What serves is tested in tests/deliver: here is what ends."""
    if not (folder / "runs/quickstart/report.html").exists():
        assert CliRunner().invoke(app, ["run", "quickstart"]).exit_code == 0
    rows = [{"premise": "Moro wrote a book in Corin.", "hypothesis": "Moro wrote a book."}] * 2
    write_jsonl(folder / "more.jsonl", rows)
    lines = [line for line in blocks("sh")[2].splitlines() if line.startswith("tutelage ")]
    assert [line.split()[1] for line in lines] == ["export", "predict", "serve"]
    for line in lines[:2]:
        words = shlex.split(line.partition("#")[0])[1:]
        done = CliRunner().invoke(app, [*words, "--overwrite"])
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"


def test_readme_s_recipes_are_right() -> None:
    paper, finer = map(yaml.safe_load, blocks("yaml"))
    packaged = ROOT / "src/tutelage/config/recipes/anli-r1.yaml"
    assert parse_recipe(paper) == load_recipe(packaged)
    changed = parse_recipe({**paper, **finer})
    assert not changed.controls and changed.seeds.at_most == 20


def test_readme_s_python_runs(folder: Path) -> None:
    names: dict[str, object] = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)
    dev = load_examples("dev.jsonl", NLI)
    assert len(names["predictions"]) == len(dev)  # type: ignore[arg-type]
