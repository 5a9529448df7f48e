"""Data sets of the `datasets` package: of the hub, saved to disk, or in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError, MissingExtraError, UsageError
from tutelage.data.source import Row, Source, first_line


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote the folder."""
    return any((folder / file).is_file() for file in ("dataset_dict.json", "state.json"))


def open_hub(name: str, split: str | None, config: str | None, written: str) -> Source:
    """Open a split with the `datasets` package.

    name:    of a hub data set, or the path of a saved one or of a folder of files
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
    saved = is_saved(Path(name))
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
        raise DataError(f"cannot be loaded ({first_line(error)})", path=written) from error
    names = {}
    for column, feature in data.features.items():
        feature = getattr(feature, "feature", feature)  # of a list
        if isinstance(feature, datasets.ClassLabel):
            names[column] = list(feature.names)

    def rows() -> Iterator[tuple[int, Row]]:
        yield from enumerate(data, 1)

    return Source(written, data.column_names, rows(), lines=False, names=names)


def _pick(saved: Any, split: str | None, written: str) -> Any:
    """Pick a split of what `save_to_disk` wrote: a single data set, or several by name."""
    if not isinstance(saved, dict):
        own = None if saved.split is None else str(saved.split)
        if split is not None and own is not None and split != own:
            raise DataError(f"unknown split {split!r}, expected {own}", path=written)
        return saved
    if split not in saved:
        got = "the split is missing" if split is None else f"unknown split {split!r}"
        raise DataError(
            f"{got}, expected one of {', '.join(saved)}: name one with #SPLIT", path=written
        )
    return saved[split]
