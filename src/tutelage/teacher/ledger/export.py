"""Exports answers from a ledger and imports them into another: one JSON object per line.

The file holds everything that the ledger knows about an answer. It holds no secrets, because the
ledger holds none.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError
from tutelage.core.storage import atomic_file, encode_json, refuse_folder
from tutelage.core.types import Example, Message, Request
from tutelage.teacher.ledger.store import INSERT_ANSWER, Ledger, request_key

_ROLES = ("system", "user", "assistant")


def export_answers(ledger: Ledger, path: Path, strategies: Sequence[str] = ()) -> int:
    """Write answers to a file, one JSON object per line, in the order in which they arrived.

    strategies: answers to these alone; empty: all

    Returns how many there are. `import_answers` restores them exactly.
    """
    refuse_folder(path)
    count = 0
    with atomic_file(path) as file:
        for line in _exported(ledger, strategies):
            file.write(encode_json(json.dumps(line, ensure_ascii=False) + "\n"))
            count += 1
    return count


def _exported(ledger: Ledger, strategies: Sequence[str]) -> Iterator[dict[str, Any]]:
    condition = f"WHERE strategy IN ({','.join('?' * len(strategies))})" if strategies else ""
    with ledger.reader() as connection:
        for row in connection.execute(
            f"SELECT {', '.join(_FIELDS)} FROM answers {condition} ORDER BY id", tuple(strategies)
        ):
            line = dict(zip(_FIELDS, row, strict=True))
            line["key"] = line["key"].hex()
            line["messages"] = json.loads(line["messages"])
            line["parameters"] = json.loads(line["parameters"])
            yield line


def import_answers(ledger: Ledger, path: Path) -> tuple[int, int]:
    """Import answers that `export_answers` wrote; returns how many are new, and how many are not.

    The first answer stored under a key stays. No budget is charged: the answers were paid for where
    they come from. Each key is recomputed and compared. Raises DataError at the first line that is
    wrong; then nothing of the file is imported.
    """

    def work(connection: sqlite3.Connection) -> tuple[int, int]:
        new = lines = 0
        for row in _imported(path):
            lines += 1
            if connection.execute(INSERT_ANSWER, row).rowcount:
                new += 1
                connection.execute("DELETE FROM failures WHERE key = ?", (row[0],))
        return new, lines - new

    return ledger.transact(work)


def _imported(path: Path) -> Iterator[tuple[object, ...]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield _row(json.loads(line.decode("utf-8")))
                except (ValueError, RecursionError) as error:
                    raise DataError(
                        f"{error}; expected a line written by `tutelage ledger export`; nothing "
                        "was imported",
                        path=path,
                        line=number,
                    ) from error
    except OSError as error:
        raise DataError(f"could not be read ({error.strerror})", path=path) from error


def _row(line: Any) -> tuple[object, ...]:
    """The parameters of INSERT_ANSWER for a line. Raises ValueError where the line is wrong."""
    if not isinstance(line, dict):
        raise ValueError("is not a JSON object")
    line = dict.fromkeys(_LATER) | line
    if line.keys() != set(_FIELDS):
        missing, unknown = set(_FIELDS) - line.keys(), line.keys() - set(_FIELDS)
        raise ValueError(
            f"lacks {sorted(missing)}" if missing else f"has unknown fields {sorted(unknown)}"
        )
    for name, (expected, holds) in _FIELDS.items():
        if not holds(line[name]):
            raise ValueError(f"field {name!r} is {line[name]!r:.80}, expected {expected}")
    request = Request(
        model=line["model"],
        messages=tuple(Message(m["role"], m["content"]) for m in line["messages"]),
        strategy=line["strategy"],
        example=Example("", {}, ""),
        parameters=line["parameters"],
        sample=line["sample"],
    )
    if request_key(line["identity"], request) != line["key"]:
        raise ValueError("its key does not match its request, which was changed")
    values = dict(line)
    values["key"] = bytes.fromhex(line["key"])
    values["messages"] = json.dumps(line["messages"], ensure_ascii=False)
    values["parameters"] = json.dumps(line["parameters"], ensure_ascii=False)
    return tuple(values[name] for name in _FIELDS)


def _is_text(value: object) -> bool:
    # Half a surrogate pair is valid JSON, but cannot be stored as UTF-8.
    return isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_time(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def _is_key(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _are_messages(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(message, dict)
        and message.keys() == {"role", "content"}
        and message["role"] in _ROLES
        and _is_text(message["content"])
        for message in value
    )


def _are_parameters(value: object) -> bool:
    return isinstance(value, dict) and all(
        _is_text(name)
        and (
            _is_text(setting)
            or _is_time(setting)
            or setting is None
            or isinstance(setting, (bool, dict, list))
        )
        for name, setting in value.items()
    )


def _or_null(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or holds(value)


# In the order of INSERT_ANSWER.
_FIELDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "key": ("64 hexadecimal digits", _is_key),
    "identity": ("text", _is_text),
    "model": ("text", _is_text),
    "strategy": ("text", _is_text),
    "messages": ("a list of roles and contents", _are_messages),
    "parameters": ("an object of numbers and texts", _are_parameters),
    "sample": ("a number from 0", _is_count),
    "text": ("text", _is_text),
    "finish_reason": ("text or null", _or_null(_is_text)),
    "prompt_tokens": ("a number from 0, or null", _or_null(_is_count)),
    "completion_tokens": ("a number from 0, or null", _or_null(_is_count)),
    "cached_tokens": ("a number from 0, or null", _or_null(_is_count)),
    "scope": ("text or null", _or_null(_is_text)),
    "pico": ("a number from 0, or null", _or_null(_is_count)),
    "created": ("seconds since 1970", _is_time),
    "reasoning": ("text or null", _or_null(_is_text)),
    "served": ("text or null", _or_null(_is_text)),
    "server": ("text or null", _or_null(_is_text)),
}

_LATER = ("reasoning", "served", "server")
"""Fields that older files lack."""
