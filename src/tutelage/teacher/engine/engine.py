"""The engine: asks every question of a stream once, at the pace that the governor allows, and has
each step on the disk before the next: reserved, sent, answered.

    questions -> known? -> reserve -> admit -> mark sent -> ask -> keep the answer
                             ^                              |
                             +------- after a while --------+ (a transient fault)

Of what is asked only a window is in memory: what is reserved, under way, or waiting to be asked
again. What became of each question is told to `Events`, once.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator

from tutelage.core.errors import TutelageError
from tutelage.core.types import Completion, Request
from tutelage.teacher.cost.budget import Money, out_of_money
from tutelage.teacher.cost.prices import output_bound, request_bound, worst_case
from tutelage.teacher.engine.attempt import Asker
from tutelage.teacher.engine.failures import RetryPolicy
from tutelage.teacher.engine.rate_limits import Governor, Health
from tutelage.teacher.engine.requests import Events, Question, Sent, Ticket
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Claim, Failure, Grant, Reservation, Session
from tutelage.teacher.ledger.writer import Writer
from tutelage.teacher.teacher import RequestFailedError, Teacher

_CHUNK = 200
"""Questions looked up and reserved together."""
_MOST_REPEATS = 10_000
"""Rows in memory because the question that they repeat is still open."""
_POLL_S = 0.25
"""Seconds between two looks at what another process is asking."""
DRAIN_S = 30.0
"""Seconds that requests under way get to come home when a run is interrupted: they are paid."""


class Engine:
    """One run over one stream of questions to one teacher. `run` is called once."""

    def __init__(
        self,
        teacher: Teacher,
        session: Session,
        money: Money,
        governor: Governor,
        events: Events,
        *,
        health: Health,
        policy: RetryPolicy | None = None,
        retry_failed: bool = False,
    ) -> None:
        self._teacher = teacher
        self._session = session
        self._money = money
        self._governor = governor
        self._events = events
        self._health = health
        self._retry_failed = retry_failed
        self._writer = Writer(session.ledger)
        self._asker = Asker(teacher, self._writer, money, governor, policy or RetryPolicy())
        self._ready: deque[Ticket] = deque()
        self._open: dict[str, Ticket] = {}
        self._held: dict[str, Ticket] = {}
        self._broke: deque[Ticket] = deque()
        self._ahead = 2 * governor.limits.concurrency
        # Room for what three others of our size have reserved: past that, ours begins.
        self._most_held = 4 * (self._ahead + _CHUNK)
        self._repeats = 0
        self._delayed = 0
        self._busy = 0
        self._under_way = 0
        self._exhausted = False
        self._look_at = 0.0
        self._stopping = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: deque[asyncio.Future[None]] = deque()

    @property
    def sent(self) -> Sent:
        """What has left so far."""
        return self._asker.sent

    async def run(self, questions: Iterable[Question]) -> None:
        """Ask them all. Raises what ends a run before its time; everything paid for is kept."""
        stream = iter(questions)
        try:
            waiting = await self._feed(stream)
            if self._error is not None:  # interrupted before anything had to be asked
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
        """Ask nothing new; `run` raises `error` once what is under way has come home, or when
        DRAIN_S is over."""
        if self._error is None:
            self._error = error
        self._stopping = True
        self._changed.set()

    # The stream: known, failed for good, under way already, or reserved.

    async def _feed(self, stream: Iterator[Question]) -> bool:
        """Take questions from the stream until some are ready to be asked; False at its end."""
        while not (self._ready or self._exhausted or self._broke or self._has_enough()):
            await self._take(list(itertools.islice(stream, _CHUNK)))
            await asyncio.sleep(0)
            if self._stopping:
                break
        return bool(self._ready or self._held or self._broke)

    def _has_enough(self) -> bool:
        """Whether to read no further for now: there is enough to do, or too much of what is to
        come is being asked by others, or is what is being asked already."""
        waiting = len(self._ready) + self._delayed
        return (
            waiting >= self._ahead
            or len(self._held) >= self._most_held
            or self._repeats >= _MOST_REPEATS
        )

    async def _take(self, chunk: list[Question]) -> None:
        if not chunk:
            self._exhausted = True
            return
        new: dict[str, Ticket] = {}
        for key, request in chunk:
            if key in self._open:
                self._open[key].copies += 1
                self._repeats += 1
            elif key in new:
                new[key].copies += 1
            else:
                new[key] = self._ticket(key, request)
        for key, completion in self._session.ledger.get_many(new).items():
            self._tell_known(new.pop(key), completion)
        for key, failure in self._hopeless(new).items():
            self._tell_failed(new.pop(key), failure, asked=False)
        if new:
            self._open.update(new)
            self._repeats += sum(ticket.copies - 1 for ticket in new.values())
            await self._reserve(list(new.values()))

    def _hopeless(self, keys: Iterable[str]) -> dict[str, Failure]:
        if self._retry_failed:
            return {}
        with self._session.ledger.reading() as connection:
            return charges.failures_of(connection, keys)

    def _ticket(self, key: str, request: Request) -> Ticket:
        tokens = request_bound(request) + output_bound(request)
        return Ticket(key, request, worst_case(request, self._money.price), tokens)

    async def _reserve(self, tickets: list[Ticket]) -> None:
        money = self._money
        claims = [Claim(ticket.key, ticket.worst) for ticket in tickets]
        outcome = await self._writer.submit(
            lambda connection: self._session.reserve(
                connection, claims, scope=money.scope, cap=money.cap
            )
        )
        for ticket, reservation in zip(tickets, outcome, strict=True):
            self._sort(ticket, reservation)

    def _sort(self, ticket: Ticket, reservation: Reservation) -> None:
        if reservation.grant is Grant.RESERVED:
            ticket.charge = reservation.charge
            # What is asked again goes first: its row is the one that others wait behind.
            (self._ready.appendleft if ticket.faults else self._ready.append)(ticket)
            self._wake(1)
        elif reservation.grant is Grant.ANSWERED:
            self._close(ticket)
            self._tell_known(ticket, self._session.ledger.get_many([ticket.key])[ticket.key])
        elif reservation.grant is Grant.HELD:
            self._held[ticket.key] = ticket
        elif reservation.grant is Grant.BATCHED:
            self._close(ticket)
            for _ in range(ticket.copies):
                self._events.left(ticket.key)
        else:
            self._broke.append(ticket)

    # The run itself: a few workers, and one who feeds them and sees when all is done.

    async def _supervise(self, stream: Iterator[Question]) -> None:
        for _ in range(self._governor.limits.concurrency):
            worker = asyncio.create_task(self._work())
            worker.add_done_callback(self._worker_ended)
            self._workers.add(worker)
        try:
            try:
                await self._keep_them_busy(stream)
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

    async def _keep_them_busy(self, stream: Iterator[Question]) -> None:
        while not self._stopping:
            self._changed.clear()
            if self._broke:
                await self._try_again_to_pay()
            elif not (self._exhausted or self._has_enough()):
                await self._take(list(itertools.islice(stream, _CHUNK)))
                await asyncio.sleep(0)
                continue
            if self._held and time.monotonic() >= self._look_at:
                await self._look_at_held()
                self._look_at = time.monotonic() + _POLL_S
            if self._exhausted and not self._open:
                return
            if not self._stopping:
                await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        timeout = max(0.0, self._look_at - time.monotonic()) if self._held else None
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            return

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_S
        while self._under_way and loop.time() < deadline:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), deadline - loop.time())
            except TimeoutError:
                return

    async def _try_again_to_pay(self) -> None:
        """What did not fit may do so once something under way has cost less than its worst."""
        tickets = list(self._broke)
        self._broke.clear()
        await self._reserve(tickets)
        if self._broke and not (self._busy or self._ready or self._delayed or self._held):
            worst = self._broke[0].worst
            self.stop(out_of_money(self._session.ledger, self._money, worst))

    async def _look_at_held(self) -> None:
        """Others' questions: take their answers, or the questions if the others are gone."""
        for key, completion in self._session.ledger.get_many(self._held).items():
            ticket = self._held.pop(key)
            self._close(ticket)
            self._tell_known(ticket, completion)
        for key, failure in self._hopeless(self._held).items():
            ticket = self._held.pop(key)
            self._close(ticket)
            self._tell_failed(ticket, failure, asked=False)
        if self._held:
            self._session.bury_the_dead()
            tickets = list(self._held.values())
            self._held.clear()
            await self._reserve(tickets)

    async def _work(self) -> None:
        while True:
            while not self._ready or self._stopping:
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._idle.append(future)
                self._changed.set()
                await future
            ticket = self._ready.popleft()
            self._busy += 1
            try:
                await self._ask(ticket)
            finally:
                self._busy -= 1
                if len(self._ready) < self._governor.limits.concurrency:
                    self._changed.set()

    def _wake(self, count: int) -> None:
        while count > 0 and self._idle:
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1

    async def _ask(self, ticket: Ticket) -> None:
        """Let one question go, when it may."""
        permit = await self._governor.admit(ticket.tokens)
        if self._stopping:
            self._governor.withdrawn(permit)
            return
        self._under_way += 1
        try:
            outcome = await self._asker.attempt(ticket, permit)
            if isinstance(outcome, Completion):
                self._answered(ticket, outcome)
            elif isinstance(outcome, Failure):
                await self._fail(ticket, outcome)
            else:
                self._delayed += 1
                loop = asyncio.get_running_loop()
                loop.call_later(outcome.after_s, self._come_back, ticket)
        except TutelageError:
            self._stopping = True  # before anybody else is let go
            raise
        finally:
            self._under_way -= 1
            if self._stopping:
                self._changed.set()

    def _come_back(self, ticket: Ticket) -> None:
        """A question is asked again: at the price of a new request, if that fits the budget."""
        self._delayed -= 1
        self._broke.append(ticket)
        self._changed.set()

    def _answered(self, ticket: Ticket, completion: Completion) -> None:
        self._health.succeeded()
        self._close(ticket)
        self._events.answered(ticket.key, completion)
        for _ in range(ticket.copies - 1):
            self._events.known(ticket.key, completion)

    async def _fail(self, ticket: Ticket, failure: Failure) -> None:
        strategy = ticket.request.strategy
        charge = ticket.charge

        def note(connection: sqlite3.Connection) -> None:
            if charge:
                charges.release(connection, [charge])
            charges.note_failure(connection, ticket.key, strategy, failure)

        await self._writer.submit(note)
        self._close(ticket)
        self._tell_failed(ticket, failure, asked=True)

    def _close(self, ticket: Ticket) -> None:
        if self._open.pop(ticket.key, None) is not None:
            self._repeats -= ticket.copies - 1
        if not self._open:
            self._changed.set()

    def _tell_known(self, ticket: Ticket, completion: Completion) -> None:
        self._health.succeeded()
        for _ in range(ticket.copies):
            self._events.known(ticket.key, completion)

    def _tell_failed(self, ticket: Ticket, failure: Failure, *, asked: bool) -> None:
        for _ in range(ticket.copies):
            self._events.failed(ticket.key, failure, asked=asked)
        error = RequestFailedError(failure.detail, transient=failure.transient)
        tell = self._health.question_failed if asked else self._health.rows_failed
        tell(error, ticket.copies)
