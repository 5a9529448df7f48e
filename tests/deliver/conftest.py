"""Exports of tiny students, each made once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "teacher"))

from students import ROWS, Made, checkpoint

from tutelage.config.export_settings import ExportSettings
from tutelage.deliver.exporter import export_model


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """The checkpoint and the export of a family."""
    found: dict[str, Made] = {}

    def make(family: str) -> Made:
        if family not in found:
            folder = tmp_path_factory.mktemp(family)
            model = checkpoint(folder, family)
            export = export_model(
                model, folder / "export", ExportSettings(), dev=ROWS[:20], test=ROWS
            )
            found[family] = Made(model, export)
        return found[family]

    return make
