"""What a runner reports of its jobs' progress."""

from __future__ import annotations

import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tutelage.core.progress import JobProgress
from tutelage.student.jobs import jobs, worker


def test_a_job_that_stops_early_is_reported_as_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    def stops_early(job: Any, on_step: Any) -> str:
        on_step(3, 10)
        return "result"

    monkeypatch.setattr(jobs, "run_job", stops_early)
    reported: list[JobProgress] = []
    folder = Path("run/arms/labels/lr-1/seed-0")
    job: Any = SimpleNamespace(trained=SimpleNamespace(folder=folder))
    with jobs.Runner(1, reported.append) as runner:
        assert list(runner.run([job])) == [(0, "result")]
    assert reported == [JobProgress(str(folder), 3, 10), JobProgress(str(folder), 1, 1)]


def test_a_late_report_of_a_finished_job_is_dropped() -> None:
    channel: queue.Queue[JobProgress] = queue.Queue()
    for progress in (JobProgress("a", 9, 10), JobProgress("b", 1, 10), JobProgress("b", 2, 10)):
        channel.put(progress)
    reported: list[JobProgress] = []
    worker.forward(channel, reported.append, {"b"})
    assert reported == [JobProgress("b", 2, 10)]
