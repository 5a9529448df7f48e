"""Requests a second of `annotate` against a stub that takes 50 ms, with the ledger on disk.

python benchmarks/annotate_throughput.py [REQUESTS] [CONCURRENCY] [DELAY_S]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tutelage.records import Example
from tutelage.task import NLI
from tutelage.teacher import Ledger, TeacherSettings, annotate

SERVER = Path(__file__).parents[1] / "tests" / "teacher" / "scripted_server.py"


def main() -> None:
    count, concurrency = (int(v) for v in (sys.argv[1:3] + ["2000", "200"][len(sys.argv) - 1 :]))
    delay_s = sys.argv[3] if len(sys.argv) > 3 else "0.05"
    rows = [
        Example(f"r{i}", {"premise": f"Premise {i}. " * 40, "hypothesis": "It is so."}, "neutral")
        for i in range(count)
    ]
    server = subprocess.Popen(
        [sys.executable, str(SERVER), delay_s],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None and server.stdout is not None
    settings = TeacherSettings(
        model="openai:m", base_url=server.stdout.readline().strip(), concurrency=concurrency
    )
    import aiohttp  # noqa: F401  0.3 s, once a process: not what is measured

    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        for name in ("asked", "again, from the ledger"):
            begun, begun_cpu = time.perf_counter(), time.process_time()
            outcome = annotate(
                rows, strategy="informed_reasoning", teacher=settings, task=NLI, ledger=ledger
            )
            seconds, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
            print(
                f"{name}: {count} rows in {seconds:.2f} s, {count / seconds:.0f} a second "
                f"({cpu:.2f} s of processor time); "
                f"{outcome.requests} requests, {outcome.cached} cached, {outcome.counts['ok']} ok"
            )
    counted, _ = server.communicate()
    print(f"the server counted {counted.strip()} requests")


if __name__ == "__main__":
    main()
