"""The load of `benchmarks/serve_load.py` answers every row once, and waits where it is refused."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from serving_app import serving
from students import ROWS, Made

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from serve_load import measure, run_load

BODIES = [json.dumps({"row": dict(row.fields)}).encode() for row in ROWS]


def test_every_row_is_answered_once_and_a_refusal_is_not_an_error(
    made: Callable[[str], Made],
) -> None:
    folder = made("t5").export.folder
    with serving(folder, queue_rows=4) as served:
        one = measure(os.getpid(), served.port, BODIES[:24], 8)
        assert one["errors"] == [] and one["p50"] <= one["p99"]
        assert one["rows/s"] > 0 and one["load"] > 0 and one["server"] > 0
        lines = served.lines(24 + one["refused"])
        answered = [line for line in lines if line["status"] == 200]
        assert len(answered) == 24
        assert sum(line["status"] == 429 for line in lines) == one["refused"]


def test_what_is_neither_an_answer_nor_a_refusal_is_an_error(made: Callable[[str], Made]) -> None:
    with serving(made("t5").export.folder) as served:
        load = asyncio.run(run_load(served.port, [b"{}", *BODIES[:3]], 2))
        assert load.errors == ["status 422"] and load.statuses[200] == 3
        port = served.port
    load = asyncio.run(run_load(port, BODIES[:1], 1))
    assert len(load.errors) == 2 and "Connect" in load.errors[0]
    assert load.errors[1] == "1 rows were not sent"
