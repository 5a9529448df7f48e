"""Values as servers send them: JSON, texts and counts, none of which can be relied on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_MOST_TOKENS = 10**9
"""No request has more tokens: such a count makes no sense, and counts as none."""


def parse_json(text: str) -> Any:
    """The value, or None for text that is not JSON (`null` is not an answer either)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # the latter: brackets inside of brackets inside of …
        return None


def storable(text: str) -> str:
    """A text without halves of surrogate pairs, which cannot be stored."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def parse_count(value: object) -> int | None:
    """A number of tokens; None for what cannot be one: negative, absurdly large, or no number."""
    if value is None or (type(value) is int and 0 <= value <= _MOST_TOKENS):
        return value  # nearly every one
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS:
        return value
    return None


def dicts(value: object) -> Iterator[dict[str, Any]]:
    """The objects in a list; nothing for anything else."""
    yield from (part for part in value if isinstance(part, dict)) if isinstance(value, list) else ()
