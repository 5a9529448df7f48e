"""Open JSON lines, CSV, Parquet files and data sets of the `datasets` package as plain rows.

`data.row_parser` decides what the columns mean. Only class numbers are translated here, into the
names that the data set gives them, because its order of classes may differ from the task's.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError, MissingExtraError, UsageError
from tutelage.data.row_parser import Source


def open_file(path: Path) -> Source:
    """Open a `.jsonl`, `.csv` or `.parquet` file. Raises DataError where it cannot be read."""
    if path.is_dir():
        raise DataError("is a directory, expected a file", path=path)
    if not path.exists():
        raise DataError(_missing(path), path=path)
    opener = FORMATS.get(path.suffix.lower())
    if opener is None:
        raise DataError(
            f"cannot read {path.suffix or 'a file without suffix'!r}, expected one of "
            f"{', '.join(FORMATS)}",
            path=path,
        )
    try:
        if path.stat().st_size == 0:
            raise DataError("is empty, expected rows", path=path)
        return opener(path)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=path) from error


def _missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"no such file, and no folder {str(folder)!r}: correct the path"
    names = sorted(entry.name for entry in folder.iterdir())
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    return "no such file: " + (f"did you mean {' or '.join(near)}?" if near else "correct the path")


def _text(path: Path) -> str:
    """Read the file as text, line ends kept. Raises DataError where it is not UTF-8 text."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"got byte 0x{data[error.start]:02x}, which is not UTF-8: save the file as UTF-8 text",
            path=path,
            line=line,
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError("got a zero byte, expected a text file", path=path, line=line)
    if not text.strip():
        raise DataError("is blank, expected rows", path=path)
    return text


def _open_jsonl(path: Path) -> Source:
    text = _text(path)

    def rows() -> Iterator[tuple[int, Mapping[str, object]]]:
        # Only "\n" ends a row: str.splitlines would also split at U+2028 inside a JSON string.
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"is not valid JSON ({error}), expected one object on each line",
                    path=path,
                    line=number,
                ) from error
            if not isinstance(row, dict):
                raise DataError(
                    f"got a JSON {type(row).__name__}, expected one object on each line",
                    path=path,
                    line=number,
                )
            yield number, row

    return Source(str(path), None, rows(), lines=True)


def _open_csv(path: Path) -> Source:
    # strict: otherwise an unclosed quote silently swallows the rest of the file.
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)

    def records() -> Iterator[tuple[int, list[str]]]:
        while True:
            first_line = reader.line_num + 1
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(
                    f"is not valid CSV ({error}), in the row that begins here",
                    path=path,
                    line=first_line,
                ) from error
            if record:
                yield first_line, record

    table = records()
    line, header = next(table)
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"has two columns of one name: {', '.join(repeated)}", path=path, line=line)

    def rows() -> Iterator[tuple[int, Mapping[str, object]]]:
        for line, record in table:
            if len(record) != len(header):
                raise DataError(
                    f"got {len(record)} cells, expected {len(header)} as in the header "
                    "(a cell that holds a comma needs quotes)",
                    path=path,
                    line=line,
                )
            yield line, dict(zip(header, record, strict=True))

    return Source(str(path), header, rows(), lines=True)


def _open_parquet(path: Path) -> Source:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "train", f"loading {path.name}") from error
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"is not a valid Parquet file ({_line(error)})", path=path) from error
    classes = _parquet_classes(table.schema.metadata or {})

    def rows() -> Iterator[tuple[int, Mapping[str, object]]]:
        number = 0
        for batch in table.to_batches(max_chunksize=1000):
            for row in batch.to_pylist():
                number += 1
                yield number, {k: _class_name(classes.get(k), v) for k, v in row.items()}

    return Source(str(path), table.column_names, rows(), lines=False)


def _parquet_classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Class names by column, which the `datasets` package writes to a Parquet file's metadata."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            column: feature["names"]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError):
        return {}  # written by another program: numbers follow the task's order


def _class_name(names: list[str] | None, value: object) -> object:
    if names is None or not isinstance(value, int) or not 0 <= value < len(names):
        return value  # -1 means unlabelled on the hub; Task.parse_label handles it
    return names[value]


def open_hub(name: str, split: str | None, config: str | None, written: str) -> Source:
    """Open a split with the `datasets` package: of a hub data set, a saved one or a folder.

    written: the data spec as written, for messages

    Raises DataError for whatever that package cannot find or read.
    """
    if not name:
        raise UsageError(
            f"data {written!r}: the name of the data set is missing, expected hf:NAME#SPLIT"
        )
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "train", f"data {written!r}") from error
    folder = Path(name)
    saved = any((folder / file).is_file() for file in ("dataset_dict.json", "state.json"))
    if not saved and split is None:
        raise UsageError(f"data {written!r}: the split is missing, expected hf:{name}#SPLIT")
    try:
        if saved:
            data = _pick(datasets.load_from_disk(name), split, written)
        else:
            data = datasets.load_dataset(name, config, split=split)
    except (
        OSError, ValueError, TypeError, RuntimeError, datasets.exceptions.DatasetsError
    ) as error:  # fmt: skip
        raise DataError(f"cannot be loaded ({_line(error)})", path=written) from error
    classes = {
        column: list(feature.names)
        for column, feature in data.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }

    def rows() -> Iterator[tuple[int, Mapping[str, object]]]:
        for number, row in enumerate(data, 1):
            yield number, {k: _class_name(classes.get(k), v) for k, v in row.items()}

    return Source(written, data.column_names, rows(), lines=False)


def _pick(saved: Any, split: str | None, written: str) -> Any:
    """Pick a split of what `save_to_disk` wrote: a single data set, or several by name."""
    if not isinstance(saved, dict):
        own = None if saved.split is None else str(saved.split)
        if split is not None and own is not None and split != own:
            raise DataError(f"unknown split {split!r}, expected {own}", path=written)
        return saved
    if split not in saved:
        got = "the split is missing" if split is None else f"unknown split {split!r}"
        raise DataError(f"{got}, expected one of {', '.join(saved)}", path=written)
    return saved[split]


def _line(error: BaseException) -> str:
    """The first line of another package's error message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).strip()


FORMATS: Mapping[str, Callable[[Path], Source]] = {
    ".jsonl": _open_jsonl,
    ".csv": _open_csv,
    ".parquet": _open_parquet,
}
