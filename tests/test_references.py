"""docs/recipe.md and docs/cli.md are what the definitions and the commands say today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tutelage.cli.main import COMMANDS, app

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("page", "module"),
    [("recipe.md", "tutelage.config.reference"), ("cli.md", "tutelage.cli.reference")],
)
def test_a_reference_is_current(page: str, module: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    made = subprocess.run(
        [sys.executable, "-m", module], capture_output=True, encoding="utf-8", check=True
    ).stdout
    assert written == made, f"docs/{page} is out of date: run `make docs`"


def test_the_list_of_commands_says_what_their_help_says() -> None:
    group: Any = typer.main.get_command(app)
    for name, listed in COMMANDS.items():
        text = " ".join(group.get_command(None, name).help.split("\n\n")[0].split())
        assert text.startswith(listed), (name, listed, text)
