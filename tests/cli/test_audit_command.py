"""`tutelage audit` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tutelage.cli.main import app
from tutelage.core.errors import UsageError

DATA = "synthetic:nli?n=20&seed=1"


def audit(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)], catch_exceptions=True)


def test_a_recipe_on_one_screen(
    small_recipe: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recipe.yaml"
    values = small_recipe()
    values["student"]["max_source_tokens"] = 8
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = audit(path)
    assert done.exit_code == 0, done.exception
    lines = done.stdout.splitlines()
    assert len(lines) < 25
    for words in (("train", "premise", "90"), ("test", "whole input", "45"), ("labels", "label")):
        assert any(all(word in line for word in words) for line in lines), words
    assert "raise max_source_tokens" in done.stdout
    assert "not measured: reasoning, reasoning-shuffled" in done.stdout
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_as_json() -> None:
    options = ("--student", "scratch:t5-tiny", "--max-source-tokens", "20")
    done = audit(DATA, *options, "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    (split,) = found["splits"]
    assert (split["rows"], split["cut"]["limit"]) == (20, 20)
    assert split["cut"]["tokens"] >= split["source"]["total"] - 20 * 20
    assert found["arms"][0]["rationales"]["limit"] == 256
    assert "--rationales" in found["notes"][0]


def test_a_file_for_another_objective() -> None:
    lengths = []
    for objective in ("label_then_rationale", "multitask"):
        done = audit(DATA, "--student", "scratch:t5-tiny", "--objective", objective, "--json")
        assert done.exit_code == 0
        lengths.append(json.loads(done.stdout)["arms"][0])
    assert lengths[0] != lengths[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rows.csv",), "--student"),
        (("quickstart", "--student", "scratch:t5-tiny"), "--student is for a data file"),
        (("quickstart", "--max-source-tokens", "99"), "is for a data file"),
        (("quickstart", "--objective", "label"), "is for a data file"),
        (("nowhere.yaml",), "no such file"),
        ((DATA, "--student", "scratch:t6"), "expected one of"),
        ((DATA, "--student", "x", "--rationales", "nowhere.jsonl"), "no such file"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = audit(*arguments)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
    assert isinstance(done.exception, UsageError) == (DATA not in arguments)


def test_an_unknown_objective() -> None:
    done = audit(DATA, "--student", "scratch:t5-tiny", "--objective", "labels")
    assert isinstance(done.exception, UsageError)
    assert str(done.exception).startswith("--objective: got 'labels': input should be 'label', ")
