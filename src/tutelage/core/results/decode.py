"""Decodes JSON into frozen dataclasses: no key missing or unknown, every value of its type.

The inverse of `storage.as_json`. What a dataclass declares is what a file must hold; a key whose
field has a default may be absent, so that a field that is added with one leaves older files valid.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tutelage.core.errors import RunFolderError
from tutelage.core.results.document import FORMAT, Results
from tutelage.core.storage import read_json

T = TypeVar("T")

_AGAIN = (
    "run the recipe again: trainings whose settings are unchanged are kept, and the results are "
    "computed again"
)


class MismatchError(ValueError):
    """A value that is not of its declared type; the message says where, and what was expected."""


def load_results(path: Path) -> Results:
    """The results in the file at `path` (RUN/results.json).

    Raises RunFolderError for a file that cannot be read, has another format, or is damaged.
    """
    document = read_json(path)
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT or isinstance(found, bool):
        what = "no format number" if found is None else f"format {found!r}"
        raise RunFolderError(f"{path}: has {what}, expected format {FORMAT}: {_AGAIN}")
    try:
        return decode(Results, document)
    except MismatchError as error:
        raise RunFolderError(f"{path}: is damaged: {error}: {_AGAIN}") from error


def decode(kind: type[T], document: Any) -> T:
    """`document`, as `json` gives it, as an object of the dataclass `kind`.

    Understands dataclasses, tuples, mappings with text as keys, optional values, Literal, str, int,
    float, bool and Any. A whole number is taken for a float; nothing else is converted. Raises
    MismatchError.
    """
    result: T = _value(kind, document, "")
    return result


def _value(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _object(kind, value, where)
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        (kind,) = (each for each in arguments if each is not types.NoneType)
        return _value(kind, value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is Mapping:
        _check(isinstance(value, dict), value, "an object", where)
        return {
            _value(arguments[0], key, where): _value(arguments[1], of, f"{where}.{key}")
            for key, of in value.items()
        }
    if origin is Literal:
        _check(value in arguments, value, f"one of {', '.join(map(repr, arguments))}", where)
        return value
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        _check(number, value, "a number", where)
        return float(value)
    _check(type(value) is kind, value, _NAMES[kind], where)
    return value


_NAMES: Mapping[Any, str] = {str: "text", int: "a whole number", bool: "true or false"}


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    _check(isinstance(value, list), value, "a list", where)
    if kinds[-1] is ...:
        kinds = kinds[:1] * len(value)
    _check(len(value) == len(kinds), value, f"a list of {len(kinds)}", where)
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_value(kind, each, f"{where}[{place}]") for place, (kind, each) in pairs)


def _object(kind: Any, value: Any, where: str) -> Any:
    _check(isinstance(value, dict), value, "an object", where)
    kinds = _fields(kind)
    place = where.removeprefix(".") or "the document"
    needed = _without_default(kind)
    if missing := [name for name in kinds if name in needed and name not in value]:
        raise MismatchError(f"{place} lacks the key {missing[0]!r}")
    if unknown := [name for name in value if name not in kinds]:
        raise MismatchError(f"{place} has the unknown key {unknown[0]!r}")
    given = {name: of for name, of in kinds.items() if name in value}
    return kind(**{name: _value(of, value[name], f"{where}.{name}") for name, of in given.items()})


@cache
def _without_default(kind: Any) -> frozenset[str]:
    missing = dataclasses.MISSING
    return frozenset(
        field.name
        for field in dataclasses.fields(kind)
        if field.default is missing and field.default_factory is missing
    )


@cache
def _fields(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _check(fits: bool, value: Any, expected: str, where: str) -> None:
    if not fits:
        shown = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:40]}…"
        raise MismatchError(f"{where.removeprefix('.')}: got {shown}, expected {expected}")
