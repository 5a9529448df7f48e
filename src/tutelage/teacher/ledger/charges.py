"""Reservations, charges and budgets, stored in the ledger together with the answers.

Each attempt has a *charge*. It is `reserved` while its worst case counts against the budget and the
request is not yet sent, and `sent` from just before that. It is deleted once the answer is stored
(with its real cost) or the server has refused the request. It is `lost` where the request was sent
and its result will never be known: a lost charge stays at its worst case for ever. The sum of a
budget changes in the same transaction as its charges.

All amounts are whole pico-dollars (10^-12 US dollars).
"""

from __future__ import annotations

import enum
import functools
import itertools
import math
import sqlite3
import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from tutelage.core.types import Completion, Request
from tutelage.teacher.ledger.store import INSERT_ANSWER, Ledger, answer_row, select_many
from tutelage.teacher.ledger.writer import Writer

_ANSWERED = "SELECT key FROM answers WHERE key"
_HOLDERS = "SELECT key, batch FROM charges WHERE state != 'lost' AND key"
_FINAL_FAILURES = "SELECT key, reason, detail FROM failures WHERE NOT transient AND key"

_SWEEP_S = 3600.0
"""Age from which on an unused lock file is removed."""


class ReservationStatus(enum.Enum):
    """The result of a claim."""

    RESERVED = "its worst case is reserved: the request may be sent"
    ANSWERED = "its answer is in the ledger by now"
    HELD = "another session is making the request"
    BATCHED = "an open batch holds the request"
    OVER_BUDGET = "its worst case does not fit into the budget"


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that is to be sent. worst_pico: pico-dollars that it costs at most."""

    key: str
    worst_pico: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """The reply to a claim. charge: number of its charge, where it was reserved."""

    status: ReservationStatus
    charge: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without an answer. transient: a retry may help."""

    reason: str
    detail: str
    transient: bool


Known = tuple[Mapping[str, Completion], Mapping[str, Failure]]
"""What is known of requests, by key: answers, and permanent failures."""


class Session:
    """One process that uses a ledger. It is alive for as long as it holds the lock on its own file.

    Opening a session settles the charges of sessions that died: what they had only reserved is
    released, what they had sent is lost, unless a batch still holds it. A context manager. Methods
    that take a connection run inside `Ledger.transact`.

    The engine makes its requests through `look_up` and `claim` alone, so that a worker elsewhere
    can hold leases of this ledger in place of a session of its own (`leased_session`).
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.id = 0
        self.name = uuid.uuid4().hex
        self._lock: FileLock | None = None
        self._numbers = itertools.count(1)
        self._folder = ledger.path.with_name(ledger.path.name + ".sessions")
        self._shared = str(ledger.path) != ":memory:"

    def __enter__(self) -> Self:
        if self._shared:
            # The lock comes first: a session that others can see is alive already.
            self._folder.mkdir(exist_ok=True)
            self._lock = self._lock_of(self.name)
            self._lock.acquire(timeout=10)
        self.id = self.ledger.transact(self._begin)
        self.settle_dead_sessions()
        self._sweep()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ledger.transact(self._settle_own)
        if self._lock is not None:
            self._lock.release()
            self._forget(self.name)

    def _settle_own(self, connection: sqlite3.Connection) -> None:
        """Settle this session's charges, and those of the leases under its lock (`leases`)."""
        own = connection.execute("SELECT id FROM sessions WHERE lock = ?", (self.name,)).fetchall()
        for (session,) in own:
            settle_session(connection, session)

    def _lock_of(self, name: str) -> FileLock:
        return FileLock(self._folder / f"{name}.lock")

    def _forget(self, name: str) -> None:
        (self._folder / f"{name}.lock").unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove old locks that no process holds: those of processes that died while starting."""
        if not self._shared:
            return
        # A file exists for a moment before its lock is taken: young ones are not touched.
        before = time.time() - _SWEEP_S
        for file in [file for file in self._folder.glob("*.lock") if _modified(file) < before]:
            try:
                with self._lock_of(file.stem).acquire(timeout=0):
                    self._forget(file.stem)
            except Timeout:
                continue  # alive

    def _begin(self, connection: sqlite3.Connection) -> int:
        cursor = connection.execute(
            "INSERT INTO sessions (lock, started) VALUES (?, ?)", (self.name, time.time())
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def settle_dead_sessions(self) -> int:
        """Settle the charges of sessions that died; returns how many sessions there were."""
        with self.ledger.reader() as connection:
            others = connection.execute(
                "SELECT id, lock FROM sessions WHERE lock != ?", (self.name,)
            ).fetchall()
        settled = 0
        for other, name in others:
            lock = self._lock_of(name)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue  # alive
            try:
                self.ledger.transact(functools.partial(settle_session, session=other))
                self._forget(name)
                settled += 1
            finally:
                lock.release()
        return settled

    async def look_up(self, keys: Collection[str]) -> Known:
        """The answers and the permanent failures that are known of `keys`, by key."""
        answers = self.ledger.get_many(keys)
        with self.ledger.reader() as connection:
            return answers, final_failures(connection, [key for key in keys if key not in answers])

    async def claim(
        self, writer: Writer, claims: Sequence[Claim], *, scope: str, cap: int | None
    ) -> list[Reservation]:
        """`reserve`, in the next transaction of a writer to this session's ledger."""
        return await writer.submit(
            lambda connection: self.reserve(connection, claims, scope=scope, cap=cap)
        )

    def get(self, key: str) -> Completion:
        """The answer to a claim that was found to be answered."""
        return self.ledger.get_many([key])[key]

    def charged(self, scope: str) -> tuple[int, int, int]:
        """Pico-dollars charged to a budget, number of lost charges, and their pico-dollars."""
        return charged(self.ledger, scope), *lost(self.ledger, scope)

    def reserve(
        self,
        connection: sqlite3.Connection,
        claims: Iterable[Claim],
        *,
        scope: str,
        cap: int | None,
        batch: int | None = None,
    ) -> list[Reservation]:
        """Reserve the worst case of each claim, in order, as far as the budget reaches.

        scope: the budget's name; cap: pico-dollars, None for no limit
        batch: number of the batch that the claims belong to

        After the first claim that does not fit, no claim is reserved: requests keep their order.
        """
        numbered = ((next(self._numbers), claim) for claim in claims)
        return reserve(connection, self.id, numbered, scope, cap, batch)


def reserve(
    connection: sqlite3.Connection,
    session: int,
    claims: Iterable[tuple[int, Claim]],
    scope: str,
    cap: int | None,
    batch: int | None = None,
) -> list[Reservation]:
    """What `Session.reserve` does for the session of this number.

    claims: each with a number that no other claim of the session has
    """
    charged = _charged(connection, scope)
    before = charged
    reservations, rows = [], []
    full = False
    now = time.time()
    wanted = [(number, bytes.fromhex(claim.key), claim.worst_pico) for number, claim in claims]
    keys = [key for _, key, _ in wanted]
    answered = {row[0] for row in select_many(connection, _ANSWERED, keys)}
    holders = dict(select_many(connection, _HOLDERS, keys))
    for number, key, worst in wanted:
        if key in answered:
            reservations.append(Reservation(ReservationStatus.ANSWERED))
            continue
        if key in holders:
            reservations.append(
                Reservation(
                    ReservationStatus.HELD if holders[key] is None else ReservationStatus.BATCHED
                )
            )
            continue
        full = full or (cap is not None and charged + worst > cap)
        if full:
            reservations.append(Reservation(ReservationStatus.OVER_BUDGET))
            continue
        charge = charge_number(session, number)
        rows.append((charge, key, scope, session, batch, worst, now))
        holders[key] = batch
        charged += worst
        reservations.append(Reservation(ReservationStatus.RESERVED, charge))
    connection.executemany("INSERT INTO charges VALUES (?, ?, ?, ?, ?, 'reserved', ?, ?)", rows)
    add_to_budget(connection, scope, charged - before)
    return reservations


def charge_number(session: int, number: int) -> int:
    """The number of a charge in the ledger: of the session's claim with this number."""
    return (session << 36) | number


def mark_sent(connection: sqlite3.Connection, charges: Sequence[int]) -> None:
    """Record that requests are about to be sent: their charges stay until a result is known."""
    connection.executemany(
        "UPDATE charges SET state = 'sent' WHERE id = ?", [(charge,) for charge in charges]
    )


def store_answer(
    connection: sqlite3.Connection,
    charge: int,
    key: str,
    request: Request,
    completion: Completion,
    *,
    identity: str,
    cost: int | None,
) -> None:
    """Store an answer, and charge its cost in place of its worst case.

    cost: pico-dollars; None where the server did not count tokens: the worst case stays charged.
          Where that is 0 no price is known: the answer's cost is then stored as unknown, not as 0.
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
    add_to_budget(connection, scope, pico - worst)


def release(connection: sqlite3.Connection, charges: Sequence[int]) -> None:
    """Delete charges that cost nothing: not sent, or refused by the server."""
    for charge in charges:
        row = connection.execute(
            "SELECT scope, pico FROM charges WHERE id = ? AND state != 'lost'", (charge,)
        ).fetchone()
        if row is not None:
            add_to_budget(connection, row[0], -row[1])
            connection.execute("DELETE FROM charges WHERE id = ?", (charge,))


def mark_lost(connection: sqlite3.Connection, charges: Sequence[int]) -> None:
    """Mark charges of requests whose result will never be known: they stay at their worst case."""
    connection.executemany(
        "UPDATE charges SET state = 'lost', batch = NULL WHERE id = ?", [(c,) for c in charges]
    )


def store_failure(
    connection: sqlite3.Connection, key: str, strategy: str, failure: Failure
) -> None:
    """Store why a request has no answer."""
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


def final_failures(connection: sqlite3.Connection, keys: Iterable[str]) -> dict[str, Failure]:
    """The permanent failures among `keys`, by key."""
    rows = select_many(connection, _FINAL_FAILURES, [bytes.fromhex(key) for key in keys])
    return {key.hex(): Failure(reason, detail, False) for key, reason, detail in rows}


def charged(ledger: Ledger, scope: str) -> int:
    """Pico-dollars charged to a budget: paid, lost, and reserved for open requests."""
    with ledger.reader() as connection:
        return _charged(connection, scope)


def lost(ledger: Ledger, scope: str) -> tuple[int, int]:
    """Number of lost charges of a budget, and their pico-dollars."""
    with ledger.reader() as connection:
        count, pico = connection.execute(
            "SELECT count(*), coalesce(sum(pico), 0) FROM charges "
            "WHERE scope = ? AND state = 'lost'",
            (scope,),
        ).fetchone()
    return count, pico


def _charged(connection: sqlite3.Connection, scope: str) -> int:
    row = connection.execute("SELECT charged FROM budgets WHERE scope = ?", (scope,)).fetchone()
    return 0 if row is None else int(row[0])


def add_to_budget(connection: sqlite3.Connection, scope: str, pico: int) -> None:
    """Charge pico-dollars to a budget; a negative number takes some back."""
    if pico:
        connection.execute(
            "INSERT INTO budgets VALUES (?, ?) "
            "ON CONFLICT (scope) DO UPDATE SET charged = charged + excluded.charged",
            (scope, pico),
        )


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:  # another session has removed it
        return math.inf


def settle_session(connection: sqlite3.Connection, session: int) -> None:
    """Settle the charges that a session leaves behind, except those of open batches."""
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
