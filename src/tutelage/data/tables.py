"""Parquet files and spreadsheets as rows."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError, MissingExtraError
from tutelage.core.labels import ROUNDED_FROM
from tutelage.data.source import Row, Source, first_line, refuse_repeated

_BATCH = 1000
"""Rows of a Parquet file that are in memory at once."""


def open_parquet(path: Path, layout: LayoutSettings) -> Source:
    """Open a Parquet file. Raises DataError where it is none."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "train", f"loading {path.name}") from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"is not a valid Parquet file ({first_line(error)})", path=path) from error
    schema = file.schema_arrow
    refuse_repeated(schema.names, path)

    def rows() -> Iterator[tuple[int, Row]]:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in _texts(batch).to_pylist():
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(
                f"cannot be read after row {number} ({first_line(error)})", path=path
            ) from error

    names = _class_names(schema.metadata or {})
    return Source(str(path), schema.names, rows(), lines=False, names=names)


def parquet_sample(path: Path, places: int, rows: int) -> Iterator[Mapping[str, object]]:
    """Yield `rows` rows from each of about `places` places of a Parquet file, in order. Decodes the
    whole file, in batches, and makes values of Python of these rows alone."""
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    size = max(file.metadata.num_rows // places, rows)
    for batch in file.iter_batches(batch_size=size):
        yield from _texts(batch.slice(0, rows)).to_pylist()


def _texts(batch: Any) -> Any:
    """The batch with its columns of bytes as UTF-8 text, as Spark and others store it; bytes that
    are none stay bytes, and are refused where they are used."""
    import pyarrow as pa

    for place, field in enumerate(batch.schema):
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            try:
                batch = batch.set_column(place, field.name, batch.column(place).cast(pa.string()))
            except pa.ArrowInvalid:
                continue
    return batch


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Class names by column, which the `datasets` package writes to a Parquet file's metadata."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        found = {}
        for column, feature in features.items():
            feature = feature.get("feature", feature)  # of a list
            if feature.get("_type") == "ClassLabel":
                found[column] = feature["names"]
        return found
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}  # written by another program


def open_spreadsheet(path: Path, layout: LayoutSettings, sheet: str | None = None) -> Source:
    """Open a sheet of an `.xlsx`, `.xls` or `.ods` file: the named one, or the only one with cells.

    Raises DataError for a damaged file, an unknown sheet, or several sheets where none is named.
    """
    try:
        import python_calamine
    except ImportError as error:
        raise MissingExtraError("python_calamine", "train", f"loading {path.name}") from error
    try:
        book = python_calamine.CalamineWorkbook.from_path(str(path))
        names = list(book.sheet_names)
        if sheet is not None and sheet not in names:
            raise DataError(f"no sheet {sheet!r}, expected one of {', '.join(names)}", path=path)
        found = {
            name: book.get_sheet_by_name(name).to_python()
            for name in names
            if sheet in (None, name)
        }
    except (python_calamine.CalamineError, OSError) as error:
        raise DataError(f"is not a valid spreadsheet ({first_line(error)})", path=path) from error
    filled = {name: table for name, table in found.items() if any(map(_is_filled, table))}
    if not filled:
        raise DataError("is empty, expected rows", path=path)
    if len(filled) > 1:
        raise DataError(
            f"has several sheets with cells ({', '.join(filled)}): name one as {path}#SHEET",
            path=path,
        )
    (table,) = filled.values()
    numbered = [
        (number, [_cell(cell) for cell in cells])
        for number, cells in enumerate(table, 1)
        if _is_filled(cells)
    ]
    header = [str(number) for number in range(1, len(numbered[0][1]) + 1)]
    if layout.header:
        header = ["" if cell is None else str(cell) for cell in numbered.pop(0)[1]]
        refuse_repeated(header, path)
    rows = [
        (number, {name: cell for name, cell in zip(header, cells, strict=True) if name})
        for number, cells in numbered
    ]
    return Source(str(path), [name for name in header if name], rows, lines=False)


def _is_filled(cells: list[Any]) -> bool:
    return any(cell not in ("", None) for cell in cells)


def _cell(value: Any) -> object:
    """Spreadsheets store 1 as 1.0, and have no difference between nothing and an empty text. A
    number that they may have rounded stays a float."""
    if value == "":
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < ROUNDED_FROM:
        return int(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value
