"""Write docs/recipe.md from the definitions: each key's type, default, meaning and example.

python -m tutelage.config.reference > docs/recipe.md
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from tutelage.config.recipe import Recipe
from tutelage.config.settings import Settings, nested_section

_INTRODUCTION = """\
# Recipe reference

*Generated from the definitions in `src/tutelage/config` by `make docs`; do not edit it by hand.*

A recipe is one YAML file. `name`, `data` and `arms` are required; everything else has a default.
The same names are the arguments of the Python classes (`TeacherSettings`, `TrainSettings`) and,
with hyphens, the options of `tutelage annotate`, `train` and `plan` ([cli.md](cli.md)).
"""


def recipe_reference() -> str:
    """The complete page, as Markdown."""
    parts = [_INTRODUCTION]
    for title, kind, prefix in _sections(Recipe, "", "The recipe"):
        summary = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
        parts.append(f"## {title}\n\n{summary}\n\n{table_of(kind, prefix)}")
    return "\n".join(parts)


def table_of(kind: type[Settings], prefix: str) -> str:
    """The fields of one class as a Markdown table; `prefix` is the key of its section."""
    lines = ["| key | type | default | meaning | example |", "|---|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        key = f"{prefix}.{name}" if prefix else name
        cells = (
            f"`{key}`",
            _type(field),
            _default(field),
            field.description or "",
            _example(field),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _sections(
    kind: type[Settings], prefix: str, title: str
) -> Iterator[tuple[str, type[Settings], str]]:
    yield title, kind, prefix
    for name, field in kind.model_fields.items():
        section = nested_section(field.annotation)
        # An arm's own teacher has the keys of the recipe's, its classifier those of a baseline.
        if section is not None and not (prefix == "arms[]" and name in ("teacher", "classifier")):
            listed = get_origin(_plain(field.annotation)) in (list, tuple)
            key = f"{prefix}.{name}" if prefix else name
            yield from _sections(section, key + "[]" * listed, f"`{key}`")


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _type(field: FieldInfo) -> str:
    text = _type_name(field.annotation)
    bounds = [
        f"{words} {getattr(rule, name)}"
        for rule in field.metadata
        for name, words in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
        if getattr(rule, name, None) is not None
    ]
    return ", ".join([text, *bounds])


def _type_name(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(parts[0])
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in parts if part is not type(None))
    if origin in (list, tuple):
        return f"list of {_type_name(parts[0])}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return "section"
    names = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if (
        field.default is None
        or isinstance(field.default, Settings)
        or field.default in ((), {}, [])
    ):
        return ""
    return f"`{_yaml(field.default)}`"


def _example(field: FieldInfo) -> str:
    return f"`{_yaml(field.examples[0])}`" if field.examples else ""


def _yaml(value: Any) -> str:
    """A value in the notation of a recipe, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(":{}[],#|“") else text


if __name__ == "__main__":
    print(recipe_reference(), end="")
