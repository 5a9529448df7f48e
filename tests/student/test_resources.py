"""How many jobs run at once."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from tutelage.student.jobs import resources, worker


def test_more_trainings_fit_with_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=42 * 10**9))
    monkeypatch.setattr(resources, "cores", lambda: 64)
    monkeypatch.setattr(worker, "visible_gpus", tuple)
    plain, adapted = (resources.workers_for(10**9, adapters) for adapters in (False, True))
    assert plain == 1
    assert adapted >= 2


def test_each_job_has_its_own_cores_or_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**12))
    monkeypatch.setattr(resources, "cores", lambda: 8)
    monkeypatch.setattr(worker, "visible_gpus", tuple)
    assert [resources.concurrent_jobs(threads) for threads in (1, 3, 8, 16)] == [8, 2, 1, 1]
    assert [resources.workers_for(10**6, threads=threads) for threads in (1, 3, 16)] == [8, 2, 1]
    monkeypatch.setattr(worker, "visible_gpus", lambda: ("0", "1"))
    assert resources.concurrent_jobs(1) == resources.workers_for(10**6) == 2
