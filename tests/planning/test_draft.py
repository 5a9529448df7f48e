"""Drafted recipes, and the default teacher, which is named in one place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tutelage import api
from tutelage.cli.main import app
from tutelage.config.recipe_file import load_recipe, parse_recipe
from tutelage.config.teacher_settings import DEFAULT_TEACHER
from tutelage.core.errors import DataError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("teacher", "asked"),
    [
        (DEFAULT_TEACHER, {"reasoning_effort": "none", "max_tokens": 400}),
        ("openai:another", {"max_tokens": 400}),
        ("gguf:model.gguf", {"temperature": 0.2, "max_tokens": 400}),
    ],
)
def test_a_draft_sends_no_parameter_that_new_models_refuse(
    teacher: str, asked: dict[str, object]
) -> None:
    file = ROOT / "examples" / "messages.csv"
    text, _ = api.draft(file, dev=None, test=None, teacher=teacher, student="scratch:t5-tiny")
    assert yaml.safe_load(text)["teacher"] == {"model": teacher, **asked}


def test_recipes_examples_and_documents_name_the_default_teacher_alone() -> None:
    recipe = load_recipe("anli-r1").teacher
    assert recipe is not None and recipe.model == DEFAULT_TEACHER
    assert set(recipe.parameters) == {"reasoning_effort", "max_tokens"}
    files = [
        *(ROOT / "examples").iterdir(), ROOT / "README.md", ROOT / "docs" / "cli.md",
        ROOT / "docs" / "recipe.md", *(ROOT / "src" / "tutelage").rglob("*.py"),
        *(ROOT / "src" / "tutelage").rglob("*.yaml"),
    ]  # fmt: skip
    for path in files:
        if path.is_file():
            assert "gpt-4.1" not in path.read_text(encoding="utf-8").replace(
                "gpt-4.1-mini is not a valid", ""
            ).replace("model gpt-4.1-mini has been", ""), path


def labelled_file(folder: Path) -> Path:
    path = folder / "labelled.csv"
    lines = [f"Note number {i} is about {i % 7},{'bug' if i % 2 else 'wish'}" for i in range(40)]
    path.write_text("\n".join(["body,kind", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("teacher", "spend"),
    [
        (DEFAULT_TEACHER, 1.0),
        ("openai:a-model-of-my-own", {"rows": 15}),
        ("gguf:model.gguf", {"rows": 15}),
    ],
)
def test_unlabelled_rows_are_part_of_the_draft(tmp_path: Path, teacher: str, spend: Any) -> None:
    pool = tmp_path / "unlabelled.csv"
    rows = [f"{i},New note {i}," for i in range(27)]
    more = ["27,Note NUMBER 3 is about 3!,", "28,new note 5?,wish", "29, ,"]
    pool.write_text("\n".join(["nr,body,kind", *rows, *more]) + "\n", encoding="utf-8")
    text, found = api.draft(
        labelled_file(tmp_path),
        dev=None,
        test=None,
        teacher=teacher,
        student="scratch:t5-tiny",
        unlabelled=str(pool),
    )
    values = yaml.safe_load(text)
    assert values["data"]["unlabelled"] == str(pool) and values["spend"] == spend
    asked = [(arm.get("strategy"), arm.get("rows", "train")) for arm in values["arms"]]
    assert asked == [
        (None, "train"),
        ("informed_reasoning", "train"),
        ("label", "unlabelled"),
        ("chain_of_thought", "unlabelled"),
    ]
    parse_recipe(values)
    assert found.pool is not None
    assert (found.pool.rows, found.pool.complete, found.pool.example) == (30, True, "New note 0")
    assert (found.pool.known, found.pool.repeated) == (1, 1)
    assert (found.pool.labelled, found.pool.unreadable) == (1, 1)
    assert "row 30" in str(found.pool.first_fault)


def test_unlabelled_rows_with_other_columns_are_refused(tmp_path: Path) -> None:
    pool = tmp_path / "unlabelled.csv"
    pool.write_text("text\nNew\n", encoding="utf-8")
    options: dict[str, Any] = {"dev": None, "test": None, "teacher": "scripted", "student": "x"}
    with pytest.raises(DataError, match=r"no column 'body', expected one of: text; .*same names"):
        api.draft(labelled_file(tmp_path), unlabelled=str(pool), **options)


def test_the_command_says_what_it_understood_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labelled_file(tmp_path)
    lines = [json.dumps({"body": text}) for text in ("New one", "new one!", "x " * 60)]
    Path("pool.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["init", "labelled.csv", "--unlabelled", "pool.jsonl"])
    assert done.exit_code == 0, done.output
    assert "pool.jsonl: 3 rows for the teacher to label, such as 'New one'" in done.stdout
    assert "1 of them repeat an earlier one: left out" in done.stdout
    written = Path("recipe.yaml").read_text(encoding="utf-8")
    assert "unlabelled: pool.jsonl" in written and "it labels 200 training rows" in written
    assert yaml.safe_load(written)["data"]["columns"] == {"label": "kind"}
