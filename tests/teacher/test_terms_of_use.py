"""Where a provider's terms are: one table, which knows every provider that the program knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import tutelage.teacher
from tutelage.config.recipe_file import parse_recipe
from tutelage.config.teacher_settings import KEY_VARIABLES, TeacherSettings
from tutelage.core.progress import Silent
from tutelage.experiment.before_buying import compare_with_known_labels
from tutelage.experiment.prepare import load_splits
from tutelage.experiment.provider_terms import terms_of
from tutelage.planning.plan import PlanSettings, plan_recipe
from tutelage.teacher.terms_of_use import SERVERS, TERMS, terms_note

ELSEWHERE = {"github.com", "rfc-editor.org", "microsoft.com", "google.dev"}
"""Hosts of references in the source, of which none serves a model under that name."""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "openai:m"}, "the terms of api.openai.com (https://openai.com/"),
        ({"model": "anthropic:m", "max_tokens": 9}, "https://www.anthropic.com/"),
        ({"model": "gemini:m"}, "https://ai.google.dev/"),
        ({"model": "openai:m", "base_url": "https://api.mistral.ai/v1"}, "https://mistral.ai/"),
        ({"model": "openai:m", "base_url": "https://llm.example/v1"}, "the terms of llm.example s"),
        ({"model": "openai:m", "base_url": "http://localhost:8000/v1"}, "licence of the model"),
        ({"model": "gguf:model.gguf"}, "the licence of the model"),
        ({"model": "openai:m", "base_url": "https://me.openai.azure.com/openai/v1"}, "microsoft"),
        ({"model": "openai:m", "base_url": "https://notopenai.com/v1"}, "of notopenai.com should"),
    ],
)
def test_the_terms_are_pointed_to(settings: dict[str, Any], said: str) -> None:
    note = terms_note(TeacherSettings.model_validate(settings))
    assert note is not None and said in note and "train a model on its answers" in note


def test_a_teacher_that_looks_answers_up_has_no_terms_here() -> None:
    assert terms_note(TeacherSettings(model="scripted")) is None


def test_every_scheme_that_is_a_server_has_its_terms() -> None:
    assert set(SERVERS) == set(KEY_VARIABLES)
    for scheme in SERVERS:
        note = terms_note(TeacherSettings(model=f"{scheme}:m", max_tokens=9))
        assert note is not None and "(https://" in note


def test_every_provider_that_the_source_names_has_its_terms() -> None:
    """By the addresses and endings of hosts in the teacher's code."""
    source = Path(tutelage.teacher.__file__).parent
    named = set()
    for path in (each for each in source.rglob("*.py") if each.stem != "terms_of_use"):
        text = path.read_text(encoding="utf-8")
        found = [urlsplit(url).hostname or "" for url in re.findall(r"https://[^\s\"'`),>]+", text)]
        found += re.findall(r'"\.([a-z-]+\.(?:com|net|ai|dev))"', text)
        named |= {".".join(host.split(".")[-2:]) for host in found if "." in host}
    assert {"azure.com", "azure-api.net", "groq.com", "deepseek.com"} <= named
    assert named - ELSEWHERE - {"example.com"} <= set(TERMS)
    assert all(url.startswith("https://") for url in TERMS.values())


class Notes(Silent):
    """Keeps the notes of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def test_plan_and_run_say_it_before_anything_is_paid(
    small_recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    recipe = parse_recipe(small_recipe(teacher={"model": "openai:m", "price": 0}))
    assert terms_of(recipe) == (terms_note(TeacherSettings(model="openai:m")),)
    plan = plan_recipe(recipe, PlanSettings(ledger=tmp_path / "l.sqlite"), Silent())
    assert plan.terms == terms_of(recipe)
    assert terms_of(parse_recipe(small_recipe())) == ()
    notes = Notes()  # of an experiment whose arms buy rationales alone
    assert compare_with_known_labels(recipe, load_splits(recipe), tmp_path, None, notes) == ()
    assert tuple(notes.lines) == plan.terms
