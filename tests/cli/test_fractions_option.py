"""`tutelage run RECIPE --fractions 0.1,0.3`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from forked import run_command
from tutelage.cli.main import app


def test_the_fractions_reach_the_run(
    monkeypatch: pytest.MonkeyPatch, small_recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    asked = []

    def run(recipe: Any, *, fractions: Any, **_: Any) -> SimpleNamespace:
        asked.append(fractions)
        return SimpleNamespace(folder=Path("runs"), results={})

    monkeypatch.setattr("tutelage.experiment.run.run", run)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(small_recipe()), encoding="utf-8")
    for given in (["0.3", "0.1"], ["0.1,0.3,1"], []):
        words = [word for fractions in given for word in ("--fractions", fractions)]
        CliRunner().invoke(app, ["run", str(recipe), "--json", *words], catch_exceptions=False)
    assert asked == [(0.1, 0.3), (0.1, 0.3), ()]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("0.1,half", "got '0.1,half', expected numbers between 0 and 1, such as 0.1,0.3"),
        ("3", "got 3, expected numbers between 0 and 1, such as 0.1,0.3"),
    ],
)
def test_an_invalid_fraction_is_a_usage_error(
    small_recipe: Callable[..., dict[str, Any]], tmp_path: Path, given: str, line: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(small_recipe()), encoding="utf-8")
    words = ["run", "recipe.yaml", "--fractions", given]
    done = run_command(*words, cwd=tmp_path, environment=os.environ)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"tutelage: error: --fractions: {line}"]
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
