"""JSON lines, and JSON documents that hold a list of rows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError
from tutelage.data.source import Row, Source, named, refuse_repeated
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


def open_json(path: Path, layout: LayoutSettings, part: str | None = None) -> Source:
    """Open a `.json` file: a list of objects or of lists, an object that holds one, what pandas
    writes, or JSON lines. All but the last is held in memory.

    part: the key of the list, in an object that holds several

    Raises DataError for any other document.
    """
    lines = text_lines(path, layout.encoding, newline="\n")
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError("is blank, expected rows", path=path)
    more = any(line.strip() for line in lines)
    if part is None and first.lstrip().startswith("{") and (more or first.rstrip().endswith("}")):
        try:
            single = json.loads(first)
        except (ValueError, RecursionError):
            single = None
        if isinstance(single, dict) and (more or _is_row(single)):
            return open_json_lines(path, layout)
    text = "".join(text_lines(path, layout.encoding, newline="\n"))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not valid JSON ({error})", path=path) from error
    several = _lists_of_rows(document)
    if part is not None and part not in several:
        listed = f", expected one of {', '.join(several)}" if several else ""
        raise DataError(f"holds no list of rows {part!r}{listed}", path=path)
    if part is None and len(several) > 1:
        raise DataError(
            f"holds several lists of rows ({', '.join(several)}): name one as "
            f"{path}#{next(iter(several))}",
            path=path,
        )
    found = several[part] if part is not None else _rows_of(document)
    if found is None:
        raise DataError(
            f"got a JSON {type(document).__name__} without a list of rows, expected a list of "
            "objects, or an object that holds one such list",
            path=path,
        )
    if found and all(isinstance(row, list) and len(row) == len(found[0]) for row in found):
        return _table(path, found, layout)
    rows: list[tuple[int, Row]] = []
    for number, row in enumerate(found, 1):
        if not isinstance(row, dict):
            kind = type(row).__name__
            row = DataError(f"row {number}: got a JSON {kind}, expected an object", path=path)
        rows.append((number, row))
    return Source(str(path), None, rows, lines=False)


def _table(path: Path, found: list[list[Any]], layout: LayoutSettings) -> Source:
    """Rows that are lists of cells; the first has the names, unless the layout says otherwise."""
    header = [str(number) for number in range(1, len(found[0]) + 1)]
    start = 0
    if layout.header:
        header, start = named([str(cell) for cell in found[0]]), 1
        refuse_repeated(header, path)
    rows = [
        (number, dict(zip(header, cells, strict=True)))
        for number, cells in enumerate(found[start:], start + 1)
    ]
    return Source(str(path), header, rows, lines=False, headed=layout.header)


def _is_rows(part: Any) -> bool:
    """Whether this is a list of objects, or of lists of one length."""
    if not isinstance(part, list) or not part:
        return False
    same = isinstance(part[0], list) and len(part[0]) > 1
    return all(isinstance(row, dict) for row in part) or (
        same and all(isinstance(row, list) and len(row) == len(part[0]) for row in part)
    )


def _lists_of_rows(document: Any) -> dict[str, list[Any]]:
    """The lists of rows that an object holds and nothing else, by their keys: one for each
    split."""
    if isinstance(document, dict) and document and all(map(_is_rows, document.values())):
        return document
    return {}


def _is_row(document: dict[str, Any]) -> bool:
    """Whether an object on the only line of a file is a row, and not a document."""
    return len(_lists_of_rows(document)) < 2 and _rows_of(document) is None


def _rows_of(document: Any) -> list[Any] | None:
    """The rows of a document, or None where it does not have one list of them."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict) or not document:
        return None
    parts = list(document.values())
    if all(isinstance(part, Mapping) for part in parts) and len({tuple(p) for p in parts}) == 1:
        inner = list(parts[0])
        # Columns with rows numbered from 0, as pandas writes them; else objects by their ids.
        numbered = inner == [str(number) for number in range(len(inner))]
        if len(parts) > len(inner) and not numbered:
            return parts
        return [{name: document[name][key] for name in document} for key in inner]
    lists = [part for part in parts if isinstance(part, list)]
    columns, data = document.get("columns"), document.get("data")
    if isinstance(columns, list) and _is_rows(data) and data and len(data[0]) == len(columns):
        return [columns, *data]  # as pandas writes a "split"
    of_objects = [part for part in lists if part and all(isinstance(row, dict) for row in part)]
    if len(of_objects) == 1:
        return of_objects[0]
    if len(lists) == len(parts) and not of_objects and len({len(part) for part in lists}) == 1:
        return [dict(zip(document, values, strict=True)) for values in zip(*lists, strict=True)]
    return None
