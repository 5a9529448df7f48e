"""Open a data file or a folder of them as plain rows, by its name.

`data.row_parser` decides what the columns mean, `core.labels` what a label's value means.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError, UsageError
from tutelage.data import hub
from tutelage.data.delimited import open_delimited
from tutelage.data.json_files import open_json, open_json_lines
from tutelage.data.source import Row, Source
from tutelage.data.tables import open_parquet, open_spreadsheet
from tutelage.data.text_files import COMPRESSIONS, text_lines

_SHEETS = (".xlsx", ".xls", ".ods")


def open_file(
    path: Path, layout: LayoutSettings | None = None, *, part: str | None = None
) -> Source:
    """Open a data file. Raises DataError where it cannot be read.

    part: the sheet of a spreadsheet, or the list of rows of a .json file; no other file has parts
    """
    if path.is_dir():
        raise DataError("is a directory, expected a file", path=path)
    if not path.exists():
        raise DataError(_missing(path), path=path)
    suffix = format_of(path)
    opener = FORMATS.get(suffix)
    if opener is None:
        raise DataError(
            f"cannot read {suffix or 'a file without suffix'!r}, expected one of "
            f"{', '.join(FORMATS)}",
            path=path,
        )
    if part is not None and suffix not in (*_SHEETS, ".json"):
        raise UsageError(f"data '{path}#{part}': a file has no splits: remove #{part}")
    settings = layout or LayoutSettings()
    try:
        # A pipe has no size.
        if path.is_file() and path.stat().st_size == 0:
            raise DataError("is empty, expected rows", path=path)
        if part is not None:
            return (open_json if suffix == ".json" else open_spreadsheet)(path, settings, part)
        return opener(path, settings)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=path) from error


def format_of(path: Path) -> str:
    """The suffix that decides how a file is read: that before `.gz`, of a compressed one."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSIONS else suffix


def _missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"no such file, and no folder {str(folder)!r}: correct the path"
    names = sorted(entry.name for entry in folder.iterdir())
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    return "no such file: " + (f"did you mean {' or '.join(near)}?" if near else "correct the path")


def _open_txt(path: Path, layout: LayoutSettings) -> Source:
    """Open a `.txt` file, in which some data sets come: JSON lines, or cells between tabs."""
    lines = text_lines(path, layout.encoding, newline="\n")
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        return open_json_lines(path, layout)
    if "\t" in first or layout.delimiter:
        return open_delimited(path, layout, None if layout.delimiter else "\t")
    raise DataError(
        "has neither JSON objects nor tabs in its first line, expected rows: name it .csv, or say "
        "delimiter:",
        path=path,
    )


Opener = Callable[[Path, LayoutSettings], Source]

FORMATS: Mapping[str, Opener] = {
    ".jsonl": open_json_lines,
    ".ndjson": open_json_lines,
    ".json": open_json,
    ".csv": lambda path, layout: open_delimited(path, layout, None),
    ".tsv": lambda path, layout: open_delimited(path, layout, "\t"),
    ".tab": lambda path, layout: open_delimited(path, layout, "\t"),
    ".txt": _open_txt,
    ".parquet": open_parquet,
    **dict.fromkeys(_SHEETS, open_spreadsheet),
}

_SHARD = re.compile(r"(.+?)[-_.]\d+([-_]of[-_]\d+)?([-_.][0-9a-f-]{8,})?([-_.]c\d+)?")
"""`train-00000-of-00003`, `part-00000-1b2c…`: a file that is one part of several."""


def data_files(folder: Path) -> dict[str, list[Path]]:
    """The data files of a folder, or of its folder `data`, by the split that their names begin
    with; parts of a split in the order of their names."""
    files: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.is_file() and format_of(path) in FORMATS and not path.name.startswith("."):
                stem = path.name.partition(".")[0]
                shard = _SHARD.fullmatch(stem)
                files.setdefault(shard[1] if shard else stem, []).append(path)
        if files:
            return files
    return files


def open_folder(folder: Path, split: str | None, layout: LayoutSettings) -> Source:
    """Open a split of a folder: a data set that `save_to_disk` wrote, or data files.

    Raises DataError where the folder holds several splits and none is named, or not that one.
    """
    if hub.is_saved(folder):
        return hub.open_hub(str(folder), split, None, str(folder))
    splits = data_files(folder)
    if not splits:
        raise DataError("is a directory without data files, expected a file", path=folder)
    if split is None and not (len(splits) == 1 and _are_parts(*splits.values())):
        names = [path.name for files in splits.values() for path in files]
        one = "train" if "train" in splits else next(iter(splits))
        raise DataError(
            f"is a directory, expected a file: name one of {', '.join(names[:5])}, or a split: "
            f"{folder}#{one} (a folder for the `datasets` package is hf:{folder}#SPLIT)",
            path=folder,
        )
    if split is not None and split not in splits:
        raise DataError(f"has no split {split!r}: expected one of {', '.join(splits)}", path=folder)
    (files,) = [splits[split]] if split is not None else splits.values()
    return _joined(folder, files, layout)


def _are_parts(files: list[Path]) -> bool:
    """Whether files are numbered parts of one table."""
    return all(_SHARD.fullmatch(path.name.partition(".")[0]) for path in files)


def _joined(folder: Path, files: list[Path], layout: LayoutSettings) -> Source:
    """The rows of several files of one format, one after the other."""
    if len(files) == 1:
        return open_file(files[0], layout)
    first = open_file(files[0], layout)
    begins: list[int] = []

    def rows() -> Iterator[tuple[int, Row]]:
        # Places grow through the files, so that one number leads to the file and the place in it.
        begins.clear()
        offset = last = 0
        for number, path in enumerate(files):
            source = first if number == 0 else open_file(path, layout)
            if source.columns is not None and set(source.columns) != set(first.columns or ()):
                raise DataError(
                    f"has the columns {', '.join(source.columns)}, expected those of "
                    f"{files[0].name}: {', '.join(first.columns or ())}",
                    path=path,
                )
            if source.names != first.names:
                raise DataError(
                    f"declares other names of labels than {files[0].name}, expected the same",
                    path=path,
                )
            begins.append(offset)
            for place, row in source.rows:
                last = offset + place
                yield last, row
            offset = last

    def locate(place: int) -> tuple[str, int]:
        index = bisect_right(begins, place - 1) - 1
        return str(files[index]), place - begins[index]

    return Source(
        str(folder), first.columns, rows(), first.lines, first.names, locate, first.headed
    )
