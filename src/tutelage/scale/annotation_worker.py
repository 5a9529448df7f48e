"""A worker of an annotation: an actor that runs the engine on one block of rows after another.

Its answers go to a ledger on its own disk. Every RECORD_ANSWERS of them, or RECORD_S seconds, they
are closed as a shard, copied to the shared folder and merged by the keeper; then they are recorded.
What a worker that was killed has left on this machine's disk is recorded by the others here.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tutelage.core.errors import (
    RunFolderError,
    ServerUnreachableError,
    TeacherError,
    TutelageError,
)
from tutelage.core.task import Task
from tutelage.core.types import Completion, Example
from tutelage.scale.keeper import JobStoppedError, SessionEndedError
from tutelage.scale.keeper_calls import KeeperCalls
from tutelage.scale.rate_leases import LeasedWindow, RateCall
from tutelage.scale.worker_folders import WorkerFolders
from tutelage.strategies.lookup import Strategy
from tutelage.teacher.cost.budget import Budget
from tutelage.teacher.engine.balancer import Limiter
from tutelage.teacher.engine.engine import Engine
from tutelage.teacher.engine.failures import RetryPolicy
from tutelage.teacher.engine.pacing import limiter_of
from tutelage.teacher.engine.rate_limits import FailureMonitor, RateWindow
from tutelage.teacher.engine.requests import PendingRequest, RequestBuilder
from tutelage.teacher.hopeless import HopelessStreak
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Failure
from tutelage.teacher.ledger.leased_session import LeasedSession
from tutelage.teacher.ledger.shards import SharedFolderError, WorkerLedger
from tutelage.teacher.parsing import parse_answer
from tutelage.teacher.replay import NOT_ASKED
from tutelage.teacher.teacher import Teacher

RECORD_ANSWERS = 200
RECORD_S = 10.0
_BEAT_S = 2.0
_LOOK_UP = 2000
"""Keys that the keeper is asked about at once."""


@dataclass(frozen=True, slots=True)
class WorkerJob:
    """What every worker of an annotation does.

    shards: the shared folder; disk: a folder on each machine's own disk
    record_answers, record_s: answers after which a shard is closed, or seconds
    """

    strategy: Strategy
    task: Task
    teacher: Teacher
    budget: Budget
    shards: Path
    disk: Path
    policy: RetryPolicy | None
    retry_failed: bool
    minute_s: float
    record_answers: int = RECORD_ANSWERS
    record_s: float = RECORD_S


class KeptOpen:
    """A teacher that is opened for the first block that needs it, and stays open."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._open = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._teacher, name)

    async def __aenter__(self) -> Self:
        if not self._open:
            await self._teacher.__aenter__()
            self._open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stay open."""

    async def shut(self) -> None:
        """Close the teacher after all."""
        if self._open:
            await self._teacher.__aexit__(None, None, None)


class AnnotationWorker:
    """One worker. `run` is called with one block after another.

    actor: which names this worker, also after its process has ended and begun again
    place: where it runs, for people; its files are in a folder of that name
    """

    def __init__(self, job: WorkerJob, keeper: KeeperCalls, actor: str, place: str) -> None:
        self._job, self._keeper = job, keeper
        self._folders = WorkerFolders(job.disk / place, job.shards, keeper, keeper.note)
        with self._folders.one_at_a_time():
            # Before anything is asked: of the rows that come next, some may be answered there.
            self._folders.record_ended()
            self.session_number = keeper.register(actor, place)
            self._folder, self._alive = self._folders.make(self.session_number)
        self._ledger = WorkerLedger(self._folder / "ledger.sqlite", self.session_number)
        self._session = LeasedSession(self._ledger, self.session_number, keeper, job.shards)
        self._loop = asyncio.new_event_loop()
        self._teacher: Any = KeptOpen(job.teacher)
        self._builder = RequestBuilder(job.strategy, job.task, job.teacher)
        self._streak = HopelessStreak(job.teacher.settings)
        self._windows: list[LeasedWindow] = []
        self._limiter: Limiter | None = None
        self._engine: Engine | None = None
        self._recorded_at = time.monotonic()
        self._unrecorded = 0
        self._ended = threading.Event()
        self._error: BaseException | None = None
        threading.Thread(target=self._record_in_time, daemon=True).start()

    def close(self) -> None:
        """End the worker in good order."""
        self._ended.set()
        self._loop.run_until_complete(self._teacher.shut())
        with suppress(TutelageError):
            self._session.record()
        self._ledger.close()
        self._loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._alive.release()

    # The disk.

    def _record_in_time(self) -> None:
        """Record what is RECORD_S old and what others have left, and tell the keeper that this
        worker lives."""
        while not self._ended.wait(_BEAT_S):
            try:
                self._keeper.beat(self.session_number)
                if time.monotonic() - self._recorded_at >= self._job.record_s:
                    self._record()
                self._record_ended(wait=False)
            except Exception as error:  # noqa: BLE001  the thread of the engine raises it
                if self._ended.is_set():
                    return
                self._interrupt(error)
                return

    def _record_ended(self, *, wait: bool) -> None:
        with self._folders.one_at_a_time(wait=wait) as free:
            if free:
                self._folders.record_ended()

    def _record(self) -> None:
        self._recorded_at = time.monotonic()
        self._unrecorded = 0
        self._session.record()

    def _record_many(self) -> None:
        try:
            self._record()
        except Exception as error:  # noqa: BLE001  likewise
            self._interrupt(error)

    def _interrupt(self, error: BaseException) -> None:
        """Have the engine end with an error that another thread has met."""
        self._error = self._error or error
        with suppress(RuntimeError):  # no loop any more
            self._loop.call_soon_threadsafe(self._stop_engine)

    def _stop_engine(self) -> None:
        if self._engine is not None and self._error is not None:
            self._engine.stop(self._error)

    # Blocks.

    def run(self, block: int, rows: Sequence[Example]) -> int:
        """Get answers for the rows of a block; returns how many requests they need.

        Every one of them has an answer or a failure when this returns, or the job ends. Raises
        SessionEndedError, or RunFolderError for this machine's disk: another worker is to begin.
        """
        pending = {one.key: one for one in self._requests(rows)}
        # Whoever had the block before may have answered some of it, and ended.
        self._record_ended(wait=True)
        missing = self._missing(pending)
        ruling = self._keeper.begin_block(self.session_number, block, len(missing))
        sent = 0
        if ruling.action == "fail":
            self._fail(missing, ruling.reason)
        elif ruling.action == "ask" and missing:
            sent = self._ask(missing)
        self._keeper.end_block(self.session_number, block, sent)
        return len(pending)

    def _requests(self, rows: Sequence[Example]) -> list[PendingRequest]:
        pending = []
        for row in rows:
            with suppress(Exception):  # counted where the file is written
                pending.append(self._builder.pending(row))
        return pending

    def _missing(self, pending: Mapping[str, PendingRequest]) -> dict[str, PendingRequest]:
        keys = list(pending)
        known: set[str] = set()
        for start in range(0, len(keys), _LOOK_UP):
            answered, failed = self._keeper.look_up(keys[start : start + _LOOK_UP])
            known.update(answered, () if self._job.retry_failed else failed)
        return {key: one for key, one in pending.items() if key not in known}

    def _ask(self, missing: Mapping[str, PendingRequest]) -> int:
        listener = _Listener(self, missing)
        sent = 0
        try:
            with self._session:
                sent = self._loop.run_until_complete(self._run_engine(listener, missing))
        except JobStoppedError:
            return sent
        except (SessionEndedError, RunFolderError) as error:
            if isinstance(error, SharedFolderError):
                self._keeper.stop("RunFolderError", str(error))
                return sent
            raise
        except Exception as error:
            if error is self._error and not isinstance(error, TutelageError):
                raise  # not the engine: this process cannot record
            self._limiter = None  # it may admit nothing any more
            if _is_about_all(error, self._job.teacher):
                self._keeper.stop(type(error).__name__, str(error))
            else:
                reason = f"the engine died: {type(error).__name__}: {error}"
                self._fail([key for key in missing if key not in listener.done], reason)
                self._keeper.engine_died(reason)
        finally:
            self._give_rates_back()
        return sent

    async def _run_engine(self, listener: _Listener, missing: Mapping[str, PendingRequest]) -> int:
        job = self._job
        if self._limiter is None:
            self._windows.clear()
            self._limiter = limiter_of(
                job.teacher, self._keeper.note, minute_s=job.minute_s, windows=self._window
            )
        proven = await asyncio.to_thread(self._keeper.proven)
        self._engine = Engine(
            self._teacher,
            self._session,
            job.budget,
            self._limiter,
            listener,
            monitor=FailureMonitor(proven=proven, max_failed=None),
            policy=job.policy,
            retry_failed=job.retry_failed,
        )
        self._stop_engine()
        try:
            await self._engine.run(missing.values())
        finally:
            sent = self._engine.attempts.sent
            self._engine = None
        return sent

    def _fail(self, keys: Sequence[str] | Mapping[str, Any], reason: str) -> None:
        """Count rows as failed without asking."""
        failure = Failure(NOT_ASKED, " ".join(reason.split()), True)
        name = self._job.strategy.name

        def store(connection: sqlite3.Connection) -> None:
            for key in keys:
                charges.store_failure(connection, key, name, failure)

        self._ledger.transact(store)
        self._record()

    def answered(self, completion: Completion, example: Example) -> None:
        """An answer has arrived. Raises HopelessError where one after the other is of no use."""
        job = self._job
        rationale = parse_answer(job.strategy, completion, example, job.task, job.teacher.settings)
        self._streak.count(rationale, completion)
        self._unrecorded += 1
        if self._unrecorded >= job.record_answers:
            self._unrecorded = 0
            self._loop.run_in_executor(None, self._record_many)
        self._streak.check()

    # Rates.

    def _window(self, server: str, unit: str, limit: float) -> RateWindow:
        call: Callable[[RateCall], tuple[float, float]] = lambda made: self._keeper.rates(  # noqa: E731
            self.session_number, made
        )
        window = LeasedWindow(server, unit, limit, call)
        self._windows.append(window)
        return window

    def _give_rates_back(self) -> None:
        for window in self._windows:
            call = window.give_back()
            if call is not None:
                self._keeper.rates(self.session_number, call)


class _Listener:
    """Learns the results of a block's requests. done: the keys that have one"""

    def __init__(self, worker: AnnotationWorker, pending: Mapping[str, PendingRequest]) -> None:
        self._worker = worker
        self._pending = pending
        self.done: set[str] = set()

    def cached(self, key: str, completion: Completion) -> None:
        """Another worker has recorded the answer."""
        self.done.add(key)

    def answered(self, key: str, completion: Completion) -> None:
        """An answer."""
        self.done.add(key)
        self._worker.answered(completion, self._pending[key].request.example)

    def batched(self, key: str) -> None:
        """Raises TeacherError."""
        raise TeacherError(
            "another process has put requests of this run into a batch: collect it first "
            "(`tutelage ledger batches` lists it)"
        )

    def failed(self, key: str, failure: Failure, *, sent: bool) -> None:
        """A failure, which is in the ledger."""
        self.done.add(key)


def _is_about_all(error: Exception, teacher: Teacher) -> bool:
    """Whether an error ends the job, as it ends a local run; otherwise the engine of this worker
    has died: its server or its model is gone, or it has an error of its own."""
    if isinstance(error, ServerUnreachableError):
        return False
    if isinstance(error, TeacherError):
        return teacher.settings.remote or type(error) is not TeacherError
    return isinstance(error, TutelageError)
