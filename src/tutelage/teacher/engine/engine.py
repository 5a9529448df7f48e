"""The engine: sends each request of a stream once, at the pace that the rate limiter allows.

Each step is on the disk before the next one begins: reserved, sent, answered.

    requests -> in the ledger? -> reserve -> admit -> mark sent -> send -> store the answer
                                    ^                               |
                                    +--------- after a delay -------+ (a transient fault)

Only a window of the stream is in memory: requests that are reserved, in flight, or waiting for a
retry. The `RequestListener` learns the result of each request once.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

from tutelage.core.errors import TeacherError, TutelageError
from tutelage.core.types import Completion, Request
from tutelage.teacher.cost.budget import Budget, budget_exceeded
from tutelage.teacher.cost.prices import output_bound, request_bound, worst_case
from tutelage.teacher.engine.attempt import RequestSender, Undecided
from tutelage.teacher.engine.balancer import Limiter
from tutelage.teacher.engine.failures import RetryPolicy
from tutelage.teacher.engine.judgement import Judgement
from tutelage.teacher.engine.rate_limits import FailureMonitor
from tutelage.teacher.engine.requests import (
    ActiveRequest,
    AttemptCounts,
    PendingRequest,
    RequestListener,
)
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Failure, Reservation, ReservationStatus, Session
from tutelage.teacher.ledger.writer import Writer
from tutelage.teacher.teacher import RequestFailedError, Teacher

_CHUNK = 200
"""Requests that are looked up and reserved together."""
_MAX_REPEATS = 10_000
"""Rows in memory that repeat a request whose result is not known yet, at most."""
_POLL_S = 0.25
"""Seconds between two checks of requests that another process is making."""
_LEFT = (
    "requests are left without an answer by their batches, and mode: batch makes none live: run "
    "again for another batch, or set batch_fallback: live"
)
DRAIN_S = 30.0
"""Seconds that requests in flight get to complete when a run is interrupted: they are paid for."""


class Engine:
    """One run over one stream of requests to one teacher. `run` is called once.

    sends: False where nothing may be sent, because all answers are to come from batches
    """

    def __init__(
        self,
        teacher: Teacher,
        session: Session,
        budget: Budget,
        limiter: Limiter,
        listener: RequestListener,
        *,
        monitor: FailureMonitor,
        policy: RetryPolicy | None = None,
        retry_failed: bool = False,
        sends: bool = True,
    ) -> None:
        self._teacher = teacher
        self._session = session
        self._budget = budget
        self._limiter = limiter
        self._listener = listener
        self._monitor = monitor
        self._retry_failed = retry_failed
        self._sends = sends
        self._writer = Writer(session.ledger)
        self._sender = RequestSender(
            teacher, self._writer, budget, limiter, policy or RetryPolicy()
        )
        self._judgement = Judgement()
        self._ready: deque[ActiveRequest] = deque()
        self._open: dict[str, ActiveRequest] = {}
        self._held: dict[str, ActiveRequest] = {}
        self._to_reserve: deque[ActiveRequest] = deque()
        self._max_waiting = 2 * limiter.limits.concurrency
        # Room for what three other processes of this size have reserved; after that, ours begins.
        self._max_held = 4 * (self._max_waiting + _CHUNK)
        self._repeats = 0
        self._delayed = self._busy = self._in_flight = 0
        self._exhausted = self._stopping = False
        self._next_poll = 0.0
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: deque[asyncio.Future[None]] = deque()

    @property
    def attempts(self) -> AttemptCounts:
        """The attempts so far."""
        return self._sender.attempts

    async def run(self, requests: Iterable[PendingRequest]) -> None:
        """Make all requests.

        Raises the error that ends a run early; everything that was paid for is kept.
        """
        stream = iter(requests)
        try:
            waiting = await self._fill(stream)
            if self._error is not None:  # interrupted before anything had to be sent
                raise self._error
            if waiting:
                async with self._teacher:
                    await self._supervise(stream)
        finally:
            try:
                await self._writer.drain()
            finally:
                self._writer.close()

    def stop(self, error: BaseException) -> None:
        """Send nothing new. `run` raises `error` once the requests in flight have completed, after
        DRAIN_S at the latest."""
        if self._error is None:
            self._error = error
        self._stopping = True
        self._changed.set()

    # The stream. Each request is cached, failed for good, active already, or reserved.

    async def _fill(self, stream: Iterator[PendingRequest]) -> bool:
        """Take requests from the stream until some are ready to be sent; False at its end."""
        while not (self._ready or self._exhausted or self._to_reserve or self._has_enough()):
            await self._take(list(itertools.islice(stream, _CHUNK)))
            await asyncio.sleep(0)
            if self._stopping:
                break
        return bool(self._ready or self._held or self._to_reserve)

    def _has_enough(self) -> bool:
        """Whether to take nothing more from the stream for now: enough requests are waiting, or
        other processes hold too many, or too many rows repeat an active request."""
        waiting = len(self._ready) + self._delayed
        return (
            waiting >= self._max_waiting
            or len(self._held) >= self._max_held
            or self._repeats >= _MAX_REPEATS
        )

    async def _take(self, chunk: list[PendingRequest]) -> None:
        if not chunk:
            self._exhausted = True
            return
        new: dict[str, ActiveRequest] = {}
        for key, request in chunk:
            if key in self._open:
                self._open[key].copies += 1
                self._repeats += 1
            elif key in new:
                new[key].copies += 1
            else:
                new[key] = self._active(key, request)
        await self._report_known(new)
        if new:
            self._open.update(new)
            self._repeats += sum(active.copies - 1 for active in new.values())
            await self._reserve(list(new.values()))

    async def _report_known(self, requests: dict[str, ActiveRequest]) -> None:
        """Take out of `requests` those whose result is in the ledger, and report it."""
        answers, failures = await self._session.look_up(requests)
        for key, completion in answers.items():
            self._close(active := requests.pop(key))
            self._report_cached(active, completion)
        for key, failure in ({} if self._retry_failed else failures).items():
            self._close(active := requests.pop(key))
            self._report_failed(active, failure, sent=False)

    def _active(self, key: str, request: Request) -> ActiveRequest:
        tokens = request_bound(request) + output_bound(request)
        return ActiveRequest(key, request, worst_case(request, self._budget.price), tokens)

    async def _reserve(self, requests: list[ActiveRequest]) -> None:
        budget = self._budget
        claims = [charges.Claim(active.key, active.worst_pico) for active in requests]
        found = await self._session.claim(self._writer, claims, scope=budget.scope, cap=budget.cap)
        for active, reservation in zip(requests, found, strict=True):
            self._sort(active, reservation)

    def _sort(self, active: ActiveRequest, reservation: Reservation) -> None:
        if reservation.status is ReservationStatus.RESERVED:
            active.charge = reservation.charge
            if not self._sends:  # the reservation is released with the session
                raise TeacherError(_LEFT)
            # A retry goes first: its row is the one that others wait for.
            (self._ready.appendleft if active.faults else self._ready.append)(active)
            self._wake(1)
        elif reservation.status is ReservationStatus.ANSWERED:
            self._close(active)
            self._report_cached(active, self._session.get(active.key))
        elif reservation.status is ReservationStatus.HELD:
            self._held[active.key] = active
        elif reservation.status is ReservationStatus.BATCHED:
            self._close(active)
            for _ in range(active.copies):
                self._listener.batched(active.key)
        else:
            self._to_reserve.append(active)

    # The run itself: workers that send, and one task that feeds them and detects the end.

    async def _supervise(self, stream: Iterator[PendingRequest]) -> None:
        for _ in range(self._limiter.limits.concurrency):
            worker = asyncio.create_task(self._work())
            worker.add_done_callback(self._worker_ended)
            self._workers.add(worker)
        try:
            try:
                await self._feed_workers(stream)
            except TutelageError as error:
                self.stop(error)
            if self._stopping:
                await self._drain()
        finally:
            for worker in self._workers:
                worker.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)
        if self._error is not None:
            raise self._error

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        error = None if worker.cancelled() else worker.exception()
        if error is not None:
            self.stop(error)

    async def _feed_workers(self, stream: Iterator[PendingRequest]) -> None:
        while not self._stopping:
            self._changed.clear()
            if self._to_reserve:
                await self._retry_reservations()
            elif not (self._exhausted or self._has_enough()):
                await self._take(list(itertools.islice(stream, _CHUNK)))
                await asyncio.sleep(0)
                continue
            if self._held and time.monotonic() >= self._next_poll:
                await self._poll_held()
                self._next_poll = time.monotonic() + _POLL_S
            if self._exhausted and len(self._open) == len(self._judgement):
                for row in self._judgement.undecided():
                    await self._fail(*row)
                return
            # What another process held may be over budget now: then there is nothing to wait for.
            if not self._stopping and (self._under_way or not self._to_reserve):
                await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        timeout = max(0.0, self._next_poll - time.monotonic()) if self._held else None
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout)

    async def _drain(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self._in_flight:
                    self._changed.clear()
                    await self._changed.wait()

    async def _retry_reservations(self) -> None:
        """Reserve again what exceeded the budget: it may fit once a request in flight has cost less
        than its worst case."""
        requests = list(self._to_reserve)
        self._to_reserve.clear()
        await self._reserve(requests)
        if self._to_reserve and not self._under_way:
            worst = self._to_reserve[0].worst_pico
            self.stop(budget_exceeded(self._session, self._budget, worst))

    @property
    def _under_way(self) -> bool:
        """Whether anything is under way that may free part of the budget when it ends."""
        return bool(self._busy or self._ready or self._delayed or self._held)

    async def _poll_held(self) -> None:
        """Take the answers that other processes have stored, and the requests that they left."""
        await self._report_known(self._held)
        if self._held:
            self._session.settle_dead_sessions()
            requests = list(self._held.values())
            self._held.clear()
            await self._reserve(requests)

    async def _work(self) -> None:
        while True:
            while not self._ready or self._stopping:
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._idle.append(future)
                self._changed.set()
                await future
            active = self._ready.popleft()
            self._busy += 1
            try:
                await self._send(active)
            finally:
                self._busy -= 1
                if len(self._ready) < self._limiter.limits.concurrency:
                    self._changed.set()

    def _wake(self, count: int) -> None:
        while count > 0 and self._idle:
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1

    async def _send(self, active: ActiveRequest) -> None:
        """Make one attempt at a request as soon as the rate limiter admits it."""
        permit = await self._limiter.admit(active.tokens, active)
        if self._stopping:
            self._limiter.not_sent(permit)
            return
        self._in_flight += 1
        try:
            result = await self._sender.attempt(active, permit)
            if isinstance(result, Completion):
                self._answered(active, result)
                for row in self._judgement.answered(permit.started_at):
                    await self._fail(*row)
            elif isinstance(result, Undecided):
                stop = self._judgement.refused(active, result)
                if stop is not None:
                    raise await self._sender.end(stop)
                self._changed.set()
            elif isinstance(result, Failure):
                await self._fail(active, result)
            else:
                self._delayed += 1
                loop = asyncio.get_running_loop()
                loop.call_later(result.delay_s, self._requeue, active)
        except TutelageError:
            self._stopping = True  # before any other request is sent
            raise
        finally:
            self._in_flight -= 1
            if self._stopping:
                self._changed.set()

    def _requeue(self, active: ActiveRequest) -> None:
        """Retry a request: it is reserved again, at the price of a new one."""
        self._delayed -= 1
        self._to_reserve.append(active)
        self._changed.set()

    def _answered(self, active: ActiveRequest, completion: Completion) -> None:
        self._monitor.succeeded()
        self._close(active)
        self._listener.answered(active.key, completion)
        for _ in range(active.copies - 1):
            self._listener.cached(active.key, completion)

    async def _fail(self, active: ActiveRequest, failure: Failure) -> None:
        strategy = active.request.strategy
        charge = active.charge

        def store(connection: sqlite3.Connection) -> None:
            if charge:
                charges.release(connection, [charge])
            charges.store_failure(connection, active.key, strategy, failure)

        await self._writer.submit(store)
        self._close(active)
        self._report_failed(active, failure, sent=True)

    def _close(self, active: ActiveRequest) -> None:
        if self._open.pop(active.key, None) is not None:
            self._repeats -= active.copies - 1
        if not self._open:
            self._changed.set()

    def _report_cached(self, active: ActiveRequest, completion: Completion) -> None:
        self._monitor.succeeded()
        self._judgement.answered()
        for _ in range(active.copies):
            self._listener.cached(active.key, completion)

    def _report_failed(self, active: ActiveRequest, failure: Failure, *, sent: bool) -> None:
        for _ in range(active.copies):
            self._listener.failed(active.key, failure, sent=sent)
        error = RequestFailedError(failure.detail, transient=failure.transient)
        report = self._monitor.request_failed if sent else self._monitor.rows_failed
        report(error, active.copies)
