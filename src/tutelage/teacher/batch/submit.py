"""Sending batches, each once: from its row in the ledger to its id on the server.

A batch is in the ledger, with its questions and their charges, before anything leaves; its file is
on the server, and that is on the disk too, before the call that makes a batch of it. So whoever is
killed at any point leaves enough for the next call to go on: a batch that may have been accepted
unheard is looked for in the server's list, by the tag in its metadata or by its file.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tutelage.core.errors import TeacherError
from tutelage.teacher.batch import table
from tutelage.teacher.batch.jsonl import (
    BatchLimits,
    RemoteBatch,
    pack_questions,
    price_as_text,
    request_line,
)
from tutelage.teacher.batch.server import SENDING, BatchServer, CallFault, CannotListError
from tutelage.teacher.batch.table import BatchRow
from tutelage.teacher.cost.budget import Money
from tutelage.teacher.cost.prices import worst_case
from tutelage.teacher.engine.failures import RetryPolicy, Verdict
from tutelage.teacher.engine.requests import Question
from tutelage.teacher.ledger.charges import Claim, Grant, Session
from tutelage.teacher.teacher import Teacher

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Submitted:
    """What `submit` did.

    questions: that are in batches now; batches: how many
    known:     answered already; held: being asked by another process, or in an open batch
    unfit:     the first question whose worst case does not fit into the budget: neither it nor
               what comes after it was sent
    """

    questions: int
    batches: int
    known: int
    held: int
    unfit: Claim | None


class Desk:
    """The batches of one teacher and one budget in the ledger, and the server that they go to.

    most:    questions in a batch at most; fewer once the server's queue was full
    renamed: whether the model takes `max_tokens` under its newer name
    sent_renamed: the batches that were sent with that name
    """

    def __init__(
        self,
        session: Session,
        teacher: Teacher,
        money: Money,
        limits: BatchLimits,
        policy: RetryPolicy,
    ) -> None:
        self.session = session
        self.ledger = session.ledger
        self.limits = limits
        self.policy = policy
        self.server = BatchServer(teacher.settings, policy)
        self.most = limits.max_requests
        self.renamed = False
        self.sent_renamed: set[int] = set()
        self._settings = teacher.settings
        self._model = teacher.model
        self._identity = teacher.identity
        self._scope = money.scope
        self._cap = money.cap
        self._price = None if money.price is None else money.price.batch()

    def rows(self, *states: table.State, everything: bool) -> list[BatchRow]:
        """Batches in these states: of this budget, or of everybody who asks this server."""
        scope = None if everything else self._scope
        return table.rows_of(self.ledger, states=states, identity=self._identity, scope=scope)

    def take(self, row: BatchRow) -> bool:
        """Make a batch this process's; False where another is at it."""
        if self.transact(lambda c: table.take(c, row.id, self.session.id)):
            return True
        return self.session.bury_the_dead() > 0 and self.transact(
            lambda c: table.take(c, row.id, self.session.id)
        )

    def end(self, row: BatchRow, detail: str) -> int:
        """End a batch that costs nothing; how many questions it held."""
        return self.transact(lambda c: table.end(c, row.id, detail))

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Some work in one transaction."""
        return self.ledger.transact(work)

    # What a killed process left.

    def reconcile(self) -> int:
        """Find out about batches that may have been accepted unheard; how many were.

        Those that the server does not list were not: their charges are released. Raises
        TeacherError where it cannot list: then a person has to look.
        """
        mine = [
            row
            for row in self.rows("building", "creating", everything=True)
            if row.key_env == self._settings.api_key_env and self.take(row)
        ]
        for row in mine:
            if row.state == "building":
                self.end(row, "never sent")
        doubtful = [row for row in mine if row.state == "creating"]
        found = self._look_for(doubtful) if doubtful else {}
        for row in doubtful:
            if row.id not in found:
                self.end(row, "the server never had it")
        return len(found)

    def _look_for(self, rows: Sequence[BatchRow]) -> dict[int, RemoteBatch]:
        """Those of `rows` that the server lists, which are `open` from then on."""
        elsewhere = [row for row in rows if row.base_url != self.server.shown]
        if elsewhere:
            raise TeacherError(
                f"a batch sent to {elsewhere[0].base_url} may have been accepted there, and this "
                f"teacher is at {self.server.shown}: " + _way_out(elsewhere[0])
            )
        found: dict[int, RemoteBatch] = {}
        try:
            self._list(rows, found)
            young = max(row.changed for row in rows) + self._settings.timeout_s
            wait = min(self.limits.settle_s, young + self.limits.settle_s - time.time())
            if len(found) < len(rows) and wait > 0:
                time.sleep(wait)  # what was sent a moment ago may still be on its way
                self._list(rows, found)
        except CannotListError as error:
            raise TeacherError(
                f"{error}, and {len(rows)} sent there may have been accepted: " + _way_out(rows[0])
            ) from error
        except CallFault as fault:
            raise self.server.explain("list its batches", fault) from fault
        return found

    def _list(self, rows: Sequence[BatchRow], found: dict[int, RemoteBatch]) -> None:
        wanted = {row.tag: row for row in rows}
        wanted |= {row.file_id: row for row in rows if row.file_id is not None}
        for remote in self.server.batches():
            row = wanted.get(remote.tag or "") or wanted.get(remote.input_file or "")
            if row is None:
                continue
            if row.id in found:
                # The call was repeated after a first that seemed to have gone astray.
                if remote.id != found[row.id].id and not remote.ended:
                    self.server.cancel(remote.id)
                continue
            found[row.id] = remote
            self.adopt(row, remote)

    def adopt(self, row: BatchRow, remote: RemoteBatch) -> None:
        """The server has this batch: write down under which id."""
        self.transact(lambda c: table.note_open(c, row.id, remote.id, remote.status))

    # Sending.

    def submit(self, questions: Iterable[Question]) -> Submitted:
        """Put questions into as many batches as the limits ask for, as far as the budget reaches.

        No more of them than one batch holds are in memory at a time.
        """
        total = Submitted(0, 0, 0, 0, None)
        part: list[Question] = []
        size = 0
        for key, request in questions:
            length = len(request_line(key, request, renamed=self.renamed))
            if part and (len(part) >= self.most or size + length > self.limits.max_bytes):
                total = _sum(total, self._send(part))
                part, size = [], 0
                if total.unfit is not None:
                    return total
            part.append((key, request))
            size += length
        return _sum(total, self._send(part)) if part else total

    def _send(self, part: list[Question]) -> Submitted:
        """One batch, from its row in the ledger to its id on the server."""
        now = time.time()
        row = BatchRow(
            id=0,
            tag=uuid.uuid4().hex,
            scope=self._scope,
            identity=self._identity,
            model=self._model,
            base_url=self.server.shown,
            key_env=self._settings.api_key_env,
            session=self.session.id,
            remote_id=None,
            file_id=None,
            state="building",
            detail="",
            requests=0,
            changed=now,
            created=now,
        )
        packed = pack_questions(part)
        claims = [Claim(key, worst_case(request, self._price)) for key, request in part]

        def begin(connection: sqlite3.Connection) -> tuple[int, list[Grant], list[int]]:
            number = table.begin(connection, row, price_as_text(self._price), packed)
            outcome = self.session.reserve(
                connection, claims, scope=self._scope, cap=self._cap, batch=number
            )
            charges = [one.charge for one in outcome if one.grant is Grant.RESERVED]
            table.count_in(connection, number, len(charges))
            return number, [one.grant for one in outcome], charges

        number, grants, charges = self.transact(begin)
        granted = [q for q, grant in zip(part, grants, strict=True) if grant is Grant.RESERVED]
        if granted:
            self._deliver(number, row.tag, granted, charges)
        counts = Counter(grants)
        unfit = next((c for c, g in zip(claims, grants, strict=True) if g is Grant.TOO_DEAR), None)
        return Submitted(
            len(granted),
            bool(granted),
            counts[Grant.ANSWERED],
            counts[Grant.HELD] + counts[Grant.BATCHED],
            unfit,
        )

    def _deliver(self, number: int, tag: str, granted: list[Question], charges: list[int]) -> None:
        if self.renamed:
            self.sent_renamed.add(number)
        try:
            with tempfile.TemporaryFile() as file:
                for key, request in granted:
                    file.write(request_line(key, request, renamed=self.renamed))
                file_id = self.server.upload(file, f"tutelage-{tag}.jsonl")
        except (CallFault, TeacherError) as error:
            self.transact(lambda c: table.end(c, number, "its file was not taken"))
            if isinstance(error, CallFault):
                raise self.server.explain(SENDING, error) from error
            raise
        self.transact(lambda c: table.note_creating(c, number, file_id, charges))
        row = table.row_of(self.ledger, number)
        assert row is not None
        self._create(row)

    def _create(self, row: BatchRow) -> None:
        """Have the server accept it: once, whatever is heard of it."""
        assert row.file_id is not None
        attempt = 0
        while True:
            attempt += 1
            try:
                self.adopt(row, self.server.create(row.file_id, row.tag))
                return
            except CallFault as fault:
                certain = fault.unpaid and fault.status not in (408, 409)
                if not certain and self._look_for([row]):
                    return
                if (
                    fault.verdict is not Verdict.RETRY
                    or attempt >= self.policy.attempts[fault.kind]
                ):
                    self.end(row, f"not accepted: {fault}")
                    raise self.server.explain(SENDING, fault) from fault
                time.sleep(self.policy.delay(attempt, fault.retry_after_s))
            except TeacherError as error:  # the key, or the account: nothing was accepted
                self.end(row, f"not accepted: {error}")
                raise


def _way_out(row: BatchRow) -> str:
    return (
        f"look there for a batch whose metadata hold the tag {row.tag}; if there is one, "
        f"`tutelage ledger batches --adopt {row.id}=ITS-ID` takes it up; else {giving_up(row)}"
    )


def giving_up(row: BatchRow) -> str:
    """How a person gives a batch up, and what that means."""
    return (
        f"`tutelage ledger batches --forget {row.id}` gives it up ({row.requests} questions, "
        "which stay charged at their worst case and can be asked again)"
    )


def _sum(one: Submitted, other: Submitted) -> Submitted:
    return Submitted(
        one.questions + other.questions,
        one.batches + other.batches,
        one.known + other.known,
        one.held + other.held,
        other.unfit,
    )
