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
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from tutelage.student.jobs import worker
own = globals().get("__file__")
worker._PRELOADED = "json"  # in place of torch, which takes seconds to import
context = {context}
pool = ProcessPoolExecutor(2, context)
print(context.get_start_method(), [worker.submit(pool, pow, 2, k).result() for k in range(4)])
print(own == globals().get("__file__"))
pool.shutdown()
"""


def _ends(script: str, piped: bool, folder: Path) -> list[str]:
    """What a script prints, as a file or from `python -`."""
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-" if piped else str(path)],
        input=script if piped else "",
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"TUTELAGE_LEDGER": str(folder / "ledger.sqlite")},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("piped", [False, True], ids=["file", "piped"])
@pytest.mark.parametrize(
    ("method", "context"),
    [
        ("spawn", 'multiprocessing.get_context("spawn")'),
        pytest.param(
            "forkserver",
            "worker.start_method()",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="new interpreters elsewhere"),
        ),
    ],
)
def test_a_worker_does_not_run_the_script_again(
    tmp_path: Path, method: str, context: str, piped: bool
) -> None:
    script = POOL.format(context=context)
    # Each line once, and the script has its own name again.
    assert _ends(script, piped, tmp_path) == [f"{method} [1, 2, 4, 8]", "True"]


def test_a_script_needs_no_main_guard(
    tmp_path: Path, small_recipe: Callable[..., dict[str, Any]]
) -> None:
    """A whole run, from `python -` and inside a running loop."""
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
    script = IN_A_LOOP.format(recipe=json.dumps(small), runs=str(tmp_path / "runs"))
    assert _ends(script, True, tmp_path) == ["finished"]  # once: no worker has run it again
