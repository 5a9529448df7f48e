"""Load recipes: find the file, parse it and check it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import ValidationError

from tutelage.config.recipe import Recipe
from tutelage.config.settings import problems_of
from tutelage.config.yaml_files import load_yaml
from tutelage.core.errors import RecipeError

RECIPE_SUFFIXES = (".yaml", ".yml")


def packaged_recipes() -> dict[str, Path]:
    """The recipe files that come with Tutelage, by name."""
    folder = Path(__file__).parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def is_recipe(source: str) -> bool:
    """Whether `source` names a recipe: a YAML file, or a packaged recipe."""
    return source.endswith(RECIPE_SUFFIXES) or source in packaged_recipes()


def load_recipe(source: str | Path) -> Recipe:
    """Load the recipe in a YAML file, or the packaged recipe of that name.

    Raises RecipeError, which holds every problem found, one line each.
    """
    known = packaged_recipes()
    path = known.get(str(source), Path(source))
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = difflib.get_close_matches(str(source), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise RecipeError(
            f"recipe {str(source)!r}: no such file: {hint}expected a YAML file or one of "
            f"{', '.join(known)}; `tutelage init FILE` writes one for a data file"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = "is a folder" if path.is_dir() else f"could not be read as text ({error})"
        raise RecipeError(f"recipe {str(source)!r}: {reason}: expected a YAML file") from error
    try:
        values = load_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    return parse_recipe(values, str(path))


def parse_recipe(values: object, name: str = "recipe") -> Recipe:
    """Make the recipe that a mapping describes. Raises RecipeError.

    name: of the source, for messages
    """
    if not isinstance(values, Mapping):
        raise RecipeError(
            f"{name}: got {type(values).__name__}, expected a mapping with name, data, arms, …"
        )
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        problems = tuple(problems_of(error, Recipe))
        raise RecipeError(f"{name}: {problems[0]}", problems) from error
