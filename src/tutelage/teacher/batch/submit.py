"""Sends batches, each once: from its row in the ledger to its id on the server.

A batch is in the ledger, with its requests and their charges, before anything is sent. Its file is
on the server, and that is on the disk as well, before the call that creates the batch. So a process
that is killed at any point leaves enough for the next call to continue: a batch that may have been
accepted is looked for in the server's list, by the tag in its metadata or by its file.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TypeVar

from tutelage.core.errors import TeacherError
from tutelage.core.types import Request
from tutelage.teacher.batch import table
from tutelage.teacher.batch.jsonl import (
    BatchLimits,
    RemoteBatch,
    pack_requests,
    price_as_text,
    request_line,
)
from tutelage.teacher.batch.native_servers import batch_server
from tutelage.teacher.batch.server import SENDING, CallFault, CannotListError
from tutelage.teacher.batch.table import BatchRow
from tutelage.teacher.cost.budget import Budget
from tutelage.teacher.cost.prices import worst_case
from tutelage.teacher.engine.failures import Action, RetryPolicy
from tutelage.teacher.engine.requests import PendingRequest
from tutelage.teacher.ledger.charges import Claim, ReservationStatus, Session
from tutelage.teacher.teacher import Teacher

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Submitted:
    """What `submit` did, in numbers of requests.

    requests:    sent in batches; batches: how many batches there are
    cached:      already answered
    held:        being made by another process, or in an open batch
    over_budget: the first request whose worst case does not fit into the budget; neither it nor any
                 later one was sent
    """

    requests: int
    batches: int
    cached: int
    held: int
    over_budget: Claim | None


class BatchSubmitter:
    """Sends the batches of one teacher and one budget, and records them in the ledger.

    most:         requests in a batch at most; reduced once the server's queue was full
    renamed:      whether the model requires the newer name of `max_tokens`
    sent_renamed: numbers of the batches that were sent with that name
    """

    def __init__(
        self,
        session: Session,
        teacher: Teacher,
        budget: Budget,
        limits: BatchLimits,
        policy: RetryPolicy,
    ) -> None:
        self.session = session
        self.ledger = session.ledger
        self.limits = limits
        self.policy = policy
        self.server = batch_server(teacher.settings, policy)
        self.most = limits.max_requests
        self.renamed = False
        self.sent_renamed: set[int] = set()
        self._settings = teacher.settings
        self._model = teacher.model
        self._identity = teacher.identity
        self._scope = budget.scope
        self._cap = budget.cap
        self._price = None if budget.price is None else budget.price.batch()

    def rows(self, *states: table.State, everything: bool) -> list[BatchRow]:
        """The batches in these states: of this budget, or of all budgets that use this teacher."""
        scope = None if everything else self._scope
        return table.rows_of(self.ledger, states=states, identity=self._identity, scope=scope)

    def take_over(self, row: BatchRow) -> bool:
        """Take over a batch; returns False where another process handles it."""
        if self.transact(lambda c: table.take_over(c, row.id, self.session.id)):
            return True
        return self.session.settle_dead_sessions() > 0 and self.transact(
            lambda c: table.take_over(c, row.id, self.session.id)
        )

    def end(self, row: BatchRow, detail: str) -> int:
        """End a batch that costs nothing; returns how many requests it held."""
        return self.transact(lambda c: table.end(c, row.id, detail))

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in one transaction of the ledger."""
        return self.ledger.transact(work)

    # Batches that a killed process has left.

    def reconcile(self) -> int:
        """Find batches that the server may have accepted without our knowledge; returns how many.

        What the server does not list was not accepted: its charges are released. Raises
        TeacherError where the server cannot list batches: then the user has to look there.
        """
        mine = [
            row
            for row in self.rows("building", "creating", everything=True)
            if row.key_env == self._settings.key_variable and self.take_over(row)
        ]
        for row in mine:
            if row.state == "building":
                self.end(row, "never sent")
        doubtful = [row for row in mine if row.state == "creating"]
        found = self._look_for(doubtful) if doubtful else {}
        for row in doubtful:
            if row.id not in found:
                self.end(row, "never accepted by the server")
        return len(found)

    def _look_for(self, rows: Sequence[BatchRow]) -> dict[int, RemoteBatch]:
        """Those of `rows` that the server lists, by number; they become `open`."""
        elsewhere = [row for row in rows if row.base_url != self.server.address]
        if elsewhere:
            raise TeacherError(
                f"a batch sent to {elsewhere[0].base_url} may have been accepted there, but this "
                f"teacher is at {self.server.address}: " + _adopt_hint(elsewhere[0])
            )
        found: dict[int, RemoteBatch] = {}
        try:
            self._list(rows, found)
            young = max(row.changed for row in rows) + self._settings.timeout_s
            wait = min(self.limits.settle_s, young + self.limits.settle_s - time.time())
            if len(found) < len(rows) and wait > 0:
                time.sleep(wait)  # a batch that was sent a moment ago may not be listed yet
                self._list(rows, found)
        except CannotListError as error:
            raise TeacherError(
                f"{error}, and {len(rows)} batches sent there may have been accepted: "
                + _adopt_hint(rows[0])
            ) from error
        except CallFault as fault:
            raise self.server.explain("list its batches", fault) from fault
        return found

    def _list(self, rows: Sequence[BatchRow], found: dict[int, RemoteBatch]) -> None:
        wanted = {row.tag: row for row in rows}
        wanted |= {row.file_id: row for row in rows if row.file_id is not None}
        ours = table.remote_ids(self.ledger)
        for remote in self.server.batches():
            row = wanted.get(remote.tag or "") or wanted.get(remote.input_file or "")
            if row is None and remote.created is not None and remote.id not in ours:
                row = _alike(remote, rows)
            if row is None:
                continue
            if row.id in found and remote.created is not None:
                raise CannotListError(
                    f"{self.server.address} lists several batches of {row.requests} requests from "
                    "that time, and names no tag"
                )
            if row.id in found:
                # The call was repeated because the first one seemed to have failed.
                if remote.id != found[row.id].id and not remote.ended:
                    self.server.cancel(remote.id)
                continue
            found[row.id] = remote
            self.adopt(row, remote)

    def adopt(self, row: BatchRow, remote: RemoteBatch) -> None:
        """Record the server's id of a batch."""
        self.transact(lambda c: table.note_open(c, row.id, remote.id, remote.status))

    # Sending.

    def submit(self, requests: Iterable[PendingRequest]) -> Submitted:
        """Send requests in as many batches as the limits require, as far as the budget reaches.

        No more requests than one batch holds are in memory at a time.
        """
        total = Submitted(0, 0, 0, 0, None)
        part: list[PendingRequest] = []
        size = 0
        for pending in requests:
            length = len(self._line(pending.key, pending.request))
            if part and (len(part) >= self.most or size + length > self.limits.max_bytes):
                total = _sum(total, self._send(part))
                part, size = [], 0
                if total.over_budget is not None:
                    return total
            part.append(pending)
            size += length
        return _sum(total, self._send(part)) if part else total

    def _send(self, part: list[PendingRequest]) -> Submitted:
        """Send one batch, from its row in the ledger to its id on the server."""
        now = time.time()
        row = BatchRow(
            id=0,
            tag=uuid.uuid4().hex,
            scope=self._scope,
            identity=self._identity,
            model=self._model,
            base_url=self.server.address,
            key_env=self._settings.key_variable,
            session=self.session.id,
            remote_id=None,
            file_id=None,
            state="building",
            detail="",
            requests=0,
            changed=now,
            created=now,
        )
        packed = pack_requests(part)
        claims = [Claim(key, worst_case(request, self._price)) for key, request in part]

        def begin(connection: sqlite3.Connection) -> tuple[int, list[ReservationStatus], list[int]]:
            number = table.begin(connection, row, price_as_text(self._price), packed)
            reserved = self.session.reserve(
                connection, claims, scope=self._scope, cap=self._cap, batch=number
            )
            charges = [one.charge for one in reserved if one.status is ReservationStatus.RESERVED]
            table.set_requests(connection, number, len(charges))
            return number, [one.status for one in reserved], charges

        number, statuses, charges = self.transact(begin)
        reserved = [
            pending
            for pending, status in zip(part, statuses, strict=True)
            if status is ReservationStatus.RESERVED
        ]
        if reserved:
            self._deliver(number, row.tag, reserved, charges)
        counts = Counter(statuses)
        over_budget = next(
            (
                claim
                for claim, status in zip(claims, statuses, strict=True)
                if status is ReservationStatus.OVER_BUDGET
            ),
            None,
        )
        return Submitted(
            len(reserved),
            bool(reserved),
            counts[ReservationStatus.ANSWERED],
            counts[ReservationStatus.HELD] + counts[ReservationStatus.BATCHED],
            over_budget,
        )

    def _deliver(
        self, number: int, tag: str, requests: list[PendingRequest], charges: list[int]
    ) -> None:
        if self.renamed:
            self.sent_renamed.add(number)
        with tempfile.TemporaryFile() as file:
            try:
                for key, request in requests:
                    file.write(self._line(key, request))
                file_id = self.server.upload(file, f"tutelage-{tag}.jsonl")
            except (CallFault, TeacherError) as error:
                self.transact(lambda c: table.end(c, number, "its file was not accepted"))
                if isinstance(error, CallFault):
                    raise self.server.explain(SENDING, error) from error
                raise
            self.transact(lambda c: table.note_creating(c, number, file_id, charges))
            row = table.row_of(self.ledger, number)
            assert row is not None
            self._create(row, file)

    def _line(self, key: str, request: Request) -> bytes:
        return request_line(key, request, renamed=self.renamed, dialect=self.server.dialect)

    def _create(self, row: BatchRow, file: IO[bytes]) -> None:
        """Create a batch on the server once, even if the answer to the call is lost."""
        assert row.file_id is not None
        attempt = 0
        while True:
            attempt += 1
            try:
                self.adopt(row, self.server.create(row.file_id, row.tag, file))
                return
            except CallFault as fault:
                certain = fault.unpaid and fault.status not in (408, 409)
                if not certain and self._look_for([row]):
                    return
                if fault.action is not Action.RETRY or attempt >= self.policy.attempts[fault.kind]:
                    self.end(row, f"not accepted: {fault}")
                    raise self.server.explain(SENDING, fault) from fault
                time.sleep(self.policy.delay(attempt, fault.retry_after_s))
            except TeacherError as error:  # the key, or the account: nothing was accepted
                self.end(row, f"not accepted: {error}")
                raise


_SAME_S = 900.0
"""Seconds between our call and the time that the server names for its batch, at most."""


def _alike(remote: RemoteBatch, rows: Sequence[BatchRow]) -> BatchRow | None:
    """The row of a batch on a server that keeps no tags: by its time and its size."""
    assert remote.created is not None
    near = [
        row
        for row in rows
        if row.requests == remote.total and abs(remote.created - row.changed) <= _SAME_S
    ]
    return near[0] if near else None


def _adopt_hint(row: BatchRow) -> str:
    return (
        f"look there for a batch with the tag {row.tag} in its metadata; if there is one, use "
        f"`tutelage ledger batches --adopt {row.id}=ITS-ID`; otherwise {forget_hint(row)}"
    )


def forget_hint(row: BatchRow) -> str:
    """How the user can give a batch up, and the consequence."""
    return (
        f"`tutelage ledger batches --forget {row.id}` gives the batch up ({row.requests} requests, "
        "which stay charged at their worst case and can be made again)"
    )


def _sum(one: Submitted, other: Submitted) -> Submitted:
    return Submitted(
        one.requests + other.requests,
        one.batches + other.batches,
        one.cached + other.cached,
        one.held + other.held,
        other.over_budget,
    )
