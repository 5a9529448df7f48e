"""Exports of tiny students, each made once by all processes."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

sys.path.append(str(Path(__file__).parents[1] / "teacher"))

from students import ROWS, Made, checkpoint

from tutelage.config.export_settings import ExportSettings
from tutelage.deliver.exporter import export_model


@pytest.fixture(scope="session")
def made(shared_folder: Path) -> Callable[[str], Made]:
    """The checkpoint and the export of a family, which are only read."""

    @cache
    def make(family: str) -> Made:
        folder = shared_folder / f"made-{family}"
        kept = folder / "made.pickle"
        with FileLock(f"{folder}.lock"):
            if not kept.exists():
                model = checkpoint(folder, family)
                export = export_model(
                    model, folder / "export", ExportSettings(), dev=ROWS[:20], test=ROWS
                )
                kept.write_bytes(pickle.dumps(Made(model, export)))
            found: Made = pickle.loads(kept.read_bytes())  # noqa: S301  written by these tests
        return found

    return make
