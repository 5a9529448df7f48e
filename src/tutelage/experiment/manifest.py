"""manifest.json: what a run was made of, and each opening of its test set."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tutelage.config.recipe import Recipe
from tutelage.config.training_settings import Config
from tutelage.core.errors import RunFolderError
from tutelage.core.storage import as_json, digest, read_json, write_atomic, write_json
from tutelage.experiment.prepare import Splits

_PACKAGES = ("tutelage", "torch", "transformers", "tokenizers", "numpy", "scipy", "datasets")


def version() -> str:
    """Tutelage's own version."""
    return metadata.version("tutelage")


def begin(folder: Path, recipe: Recipe, splits: Splits) -> None:
    """Write down the recipe and all that a repetition needs to know; earlier test readings stay."""
    path = folder / "manifest.json"
    before = read_json(path) if path.exists() else {}
    write_atomic(folder / "recipe.yaml", recipe.to_yaml())
    write_json(
        path,
        {
            "name": recipe.name,
            "recipe_sha256": digest(recipe.model_dump(mode="json")),
            "started": before.get("started") or _now(),
            "last_call": _now(),
            "data_sha256": {name: source.sha256 for name, source in splits.sources.items()},
            "versions": _versions(),
            "git_revision": _git_revision(),
            "machine": {
                "system": platform.platform(),
                "processor": platform.machine(),
                "cores": os.cpu_count(),
            },
            "test_readings": before.get("test_readings", []),
            "test_rows_also_read_by": before.get("test_rows_also_read_by", []),
        },
    )


def record_test_reading(
    folder: Path, chosen: Mapping[str, Config], students: str, data_sha256: str, rows_sha256: str
) -> None:
    """Note that the test set is read for `chosen`. The same reading again is not a new one.

    students:    a digest of all that decides what is read: their training, settings and seeds
    data_sha256: of the data that test was named as
    rows_sha256: of the test rows: the same, but where they were held out of other rows
    """
    path = folder / "manifest.json"
    values = read_json(path)
    reading = {
        "chosen": as_json(dict(chosen)),
        "students": students,
        "test_sha256": data_sha256,
        "test_rows_sha256": rows_sha256,
    }
    # An entry of an earlier version lacks `students` and the rows: the rest then tells.
    if all(
        any(reading[key] != r[key] for key in reading.keys() & r) for r in values["test_readings"]
    ):
        values["test_readings"].append({**reading, "time": _now()})
        write_json(path, values)


def test_readings(folder: Path) -> int:
    """How many different choices the test set has been read for."""
    return len(read_json(folder / "manifest.json")["test_readings"])


def record_other_readers(folder: Path, rows_sha256: str) -> list[str]:
    """Note, and return, the runs beside this one that have read the same test rows, by name.

    What was learnt from their results may be in this recipe, whatever it is called. A manifest that
    cannot be read says nothing.
    """
    others = [
        path.parent.name
        for path in sorted(folder.parent.glob("*/manifest.json"))
        if path.parent.name != folder.name and _has_read(path, rows_sha256)
    ]
    path = folder / "manifest.json"
    values = read_json(path)
    if values.get("test_rows_also_read_by") != others:
        write_json(path, values | {"test_rows_also_read_by": others})
    return others


def _has_read(manifest: Path, rows_sha256: str) -> bool:
    try:
        readings = read_json(manifest)["test_readings"]
        # Before rows had a digest of their own: that of the data, which is the same for a file.
        read = [r.get("test_rows_sha256") or r.get("test_sha256") for r in readings]
    except (RunFolderError, KeyError, TypeError, AttributeError):
        return False
    return rows_sha256 in read


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _versions() -> dict[str, str]:
    versions: dict[str, Any] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git_revision() -> str | None:
    """Of the checkout that the run was called in, if any; marked where it was changed."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
