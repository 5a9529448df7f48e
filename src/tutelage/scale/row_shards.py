"""Rows as Parquet files that Ray Data reads, one file for each block.

A row is stored as it was parsed and checked, so that every worker has exactly the rows of the local
engine, whatever the file's format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tutelage.core.storage import as_json
from tutelage.core.types import Example

Numbered = tuple[int, Example]
"""A row and its number in the stream."""


def write_blocks(rows: Iterable[Numbered], folder: Path, size: int) -> list[str]:
    """Write rows as Parquet files of `size` rows; returns their paths, in the rows' order.

    A file has the number of its first row in its name: no other file may begin with that.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    stream = iter(rows)
    while chunk := list(islice(stream, size)):
        table = pa.table(
            {
                "index": pa.array([index for index, _ in chunk], pa.int64()),
                "row": pa.array(
                    [json.dumps(as_json(row), ensure_ascii=True) for _, row in chunk], pa.string()
                ),
            }
        )
        path = folder / f"rows-{chunk[0][0]:012d}.parquet"
        pq.write_table(table, path)
        paths.append(str(path))
    return paths


def rows_of_table(table: Any) -> tuple[int, list[Example]]:
    """The number of a block, which is that of its first row, and its rows."""
    return table["index"][0].as_py(), list(_examples(table))


def _examples(table: Any) -> Iterator[Example]:
    for text in table["row"].to_pylist():
        values = json.loads(text)
        yield Example(**{**values, "tags": tuple(values["tags"])})
