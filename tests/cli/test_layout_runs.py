"""From `init` to the report with files in well-known layouts: the recipe is run as it was drafted.

Two layouts that have nothing in common run in every test; `TUTELAGE_ALL_LAYOUTS=1` runs them all.
Only the trainings are made short and few: the preset's seeds, trials and steps are others, and the
recipe says nothing of them but `standard`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from known_layouts import LAYOUTS
from scripted_server import ScriptedServer
from typer.testing import CliRunner

from tutelage.cli.main import app
from tutelage.config import recipe_file
from tutelage.config.recipe import Recipe
from tutelage.core.results.decode import load_results
from tutelage.teacher.clients.openai_api import OPENAI

SHOWN = list(LAYOUTS) if os.environ.get("TUTELAGE_ALL_LAYOUTS") else ["esnli.csv", "studio.json"]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes as they are written, of which the trainings are short and few."""
    parse = recipe_file.parse_recipe

    def shortened(values: object, name: str = "recipe") -> Recipe:
        recipe = parse(values, name)  # the whole recipe, with its own checks
        if recipe.protocol != "standard" or not isinstance(values, dict):
            return recipe
        student = {**values["student"], "max_steps": 2}
        few = {"protocol": "quick", "search": {"label_weight": [0.5]}, "seeds": [0, 1]}
        return parse({**values, **few, "student": student, "explain_rows": 0}, name)

    monkeypatch.setattr(recipe_file, "parse_recipe", shortened)


@pytest.mark.parametrize("name", SHOWN)
def test_a_well_known_layout_runs_as_it_is_drafted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make, _, _, labels, rows = LAYOUTS[name]
    make(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    with ScriptedServer() as server:
        monkeypatch.setattr(OPENAI, "base_url", server.base_url)
        given = ["--teacher", "openai:m", "--student", "scratch:t5-tiny", "--output", "r.yaml"]
        for command in (["init", name, *given], ["run", "r.yaml", "--workers", "1"]):
            done = CliRunner().invoke(app, command)
            assert done.exit_code == 0, f"{command}\n{done.output}\n{done.exception!r}"
    (folder,) = (tmp_path / "runs").iterdir()
    results = load_results(folder / "results.json")
    assert results.finished and (folder / "report.html").is_file()
    assert len(results.task.labels) == labels
    read = sum(s.rows for s in (results.data.train, results.data.dev, results.data.test))
    assert read == rows
    assert {arm.name for arm in results.arms} > {"labels", "informed-reasoning"}
