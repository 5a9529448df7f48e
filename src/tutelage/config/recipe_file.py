"""Recipes as files: reading them, telling what is wrong with one, drafting one for a data file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tutelage.config.design_rules import CONTROLS
from tutelage.config.recipe import Recipe
from tutelage.config.sections import (
    ArmSection,
    DataSection,
    DeparturesSection,
    SearchSection,
    StudentSection,
    TaskSection,
    TeacherSection,
)
from tutelage.core.errors import RecipeError
from tutelage.core.task import NLI, Task
from tutelage.data.describe import Description


def packaged_recipes() -> dict[str, Path]:
    """The recipes that come with Tutelage, by name."""
    folder = Path(__file__).parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(source: str | Path) -> Recipe:
    """The recipe in a YAML file, or one that comes with Tutelage, by its name.

    Raises RecipeError, which holds every problem found, a line each.
    """
    known = packaged_recipes()
    path = known.get(str(source), Path(source))
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = difflib.get_close_matches(str(source), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise RecipeError(
            f"recipe {str(source)!r}: there is no such file: {hint}expected a YAML file or one of "
            f"{', '.join(known)}; `tutelage init FILE` writes one for a data file"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = "is a folder" if path.is_dir() else f"cannot be read as text ({error})"
        raise RecipeError(f"recipe {str(source)!r}: {reason}: expected a YAML file") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    return parse_recipe(values, str(path))


def parse_recipe(values: object, name: str = "recipe") -> Recipe:
    """The recipe that a mapping describes; `name` is for messages."""
    if not isinstance(values, Mapping):
        raise RecipeError(
            f"{name}: got {type(values).__name__}, expected a mapping with name, data, arms, …"
        )
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        problems = tuple(line for fault in error.errors() for line in _lines(fault))
        raise RecipeError(f"{name}: {problems[0]}", problems) from error


def task_of(source: str | None) -> Task:
    """The task of a recipe; NLI where none is named."""
    return NLI if source is None else load_recipe(source).resolved_task()


def columns_of(source: str | None) -> dict[str, str] | None:
    """The columns that a recipe maps, if one is named and maps any."""
    return None if source is None else load_recipe(source).data.columns or None


_KEYS: Mapping[str, type[BaseModel]] = {
    "": Recipe,
    "task": TaskSection,
    "data": DataSection,
    "teacher": TeacherSection,
    "student": StudentSection,
    "arms": ArmSection,
    "departures": DeparturesSection,
    "search": SearchSection,
}


def _lines(fault: Any) -> list[str]:
    """One problem as pydantic tells it, as a person wants to read it."""
    where = [str(part) for part in fault["loc"] if str(part) not in ("str", "float", "TaskSection")]
    key = ".".join(where)
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        parents = [part for part in where[:-1] if not part.isdigit()]
        section = _KEYS.get(parents[-1] if parents else "", Recipe)
        fields = list(section.model_fields)
        near = difflib.get_close_matches(where[-1], fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(fields)}"
        return [f"{key}: is no key of a recipe: {hint}"]
    if fault["type"] == "missing":
        return [f"{key}: is missing"]
    if fault["type"] == "value_error":
        return [f"{key}: {line}" if key else line for line in message.split("\n")]
    return [f"{key}: got {fault['input']!r}: {message[:1].lower()}{message[1:]}"]


def draft_recipe(
    file: Path,
    found: Description,
    *,
    dev: str | None,
    test: str | None,
    teacher: str,
    student: str,
) -> str:
    """A recipe for `file`, as YAML with comments; it is valid as it stands."""
    data: dict[str, Any] = {"train": str(file), "dev": dev or 0.1, "test": test or 0.2}
    if found.columns:
        data["columns"] = dict(found.columns)
    values: dict[str, Any] = {
        "name": "".join(c if c.isalnum() or c in "-_" else "-" for c in file.stem) or "experiment",
        "task": "nli",
        "data": data,
        "teacher": {"model": teacher, "temperature": 0.2, "max_tokens": 400},
        "student": {"model": student},
        "controls": list(CONTROLS),
        "arms": [
            {"name": "labels"},
            {"name": "informed-reasoning", "strategy": "informed_reasoning"},
        ],
        "search": {"learning_rate": [0.0006, 0.0012, 0.0024], "label_weight": [0.5]},
        "seeds": [0, 1, 2, 3, 4],
    }
    if not found.is_nli:
        values["task"] = {"fields": list(found.fields), "labels": list(found.labels)}
    parse_recipe(values, f"draft for {file}")
    comments = {
        "data": "dev and test are shares of train here; name files of their own if you have them",
        "teacher": "asked once for each training row; answers are kept in .tutelage/ledger.sqlite",
        "controls": "arms added to each rationale arm: do other rows' rationales, the label said "
        "again or empty words of the same length do as much?",
        "search": "each arm tries every configuration on one seed, and the best one on all seeds",
    }
    parts = []
    for key, value in values.items():
        if key in comments:
            parts.append(f"# {comments[key]}\n")
        parts.append(yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True))
    return "".join(parts)
