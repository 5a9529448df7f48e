"""What the tests of several workers begin with: the tests' servers, and workers as threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

for _room in ("teacher", "deliver"):
    sys.path.append(str(Path(__file__).parents[1] / _room))

from kept_job import Job  # noqa: E402
from worker_threads import Threads  # noqa: E402

from tutelage.scale import annotate_on_ray, annotation_worker  # noqa: E402
from tutelage.teacher.ledger.charges import Session  # noqa: E402
from tutelage.teacher.ledger.store import Ledger  # noqa: E402


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    with Ledger(tmp_path / "ledger.sqlite") as kept:
        yield kept


@pytest.fixture
def job(tmp_path: Path, ledger: Ledger) -> Iterator[Job]:
    """A job with its keeper."""
    with Session(ledger) as session:
        found = Job(tmp_path, ledger, session)
        yield found
        found.keeper.close()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    """Three workers on threads of this process in place of Ray."""
    pytest.importorskip("pyarrow", reason="blocks of rows are Parquet files")
    found = Threads(3)

    @contextmanager
    def no_cluster(settings: Any) -> Iterator[None]:
        yield None

    monkeypatch.setattr(annotate_on_ray, "require_ray", lambda purpose: None)
    monkeypatch.setattr(annotate_on_ray, "cluster", no_cluster)
    monkeypatch.setattr(
        annotate_on_ray._Run, "_work", lambda run, *arguments: found.work(run, *arguments)
    )
    monkeypatch.setattr(annotation_worker, "_BEAT_S", 0.05)
    return found
