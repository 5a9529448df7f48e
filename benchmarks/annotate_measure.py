"""The clock of the worker processes of `annotate.py`, and their report to the parent.

Standard library only: Curator's worker runs in an environment without tutelage.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path


def measure_and_report(report: Path, work: Callable[[], int], version: str) -> None:
    """Run `work`, which returns the number of rows with an answer, and write its cost to `report`.

    seconds, cpu_s: of `work` alone, all threads and children of this process together
    peak_bytes:     largest resident set of this process so far, imports included; never below the
                    parent's when it started this process (Linux inherits it), so the parent has to
                    stay small
    """
    begun, begun_cpu = time.perf_counter(), _cpu_s()
    ok = work()
    seconds, cpu_s = time.perf_counter() - begun, _cpu_s() - begun_cpu
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB on Linux
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    measured = {
        "ok": ok,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "peak_bytes": peak_bytes,
        "version": version,
    }
    report.write_text(json.dumps(measured), encoding="utf-8")


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
