"""Leases: what workers elsewhere may send, charged to this ledger before they know of it.

A worker has a session of its own in the ledger, under the lock of the process that began the job.
What it leases is charged as sent at once: nobody here learns when a request leaves the worker. So a
lease outlives whoever granted it. What the worker reports (`shards`) settles its charges; what it
never reports stays charged, when the worker or the whole job has ended.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from tutelage.teacher.ledger.charges import (
    Claim,
    Reservation,
    ReservationStatus,
    charge_number,
    mark_lost,
    mark_sent,
    reserve,
    settle_session,
)
from tutelage.teacher.ledger.store import select_many

_OWN = "SELECT key, id FROM charges WHERE session = {} AND state != 'lost' AND key"
_OTHERS = (
    "SELECT EXISTS (SELECT 1 FROM charges WHERE scope = ? AND state != 'lost' AND session != ?)"
)


def open_lease_session(connection: sqlite3.Connection, lock: str) -> int:
    """The number of a new session for a worker, which lives as long as somebody holds `lock`."""
    cursor = connection.execute(
        "INSERT INTO sessions (lock, started) VALUES (?, ?)", (lock, time.time())
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def lease(
    connection: sqlite3.Connection,
    session: int,
    claims: Sequence[tuple[int, Claim]],
    *,
    scope: str,
    cap: int | None,
    lost: Sequence[int] = (),
) -> list[Reservation]:
    """Charge the worst case of each claim to the budget, as far as it reaches.

    session: of the worker
    claims:  each with a number that no other claim of the worker has
    lost:    charges of the worker that were lost, which its next shard will say as well

    The same call again has the same result: one whose reply was lost is simply repeated. Where the
    rest of the budget is leased to other workers, a claim that does not fit is `HELD`: what they
    have leased may turn out to cost less.
    """
    mark_lost(connection, lost)
    keys = [bytes.fromhex(claim.key) for _, claim in claims]
    own = dict(select_many(connection, _OWN.format(int(session)), keys))
    known = {
        key.hex(): Reservation(ReservationStatus.RESERVED, charge) for key, charge in own.items()
    }
    new = [
        (number, claim)
        for number, claim in claims
        if own.get(bytes.fromhex(claim.key)) != charge_number(session, number)
    ]
    found = iter(reserve(connection, session, new, scope, cap))
    granted = []
    for number, claim in claims:
        before = known.get(claim.key)
        if before is not None and before.charge == charge_number(session, number):
            granted.append(before)
        else:
            granted.append(next(found))
    mark_sent(connection, [one.charge for one in granted if one.charge])
    if any(one.status is ReservationStatus.OVER_BUDGET for one in granted):
        (others,) = connection.execute(_OTHERS, (scope, session)).fetchone()
        if others:
            held = Reservation(ReservationStatus.HELD)
            over = ReservationStatus.OVER_BUDGET
            granted = [held if one.status is over else one for one in granted]
    return granted


def end_lease_session(connection: sqlite3.Connection, session: int) -> list[str]:
    """End the session of a worker that will report nothing more, and settle its charges.

    Returns the keys of the requests that it leased and did not report: each may have been sent, and
    stays charged.
    """
    rows = connection.execute(
        "SELECT key FROM charges WHERE session = ? AND state = 'sent' ORDER BY id", (session,)
    ).fetchall()
    settle_session(connection, session)
    return [key.hex() for (key,) in rows]


def charges_of(connection: sqlite3.Connection, session: int) -> list[int]:
    """The charges of a worker that no shard has settled, and those that were lost."""
    rows = connection.execute("SELECT id FROM charges WHERE session = ?", (session,)).fetchall()
    return [charge for (charge,) in rows]


def lost_keys(connection: sqlite3.Connection, session: int) -> set[str]:
    """The keys of a worker's requests whose charges were lost."""
    select = "SELECT key FROM charges WHERE session = ? AND state = 'lost'"
    return {key.hex() for (key,) in connection.execute(select, (session,))}
