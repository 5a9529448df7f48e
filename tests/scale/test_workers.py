"""Several workers give the rows of the local engine, and keep one budget and one set of rates.

The workers are threads here; `test_on_ray` has them as processes that are killed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from both_engines import COST, PICO_ASKED, PICO_WRITTEN, annotated, teacher
from scripted_server import Reply, ScriptedServer, error, prompt
from small_rows import rows
from worker_threads import Threads

from tutelage.core.errors import AuthenticationError, BudgetError, TeacherError, UsageError
from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Message, Rationale
from tutelage.scale import annotation_worker
from tutelage.scale.annotation_worker import AnnotationWorker
from tutelage.scale.keeper import MOST_ATTEMPTS
from tutelage.strategies.informed_reasoning import InformedReasoning
from tutelage.teacher.cost.prices import request_bound
from tutelage.teacher.engine.requests import RequestBuilder
from tutelage.teacher.ledger.charges import charged, lost
from tutelage.teacher.ledger.leased_session import LeasedSession
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.registry import open_teacher


class Picky:
    """Informed reasoning that raises for some rows: when it asks, or when it reads the answer."""

    name = "picky"
    asks_teacher = True
    schema = None

    def __init__(self) -> None:
        self._inner = InformedReasoning()

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        if example.uid.endswith("13"):
            raise ZeroDivisionError("thirteen")
        return self._inner.render(example, task)

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        if example.uid.endswith("17"):
            raise KeyError("seventeen")
        return replace(self._inner.parse(completion, example, task), strategy=self.name)


def both(
    examples: Sequence[Example], tmp_path: Path, server: ScriptedServer, **more: Any
) -> tuple[bytes, bytes]:
    settings = teacher(server.base_url, **more.pop("teacher", {}))
    for name, workers in (("local", 0), ("workers", 3)):
        annotated(examples, tmp_path / f"{name}.jsonl", settings, workers=workers, **more)
    return (tmp_path / "local.jsonl").read_bytes(), (tmp_path / "workers.jsonl").read_bytes()


def shards(output: Path) -> list[Path]:
    return list(output.with_suffix(".sqlite.shards").rglob("*.shard"))


def test_workers_write_the_file_of_the_local_engine(tmp_path: Path, threads: Threads) -> None:
    """Rows with equal requests in several blocks, refusals, and an answer that is cut."""

    def behave(body: dict[str, Any], before: int) -> Reply:
        text = prompt(body)
        if "Claim 5." in text:
            return error(400, "filtered", "content_filter")
        if "Claim 7." in text:
            return error(400, "too long", "context_length_exceeded")
        if "Claim 9." in text:
            return Reply("becau", finish_reason="length")
        return (
            error(500, "try again")
            if before == 0 and "3." in text
            else Reply(f"Because of {text[-30:]}")
        )

    examples = rows(120) + rows(30) + rows(90, 60)
    with ScriptedServer(behave) as server:
        local, workers = both(examples, tmp_path, server)
        assert local == workers
        asked = server.counts.asked
        assert max(asked.values()) <= 4  # twice by each engine, where the first attempt failed
        before = server.counts.requests
        summary = annotated(
            examples, tmp_path / "workers.jsonl", teacher(server.base_url), workers=3
        )
        assert server.counts.requests == before and len(threads.keepers) == 1
    assert (tmp_path / "workers.jsonl").read_bytes() == local
    assert (summary.requests, summary.cached) == (0, 149)
    assert not shards(tmp_path / "workers.jsonl")


def test_the_summary_says_what_was_sent(tmp_path: Path, threads: Threads) -> None:
    def behave(body: dict[str, Any], before: int) -> Reply:
        bad = "Claim 7." in prompt(body)
        return error(400, "too long", "context_length_exceeded") if bad else Reply("Because.")

    with ScriptedServer(behave) as server:
        settings = teacher(server.base_url)
        local = annotated(rows(80), tmp_path / "local.jsonl", settings)
        summary = annotated(rows(80), tmp_path / "workers.jsonl", settings, workers=3)
    assert summary == local and (summary.attempts, summary.requests) == (80, 80)


def test_a_row_that_raises_is_a_counted_failure(tmp_path: Path, threads: Threads) -> None:
    with ScriptedServer() as server:
        local, workers = both(rows(120), tmp_path, server, strategy=Picky())
        assert local == workers
        summary = annotated(
            rows(120),
            tmp_path / "workers.jsonl",
            teacher(server.base_url),
            workers=3,
            strategy=Picky(),
        )
        assert server.counts.requests == 2 * (120 - 2)
    assert summary.failures == {"the strategy raised an error": 2}
    assert "ZeroDivisionError: thirteen" in summary.examples["the strategy raised an error"]
    assert list(summary.unparsable.values()) == [2] and summary.counts["ok"] == 116
    assert "KeyError" in next(iter(summary.unparsable))


def test_rows_that_all_raise_end_the_run(tmp_path: Path, threads: Threads) -> None:
    class Broken(Picky):
        def render(self, example: Example, task: Task) -> tuple[Message, ...]:
            raise ZeroDivisionError("always")

    with ScriptedServer() as server:
        for workers in (0, 3):
            with pytest.raises(TeacherError, match=r"more than max_failed: 10;.*always"):
                annotated(
                    rows(60),
                    tmp_path / "rows.jsonl",
                    teacher(server.base_url),
                    workers=workers,
                    strategy=Broken(),
                )
        assert server.counts.requests == 0


def worst_case(settings: Any) -> int:
    """Pico-dollars of one of `rows`, at most."""
    request = RequestBuilder(InformedReasoning(), _nli(), open_teacher(settings)).request(
        rows(1)[0]
    )
    return request_bound(request) * PICO_ASKED + 10 * PICO_WRITTEN


def _nli() -> Task:
    from tutelage.core.task import NLI

    return NLI


def test_one_budget_is_kept_by_the_server_s_own_count(tmp_path: Path, threads: Threads) -> None:
    """It is used up to less than one request, although much of it is leased meanwhile."""
    rows_paid = 60
    with ScriptedServer() as server:
        worst = worst_case(teacher(server.base_url))
        cap = (rows_paid * COST + worst) / 10**12
        settings = teacher(server.base_url, budget_usd=cap)
        with pytest.raises(BudgetError, match="budget_usd"):
            annotated(rows(200), tmp_path / "rows.jsonl", settings, workers=3)
        assert server.counts.answered * COST <= cap * 10**12
        assert server.counts.answered >= rows_paid
    with Ledger(tmp_path / "rows.sqlite") as ledger:
        assert charged(ledger, "annotate") == server.counts.answered * COST
        assert len(ledger) == server.counts.answered
        assert lost(ledger, "annotate") == (0, 0)


@pytest.mark.parametrize("again", [False, True], ids=["one keeper", "a new keeper for each block"])
def test_one_rate_limit_for_all_workers(
    tmp_path: Path, threads: Threads, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No window of the server's holds more than the limit, whoever keeps it."""
    limit, minute = 40, 0.6
    times: list[float] = []

    def behave(body: dict[str, Any], before: int) -> Reply:
        times.append(time.monotonic())
        return Reply("Because.")

    if again:
        threads.hook = lambda keeper, worker, block: keeper.begin_again()
    with ScriptedServer(behave) as server:
        settings = teacher(server.base_url, requests_per_minute=limit)
        annotated(
            rows(90),
            tmp_path / "rows.jsonl",
            settings,
            workers=3,
            options={"minute_s": minute},
            scale={"rows_per_block": 10},
        )
    times.sort()
    # `minute` of the server's own clock may hold one more than the limit where times are rounded.
    assert all(times[n + limit] - times[n] >= minute * 0.99 for n in range(len(times) - limit))
    assert len(times) == 90


def test_a_fault_of_every_request_ends_all_workers(tmp_path: Path, threads: Threads) -> None:
    with ScriptedServer(lambda body, before: error(401, "no", "invalid_api_key")) as server:
        with pytest.raises(AuthenticationError):
            annotated(rows(200), tmp_path / "rows.jsonl", teacher(server.base_url), workers=3)
        assert server.counts.requests <= 3 * 4
    with Ledger(tmp_path / "rows.sqlite") as ledger:
        assert charged(ledger, "annotate") == 0


def test_too_many_failed_rows_end_all_workers(tmp_path: Path, threads: Threads) -> None:
    def behave(body: dict[str, Any], before: int) -> Reply:
        bad = "7." in prompt(body)
        return error(400, "too long", "context_length_exceeded") if bad else Reply("Because.")

    with ScriptedServer(behave) as server:
        with pytest.raises(TeacherError, match="more than max_failed: 5"):
            annotated(
                rows(400), tmp_path / "r.jsonl", teacher(server.base_url, max_failed=5), workers=3
            )
        assert server.counts.requests < 300
        both_done = [
            annotated(
                rows(400),
                tmp_path / f"{name}.jsonl",
                teacher(server.base_url, max_failed="never"),
                workers=workers,
            )
            for name, workers in (("local", 0), ("r", 3))
        ]
    assert both_done[0].counts == both_done[1].counts
    assert (tmp_path / "local.jsonl").read_bytes() == (tmp_path / "r.jsonl").read_bytes()


def test_a_dead_server_leaves_counted_failures(tmp_path: Path, threads: Threads) -> None:
    with ScriptedServer() as server:
        gone = server.base_url
    summary = annotated(rows(400), tmp_path / "rows.jsonl", teacher(gone), workers=3)
    assert summary.counts["failed"] == 400 == summary.failures["not asked"]
    assert "the engine died: ServerUnreachableError" in summary.examples["not asked"]
    with ScriptedServer() as server:
        settings = teacher(server.base_url, provider="mine")
        annotated(rows(60), tmp_path / "other.jsonl", settings, workers=3)


def test_an_engine_with_an_error_of_its_own_fails_its_block_alone(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tutelage.teacher.clients.http_api import ServerTeacher

    complete = ServerTeacher.complete

    async def sometimes(self: ServerTeacher, request: Any) -> Completion:
        if "Claim 60." in request.messages[-1].content:
            raise RuntimeError("a bug")
        return await complete(self, request)

    monkeypatch.setattr(ServerTeacher, "complete", sometimes)
    with ScriptedServer() as server:
        summary = annotated(rows(120), tmp_path / "rows.jsonl", teacher(server.base_url), workers=3)
    assert set(summary.failures) == {"not asked"}
    assert 1 <= summary.failures["not asked"] <= 25
    assert summary.examples["not asked"].endswith("RuntimeError: a bug")
    with Ledger(tmp_path / "rows.sqlite") as ledger:
        count, _ = lost(ledger, "annotate")
        assert 1 <= count <= 4  # what was in flight


def test_a_block_that_ends_every_worker_is_given_up(tmp_path: Path, threads: Threads) -> None:
    """As if the rows of the second block killed each process before anything is recorded."""

    def ended_before(keeper: Any, worker: Any, block: int) -> None:
        if block == 18:
            for _ in range(MOST_ATTEMPTS):
                session = keeper.register(f"another-{time.monotonic()}", "elsewhere")
                assert keeper.begin_block(session, block, 18).action == "ask"

    threads.hook = ended_before
    with ScriptedServer() as server:
        summary = annotated(rows(75), tmp_path / "rows.jsonl", teacher(server.base_url), workers=1)
        assert server.counts.requests == 57
    assert summary.failures == {"not asked": 18}
    assert "4 workers ended while they worked on these rows" in summary.examples["not asked"]


def test_what_workers_have_left_at_the_end_is_recorded(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if all of them were killed before they had recorded anything."""

    def killed(worker: AnnotationWorker) -> None:
        worker._ended.set()
        worker._ledger.close()
        worker._alive.release()

    monkeypatch.setattr(AnnotationWorker, "close", killed)
    monkeypatch.setattr(LeasedSession, "record", lambda session: None)
    with ScriptedServer() as server:
        settings = teacher(server.base_url, budget_usd=5)
        notes: list[str] = []
        summary = annotated(rows(60), tmp_path / "rows.jsonl", settings, workers=3, notes=notes)
        assert server.counts.requests == summary.counts["ok"] == 60
    with Ledger(tmp_path / "rows.sqlite") as ledger:
        assert charged(ledger, "annotate") == 60 * COST and lost(ledger, "annotate") == (0, 0)
    assert notes == []


def test_what_another_worker_here_has_answered_is_recorded_before_its_rows_are_asked(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it were killed in the same block, after 7 answers, before it had recorded any."""
    monkeypatch.setattr(annotation_worker, "_BEAT_S", 1000.0)  # nobody looks meanwhile
    examples = rows(40)

    def killed_before(keeper: Any, worker: AnnotationWorker, block: int) -> None:
        if block == 0:
            here = worker._folders._place.name
            other = AnnotationWorker(worker._job, keeper, "another", here)
            monkeypatch.setattr(other._session, "record", lambda: None)
            assert other.run(block, examples[:7]) == 7
            other._loop.run_until_complete(other._teacher.shut())
            other._ended.set()
            other._ledger.close()
            other._alive.release()

    threads.hook = killed_before
    with ScriptedServer() as server:
        settings = teacher(server.base_url, budget_usd=5)
        summary = annotated(examples, tmp_path / "rows.jsonl", settings, workers=1)
        assert server.counts.requests == summary.counts["ok"] == 40
    with Ledger(tmp_path / "rows.sqlite") as ledger:
        assert charged(ledger, "annotate") == 40 * COST and lost(ledger, "annotate") == (0, 0)


def test_batches_and_memory_are_refused_before_anything_is_sent(
    tmp_path: Path, threads: Threads
) -> None:
    settings = teacher("http://127.0.0.1:1/v1", mode="batch")
    with pytest.raises(UsageError, match="mode: batch"):
        annotated(rows(3), tmp_path / "rows.jsonl", settings, workers=2)
    assert threading.active_count() < 20
