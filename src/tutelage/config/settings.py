"""The base class of settings: one definition from which everything else is derived.

A setting is a field of a `Settings` class: its name, type, default, constraint, description and
example. It defines

    the recipe's key              the class is the type of a section of `config.recipe.Recipe`
    what a stage receives         the stage takes an object of the class
    the Python API                the class's constructor
    the command's option          `cli.options` makes an option of each field
    the reference                 `config.reference` writes docs/recipe.md from the fields

so that a setting added here appears in all of them (`tests/config/test_one_definition.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from tutelage.core.errors import UsageError


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")  # pydantic reads true as 1
    if isinstance(value, str):
        try:
            # YAML 1.1 reads 6e-4 as text (it needs 6.0e-4), but a number is meant.
            return float(value)
        except ValueError:
            return value
    return value


def _integer(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a whole number")
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
"""A finite number."""

Integer = Annotated[int, BeforeValidator(_integer)]
"""A whole number; `true` is not one."""

Seed = Annotated[int, BeforeValidator(_integer), Field(ge=0, lt=2**32)]
"""A seed in the range that torch, numpy and the generators derived from it accept."""

TRIAL_SEEDS_FROM = 2**31
"""Seeds of an experiment's replicates are below this, those of their trials are not: no trial can
share its randomness with a training that is tested."""

ReplicateSeed = Annotated[int, BeforeValidator(_integer), Field(ge=0, lt=TRIAL_SEEDS_FROM)]
"""The seed of a replicate of an experiment."""

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A non-empty text."""


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class _SettingsType(ModelMetaclass):
    """Makes the constructor raise UsageError; pydantic builds sections without this call."""

    def __call__(cls: Any, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise UsageError(f"{cls.__name__}: " + "; ".join(problems_of(error, cls))) from error


class Settings(BaseModel, metaclass=_SettingsType):
    """Base class of all settings: immutable, and unknown names are refused.

    The constructor raises UsageError with every problem found.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def replace(self, **changes: Any) -> Self:
        """Copy the settings with these values changed, and check them again."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**values | changes)


def problems_of(error: ValidationError, root: type[Settings] | None = None) -> list[str]:
    """One line for each problem: the key, what was found and what was expected.

    root: the class that was checked; an unknown key is compared with its names
    """
    return [line for fault in error.errors() for line in _lines(fault, root)]


def section_at(root: type[Settings], keys: Sequence[str]) -> type[Settings] | None:
    """The class of the section at `keys` below `root`; None where there is none."""
    section: type[Settings] | None = root
    for key in keys:
        if section is None or key not in section.model_fields:
            return None
        section = nested_section(section.model_fields[key].annotation)
    return section


def nested_section(annotation: Any) -> type[Settings] | None:
    """The Settings class in an annotation such as `list[Section]` or `Section | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    found = (nested_section(part) for part in get_args(annotation))
    return next((section for section in found if section is not None), None)


def _lines(fault: Mapping[str, Any], root: type[Settings] | None) -> list[str]:
    where = _keys(fault["loc"], root)
    key = ".".join(where)
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        parents = [part for part in where[:-1] if not part.isdigit()]
        section = None if root is None else section_at(root, parents)
        names = [] if section is None else list(section.model_fields)
        near = difflib.get_close_matches(where[-1], names, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        if names and not near:
            hint = f": expected one of {', '.join(names)}"
        return [f"{key}: unknown key{hint}"]
    if fault["type"] == "missing":
        return [f"{key}: is missing"]
    if fault["type"] == "value_error" and not message.startswith("expected "):
        return [f"{key}: {line}" if key else line for line in message.split("\n")]
    found = f"got {fault['input']!r}: {message[:1].lower()}{message[1:]}"
    return [f"{key}: {found}" if key else found]


def _keys(location: Sequence[str | int], root: type[Settings] | None) -> list[str]:
    """The keys and positions in a location, without the union members that pydantic adds."""
    keys: list[str] = []
    for part in location:
        names = [key for key in keys if not key.isdigit()]
        section = None if root is None else section_at(root, names)
        if isinstance(part, int) or not keys or (section is not None and _is_key(str(part))):
            keys.append(str(part))
    return keys


def _is_key(part: str) -> bool:
    return part.isidentifier() and part not in {"str", "float", "int"} and not part[0].isupper()
