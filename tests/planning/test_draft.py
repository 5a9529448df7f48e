"""Drafted recipes, and the default teacher, which is named in one place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tutelage import api
from tutelage.config.recipe_file import load_recipe
from tutelage.config.teacher_settings import DEFAULT_TEACHER

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
