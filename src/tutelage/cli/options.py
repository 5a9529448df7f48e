"""Derive a command's options from the definitions of settings.

    @takes(TeacherSettings, "Teacher", names={"model": "teacher"})
    def command(data: …, *, given: Given) -> None:
        settings = given.build(TeacherSettings)

Each field becomes an option of its name, with its description and default. An option takes what the
recipe's key takes; a section such as `price` or `lora` is written as in a recipe:
`--price '{input: 0.5, output: 1.5}'`. Only options that were given are passed on, so defaults and
constraints are defined in one place.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from tutelage.config.settings import Settings, problems_of
from tutelage.config.yaml_files import load_yaml_option
from tutelage.core.errors import UsageError

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Given:
    """The options that were given on the command line, by class and field."""

    values: dict[type[Settings], dict[str, Any]] = field(default_factory=dict)
    options: dict[type[Settings], dict[str, str]] = field(default_factory=dict)

    def names(self) -> list[str]:
        """The names of the options that were given, as on the command line."""
        return [self.options[kind][name] for kind, found in self.values.items() for name in found]

    def build(self, kind: type[S], **others: Any) -> S:
        """Build the settings from the given options, `others` and defaults.

        Raises UsageError, whose message is one line.
        """
        values = {**others, **self.values.get(kind, {})}
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            names = self.options.get(kind, {})
            lines = []
            for line in problems_of(error, kind):
                key, colon, rest = line.partition(":")
                first, _, deeper = key.partition(".")
                # A position in a list built from repeated options means nothing to the user.
                deeper = "" if deeper.isdigit() else deeper
                lines.append(f"{names.get(first, first)}{deeper and '.'}{deeper}{colon}{rest}")
            raise UsageError("; ".join(lines)) from error


def option_name(name: str) -> str:
    """`max_tokens` -> `--max-tokens`."""
    return "--" + name.replace("_", "-")


def takes(
    kind: type[Settings],
    panel: str,
    *,
    only: Collection[str] | None = None,
    names: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add an option for each field of `kind` to a command, which receives them as `given`.

    panel: the heading under which `--help` lists them
    only:  these fields; None: all
    names: field -> another name of its option
    """
    renamed = names or {}
    chosen = {n: f for n, f in kind.model_fields.items() if only is None or n in only}
    options = {name: option_name(renamed.get(name, name)) for name in chosen}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints.get(name, parameter.annotation))
            for name, parameter in signature.parameters.items()
            if name != "given"
        ]
        added = [_parameter(name, chosen[name], options[name], panel) for name in chosen]

        def run(**values: Any) -> None:
            given: Given = values.pop("given", None) or Given()
            found = {
                name: _value(chosen[name], values.pop(_key(name)), options[name]) for name in chosen
            }
            given.values[kind] = {n: v for n, v in found.items() if v is not None}
            given.options[kind] = options
            command(**values, given=given)

        run.__name__ = command.__name__
        run.__doc__ = command.__doc__
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *added)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _key(name: str) -> str:
    return f"setting_{name}"


def _parameter(name: str, info: FieldInfo, option: str, panel: str) -> inspect.Parameter:
    kind, extra = _option_type(info.annotation)
    text = (info.description or "").replace("`", "")
    if not info.is_required() and info.default not in (None, ()) and "Default:" not in text:
        text += f" Default: {'no' if info.default is False else info.default}."
    declared = typer.Option(
        f"{option}/--no-{option[2:]}" if kind is bool else option,
        help=text,
        show_default=False,
        rich_help_panel=panel,
        **extra,
    )
    return inspect.Parameter(
        _key(name),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, declared],
    )


def _option_type(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """The type that typer converts to, and further arguments of the option."""
    plain = _without_none(annotation)
    if get_origin(plain) is Literal:
        return str, {"metavar": "|".join(map(str, get_args(plain)))}
    if get_origin(plain) is tuple:
        inner = _without_none(get_args(plain)[0])
        if get_origin(inner) is Literal:
            return list[str], {"metavar": "|".join(map(str, get_args(inner)))}
        return list[str], {}
    if plain in (bool, str, Path):
        return plain, {}
    if plain in (int, float):
        # As text: the definition converts and checks it, and words the error.
        return str, {"metavar": "INTEGER" if plain is int else "NUMBER"}
    return str, {"metavar": "YAML"}


def _without_none(annotation: Any) -> Any:
    """`Annotated[T, …] | None` -> T."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            parts = [part for part in get_args(annotation) if part is not type(None)]
            if len(parts) != 1:
                return annotation
            annotation = parts[0]
        else:
            return annotation


def _value(info: FieldInfo, value: Any, option: str) -> Any:
    if value is None or value == []:
        return None
    kind, extra = _option_type(info.annotation)
    if kind is str and extra.get("metavar") == "YAML":
        return load_yaml_option(value, option)
    return value
