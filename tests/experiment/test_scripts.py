"""Trainings from a script without a main guard, from `python -`, and inside a running loop."""

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
run(recipe, runs={runs!r}, workers=2, until="training")
print("finished")
"""

IN_A_LOOP = """
import asyncio, json
from tutelage import parse_recipe, run
async def main():
    recipe = parse_recipe(json.loads({recipe!r}), "recipe")
    run(recipe, runs={runs!r}, workers=2, until="training")
    print("finished")
asyncio.run(main())
"""


POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from tutelage.student.jobs import worker
pool = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
print([worker.submit(pool, pow, 2, k).result() for k in range(4)], __file__ is not None)
pool.shutdown()
"""


def test_a_worker_does_not_run_the_script_again(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(POOL, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=280, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "[1, 2, 4, 8] True\n"), done.stderr


@pytest.mark.parametrize(
    ("script", "piped"),
    [(IN_A_LOOP, False), (PLAIN, True)],
    ids=["file with a running loop", "piped"],
)
def test_a_script_needs_no_main_guard(
    tmp_path: Path, small_recipe: Callable[..., dict[str, Any]], script: str, piped: bool
) -> None:
    small = small_recipe(
        arms=[{"name": "labels"}],
        data={
            "train": "synthetic:nli?n=18&seed=1",
            "dev": "synthetic:nli?n=9&seed=2",
            "test": "synthetic:nli?n=9&seed=3",
        },
        search={"learning_rate": [1e-3], "label_weight": [0.5]},
        student={
            "model": "scratch:t5-tiny",
            "max_steps": 1,
            "batch_size": 6,
            "max_rationale_tokens": 8,
        },
    )
    text = script.format(recipe=json.dumps(small), runs=str(tmp_path / "runs"))
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
    assert done.stdout.splitlines() == ["finished"]
