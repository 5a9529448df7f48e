"""JSON lines, and JSON documents that hold a list of rows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError
from tutelage.data.source import Row, Source
from tutelage.data.text_files import text_lines


def open_json_lines(path: Path, layout: LayoutSettings) -> Source:
    """Open a file with one object on each line. Raises DataError for a blank file."""
    # Only "\n" ends a row: U+2028 may stand inside a JSON string.
    lines = text_lines(path, layout.encoding, newline="\n")
    numbered = ((n, line) for n, line in enumerate(lines, 1) if line.strip())
    first = next(numbered, None)
    if first is None:
        raise DataError("is blank, expected rows", path=path)

    def rows() -> Iterator[tuple[int, Row]]:
        for number, line in itertools.chain([first], numbered):
            yield number, _object(path, number, line)

    return Source(str(path), None, rows(), lines=True)


def _object(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return DataError(
            f"is not valid JSON ({error}), expected one object on each line",
            path=path,
            line=number,
        )
    if not isinstance(row, dict):
        return DataError(
            f"got a JSON {type(row).__name__}, expected one object on each line",
            path=path,
            line=number,
        )
    return row


def open_json(path: Path, layout: LayoutSettings) -> Source:
    """Open a `.json` file: a list of objects, an object that holds one, columns as pandas writes
    them, or JSON lines. All but the last is held in memory.

    Raises DataError for any other document.
    """
    lines = text_lines(path, layout.encoding, newline="\n")
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError("is blank, expected rows", path=path)
    more = any(line.strip() for line in lines)
    if first.lstrip().startswith("{") and (more or first.rstrip().endswith("}")):
        try:
            single = json.loads(first)
        except (ValueError, RecursionError):
            single = None
        if isinstance(single, dict) and (more or _rows_of(single) is None):
            return open_json_lines(path, layout)
    text = "".join(text_lines(path, layout.encoding, newline="\n"))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not valid JSON ({error})", path=path) from error
    found = _rows_of(document)
    if found is None:
        raise DataError(
            f"got a JSON {type(document).__name__} without a list of rows, expected a list of "
            "objects, or an object that holds one such list",
            path=path,
        )
    rows: list[tuple[int, Row]] = []
    for number, row in enumerate(found, 1):
        if not isinstance(row, dict):
            kind = type(row).__name__
            row = DataError(f"row {number}: got a JSON {kind}, expected an object", path=path)
        rows.append((number, row))
    return Source(str(path), None, rows, lines=False)


def _rows_of(document: Any) -> list[Any] | None:
    """The rows of a document, or None where it does not have one list of them."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict) or not document:
        return None
    parts = list(document.values())
    if all(isinstance(part, Mapping) for part in parts) and len({tuple(p) for p in parts}) == 1:
        return [{name: document[name][key] for name in document} for key in parts[0]]
    lists = [part for part in parts if isinstance(part, list)]
    of_objects = [part for part in lists if part and all(isinstance(row, dict) for row in part)]
    if len(of_objects) == 1:
        return of_objects[0]
    if len(lists) == len(parts) and not of_objects and len({len(part) for part in lists}) == 1:
        return [dict(zip(document, values, strict=True)) for values in zip(*lists, strict=True)]
    return None
