"""What single cells of a row mean: a text, an id, reasons, tags, a value inside of another one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tutelage.core.storage import half_character
from tutelage.data.source import Source


def cell_value(source: Source, place: int, row: Mapping[str, object], column: str) -> Any:
    """The value of a column, which may be a path into the row. Raises DataError for half of a
    character."""
    value = row[column] if column in row else nested(row, column)
    if not (isinstance(value, str) and value.isascii()):
        _check_whole(source, place, value, column)
    return value


def nested(value: object, path: str) -> Any:
    """The value at `a.b.c` inside of objects and lists; None where there is none.

    A list on the way stands for what its members hold there: nothing where it is empty, one value
    where all agree, else the list of the different values.
    """
    if isinstance(value, list):
        found: list[Any] = []
        for part in value:
            inner = nested(part, path) if path else part
            for one in inner if isinstance(inner, list) else [inner]:
                if one is not None and one not in found:
                    found.append(one)
        return found[0] if len(found) == 1 else (found or None)
    if not path:
        return value
    if not isinstance(value, Mapping):
        return None
    if path in value:
        return nested(value[path], "")
    key, _, rest = path.partition(".")
    return nested(value[key], rest) if rest and key in value else None


def text_of(source: Source, place: int, value: object, column: str) -> str:
    """The text of a field. Raises DataError for anything else, and for a blank one."""
    if not isinstance(value, str):
        raise source.error(f"got {_shown(value)}, expected text", place, column)
    if not value.strip():
        raise source.error(f"got {value!r}, expected text that is not blank", place, column)
    return value


def as_id(value: object) -> str | None:
    """The id that a value is: text or a whole number. None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value).strip() or None


def id_of(source: Source, place: int, value: object, column: str) -> str:
    """The id that a value is. Raises DataError where it is none."""
    text = as_id(value)
    if text is None:
        raise source.error(
            f"got {_shown(value)}, expected an id (text or a whole number)",
            place,
            column,
        )
    return text


def reasons_of(source: Source, place: int, value: object, column: str) -> list[str]:
    """One text, or a list of them where several annotators gave a reason. Raises DataError."""
    parts = value if isinstance(value, list) else [] if value is None else [value]
    texts = [part.strip() for part in parts if isinstance(part, str)]
    if len(texts) < len(parts):
        raise source.error(
            f"got {_shown(value)}, expected text, a list of texts or nothing", place, column
        )
    return [text for text in texts if text]


def tags_of(source: Source, place: int, value: object, column: str) -> tuple[str, ...]:
    """A list of texts, or one text separated by commas or semicolons. Raises DataError."""
    if value is None:
        return ()
    parts = re.split(r"[;,]", value) if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise source.error(f"got {_shown(value)}, expected a list of texts", place, column)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _check_whole(source: Source, place: int, value: object, column: str) -> None:
    """Refuse half of a surrogate pair here, where the row is known."""
    for text in value if isinstance(value, list) else (value,):
        if isinstance(text, str) and (trouble := half_character(text)) is not None:
            raise source.error(trouble, place, column)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
