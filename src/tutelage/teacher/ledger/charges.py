"""Who owes what: reservations, charges and budgets, kept in the ledger beside the answers.

A sending is a *charge*: `reserved` while its worst case is held for it, `sent` from the moment
before it leaves, gone once its answer is kept (which then carries the real cost) or the server
has refused it, and `lost` where it left and nobody will ever know: a lost charge stays at its worst
case for ever. The sum of a budget changes in the same transaction as the charges that make it up.

All money is in whole pico-dollars (10^-12 US dollars).
"""

from __future__ import annotations

import enum
import functools
import itertools
import math
import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from tutelage.core.types import Completion, Request
from tutelage.teacher.ledger.store import INSERT_ANSWER, Ledger, answer_row, select_many

_ANSWERED = "SELECT key FROM answers WHERE key"
_HOLDERS = "SELECT key, batch FROM charges WHERE state != 'lost' AND key"
_HOPELESS = "SELECT key, reason, detail FROM failures WHERE NOT transient AND key"

_SWEEP_S = 3600.0
"""Age of a lock from which on it may be swept away."""


class Grant(enum.Enum):
    """What became of a reservation."""

    RESERVED = "its worst case is held: it may be sent"
    ANSWERED = "its answer is in the ledger by now"
    HELD = "another session is asking it"
    BATCHED = "an open batch holds it"
    TOO_DEAR = "its worst case does not fit into the budget"


@dataclass(frozen=True, slots=True)
class Claim:
    """A question to be sent. worst: pico-dollars that it costs at most."""

    key: str
    worst: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """The outcome of a claim; `charge` numbers the charge where it was granted."""

    grant: Grant
    charge: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A question that got no answer. transient: asking again may help."""

    reason: str
    detail: str
    transient: bool


class Session:
    """One process at work on a ledger, alive for as long as it holds the lock on its own file.

    Opening one takes care of the charges of sessions that died: what they had only reserved is
    free again, what they had sent is lost, unless a batch still holds it. A context manager; every
    method that takes a connection runs inside `Ledger.transact`.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.id = 0
        self._name = uuid.uuid4().hex
        self._lock: FileLock | None = None
        self._numbers = itertools.count(1)
        self._folder = ledger.path.with_name(ledger.path.name + ".sessions")
        self._shared = str(ledger.path) != ":memory:"

    def __enter__(self) -> Self:
        if self._shared:
            # The lock first: a session that anybody can see is alive already.
            self._folder.mkdir(exist_ok=True)
            self._lock = self._lock_of(self._name)
            self._lock.acquire(timeout=10)
        self.id = self.ledger.transact(self._begin)
        self.bury_the_dead()
        self._sweep()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ledger.transact(lambda connection: _bury(connection, self.id))
        if self._lock is not None:
            self._lock.release()
            self._forget(self._name)

    def _lock_of(self, name: str) -> FileLock:
        return FileLock(self._folder / f"{name}.lock")

    def _forget(self, name: str) -> None:
        (self._folder / f"{name}.lock").unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove old locks that nobody holds: of processes that died before they were sessions."""
        if not self._shared:
            return
        # A file is there for a moment before its lock is taken: none so young is touched.
        before = time.time() - _SWEEP_S
        for file in [file for file in self._folder.glob("*.lock") if _modified(file) < before]:
            try:
                with self._lock_of(file.stem).acquire(timeout=0):
                    self._forget(file.stem)
            except Timeout:
                continue  # alive

    def _begin(self, connection: sqlite3.Connection) -> int:
        cursor = connection.execute(
            "INSERT INTO sessions (lock, started) VALUES (?, ?)", (self._name, time.time())
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def bury_the_dead(self) -> int:
        """Settle the charges of sessions that ended without doing so; how many there were."""
        with self.ledger.reading() as connection:
            others = connection.execute(
                "SELECT id, lock FROM sessions WHERE id != ?", (self.id,)
            ).fetchall()
        buried = 0
        for other, name in others:
            lock = self._lock_of(name)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue  # alive
            try:
                self.ledger.transact(functools.partial(_bury, session=other))
                self._forget(name)
                buried += 1
            finally:
                lock.release()
        return buried

    def reserve(
        self,
        connection: sqlite3.Connection,
        claims: Iterable[Claim],
        *,
        scope: str,
        cap: int | None,
        batch: int | None = None,
    ) -> list[Reservation]:
        """Hold the worst case of each claim, in order, as far as the budget reaches.

        scope: whose budget is charged; cap: pico-dollars, None for no limit
        batch: number of the batch that the claims go into

        After the first claim that does not fit none is granted: questions keep their order.
        """
        charged = _charged(connection, scope)
        before = charged
        outcome, rows = [], []
        full = False
        now = time.time()
        wanted = [(bytes.fromhex(claim.key), claim.worst) for claim in claims]
        keys = [key for key, _ in wanted]
        answered = {row[0] for row in select_many(connection, _ANSWERED, keys)}
        holders = dict(select_many(connection, _HOLDERS, keys))
        for key, worst in wanted:
            if key in answered:
                outcome.append(Reservation(Grant.ANSWERED))
                continue
            if key in holders:
                outcome.append(Reservation(Grant.HELD if holders[key] is None else Grant.BATCHED))
                continue
            full = full or (cap is not None and charged + worst > cap)
            if full:
                outcome.append(Reservation(Grant.TOO_DEAR))
                continue
            charge = (self.id << 36) | next(self._numbers)
            rows.append((charge, key, scope, self.id, batch, worst, now))
            holders[key] = batch
            charged += worst
            outcome.append(Reservation(Grant.RESERVED, charge))
        connection.executemany("INSERT INTO charges VALUES (?, ?, ?, ?, ?, 'reserved', ?, ?)", rows)
        _add(connection, scope, charged - before)
        return outcome


def mark_sent(connection: sqlite3.Connection, charges: Sequence[int]) -> None:
    """The charges leave: from now on they stay unless something is known of them."""
    connection.executemany(
        "UPDATE charges SET state = 'sent' WHERE id = ?", [(charge,) for charge in charges]
    )


def keep_answer(
    connection: sqlite3.Connection,
    charge: int,
    key: str,
    request: Request,
    completion: Completion,
    *,
    identity: str,
    cost: int | None,
) -> None:
    """Keep an answer, and charge what it cost in place of its worst case.

    cost: pico-dollars; None where the server did not count tokens: the worst case stays. Where
          that is nothing either no price is known, and what the answer cost neither: not zero.
    """
    scope, worst = connection.execute(
        "SELECT scope, pico FROM charges WHERE id = ?", (charge,)
    ).fetchone()
    pico = worst if cost is None else cost
    known = cost is not None or worst > 0
    row = answer_row(
        key, request, completion, identity=identity, scope=scope, pico=pico if known else None
    )
    connection.execute(INSERT_ANSWER, row)
    connection.execute("DELETE FROM charges WHERE id = ?", (charge,))
    connection.execute("DELETE FROM failures WHERE key = ?", (bytes.fromhex(key),))
    _add(connection, scope, pico - worst)


def release(connection: sqlite3.Connection, charges: Sequence[int]) -> None:
    """The charges cost nothing: they were not sent, or the server refused to answer them."""
    for charge in charges:
        row = connection.execute(
            "SELECT scope, pico FROM charges WHERE id = ? AND state != 'lost'", (charge,)
        ).fetchone()
        if row is not None:
            _add(connection, row[0], -row[1])
            connection.execute("DELETE FROM charges WHERE id = ?", (charge,))


def lose(connection: sqlite3.Connection, charges: Sequence[int]) -> None:
    """The charges were sent and will not be heard of: they stay at their worst case."""
    connection.executemany(
        "UPDATE charges SET state = 'lost', batch = NULL WHERE id = ?", [(c,) for c in charges]
    )


def note_failure(connection: sqlite3.Connection, key: str, strategy: str, failure: Failure) -> None:
    """Remember why a question has no answer."""
    connection.execute(
        "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?)",
        (
            bytes.fromhex(key),
            strategy,
            failure.reason,
            failure.detail,
            failure.transient,
            time.time(),
        ),
    )


def failures_of(connection: sqlite3.Connection, keys: Iterable[str]) -> dict[str, Failure]:
    """What is known to have failed for good among `keys`."""
    rows = select_many(connection, _HOPELESS, [bytes.fromhex(key) for key in keys])
    return {key.hex(): Failure(reason, detail, False) for key, reason, detail in rows}


def charged(ledger: Ledger, scope: str) -> int:
    """Pico-dollars charged to a budget: paid, lost, and held for what is under way."""
    with ledger.reading() as connection:
        return _charged(connection, scope)


def lost(ledger: Ledger, scope: str) -> tuple[int, int]:
    """How many charges of a budget are lost, and their pico-dollars."""
    with ledger.reading() as connection:
        count, pico = connection.execute(
            "SELECT count(*), coalesce(sum(pico), 0) FROM charges "
            "WHERE scope = ? AND state = 'lost'",
            (scope,),
        ).fetchone()
    return count, pico


def _charged(connection: sqlite3.Connection, scope: str) -> int:
    row = connection.execute("SELECT charged FROM budgets WHERE scope = ?", (scope,)).fetchone()
    return 0 if row is None else int(row[0])


def _add(connection: sqlite3.Connection, scope: str, pico: int) -> None:
    if pico:
        connection.execute(
            "INSERT INTO budgets VALUES (?, ?) "
            "ON CONFLICT (scope) DO UPDATE SET charged = charged + excluded.charged",
            (scope, pico),
        )


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:  # another session was faster
        return math.inf


def _bury(connection: sqlite3.Connection, session: int) -> None:
    """Settle what a session leaves behind. Charges of open batches are the batch's business."""
    reserved = connection.execute(
        "SELECT id FROM charges WHERE session = ? AND state = 'reserved' AND batch IS NULL",
        (session,),
    ).fetchall()
    release(connection, [row[0] for row in reserved])
    connection.execute(
        "UPDATE charges SET state = 'lost' WHERE session = ? AND state = 'sent' AND batch IS NULL",
        (session,),
    )
    connection.execute("DELETE FROM sessions WHERE id = ?", (session,))
