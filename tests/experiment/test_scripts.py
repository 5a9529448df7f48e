"""A whole experiment from a script without a main guard, from `python -`, inside a running loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PLAIN = """
import json
from tutelage import parse_recipe, run
recipe = parse_recipe(json.loads({recipe!r}), "recipe")
done = run(recipe, runs={runs!r}, workers=2)
print("finished", done.results.finished)
"""

IN_A_LOOP = """
import asyncio, json
from tutelage import parse_recipe, run
async def main():
    recipe = parse_recipe(json.loads({recipe!r}), "recipe")
    done = run(recipe, runs={runs!r}, workers=2)
    print("finished", done.results.finished)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("script", "piped"),
    [(PLAIN, False), (PLAIN, True), (IN_A_LOOP, False)],
    ids=["file", "piped", "running loop"],
)
def test_a_script_needs_no_main_guard(
    tmp_path: Path, small_recipe: Callable[..., dict[str, Any]], script: str, piped: bool
) -> None:
    text = script.format(recipe=json.dumps(small_recipe()), runs=str(tmp_path / "runs"))
    path = tmp_path / "script.py"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-" if piped else str(path)],
        input=text if piped else "",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"TUTELAGE_LEDGER": str(tmp_path / "ledger.sqlite")},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    # Once: no worker has run the script again.
    assert done.stdout.splitlines() == ["finished True"]
