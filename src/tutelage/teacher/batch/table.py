"""The ledger's table of batches: one row each, from before a batch is sent until it has ended.

    building   its requests are stored and reserved; nothing was sent that could cost anything
    creating   its file is on the server; the call that creates the batch may have been made
    open       the server has accepted it, under `remote_id`
    ended      its answers are stored and its charges are settled

Each row belongs to a session, so that no two processes collect the same answers. Any session may
take over the rows of a dead one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.teacher.batch.jsonl import PackedRequests, price_from_text
from tutelage.teacher.cost.prices import Price
from tutelage.teacher.ledger.charges import mark_lost, mark_sent, release
from tutelage.teacher.ledger.store import Ledger

State = Literal["building", "creating", "open", "ended"]

_COLUMNS = (
    "id, tag, scope, identity, model, base_url, key_env, session, remote_id, file_id, state, "
    "detail, requests, changed, created"
)


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch in the ledger.

    tag:       in its metadata on the server
    file_id:   of its input file on the server
    remote_id: of the batch on the server
    base_url:  the server's address, without user, password and query
    key_env:   the environment variable that held the API key
    detail:    its progress, or how it ended, in words
    changed, created: seconds since 1970
    """

    id: int
    tag: str
    scope: str
    identity: str
    model: str
    base_url: str
    key_env: str
    session: int
    remote_id: str | None
    file_id: str | None
    state: State
    detail: str
    requests: int
    changed: float
    created: float


@dataclass(frozen=True, slots=True)
class Charge:
    """The charge of one request in a batch: its number, and its pico-dollars."""

    id: int
    pico: int


def rows_of(
    ledger: Ledger,
    *,
    states: Sequence[State],
    identity: str | None = None,
    scope: str | None = None,
) -> list[BatchRow]:
    """The batches in these states, the oldest first; None: of any teacher, of any budget."""
    with ledger.reader() as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE state IN ({','.join('?' * len(states))}) "
            "AND (? IS NULL OR identity = ?) AND (? IS NULL OR scope = ?) ORDER BY id",
            (*states, identity, identity, scope, scope),
        ).fetchall()
    return [BatchRow(*row) for row in rows]


def row_of(ledger: Ledger, number: int) -> BatchRow | None:
    """The batch with this number."""
    with ledger.reader() as connection:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE id = ?", (number,)
        ).fetchone()
    return None if row is None else BatchRow(*row)


def remote_ids(ledger: Ledger) -> set[str]:
    """The servers' ids of all batches that are known."""
    with ledger.reader() as connection:
        rows = connection.execute("SELECT remote_id FROM batches WHERE remote_id IS NOT NULL")
        return {row[0] for row in rows.fetchall()}


def open_keys(ledger: Ledger) -> Iterator[str]:
    """The keys of requests in open batches: they are not made live until their batch has ended."""
    with ledger.reader() as connection:
        rows = connection.execute("SELECT key FROM charges WHERE batch IS NOT NULL").fetchall()
    return (row[0].hex() for row in rows)


def held_among(ledger: Ledger, keys: Iterable[str]) -> set[str]:
    """Those of `keys` (at most 500) that an open batch holds."""
    wanted = [bytes.fromhex(key) for key in keys]
    with ledger.reader() as connection:
        rows = connection.execute(
            "SELECT key FROM charges WHERE state != 'lost' AND batch IS NOT NULL "
            f"AND key IN ({','.join('?' * len(wanted))})",
            wanted,
        ).fetchall()
    return {row[0].hex() for row in rows}


def begin(connection: sqlite3.Connection, row: BatchRow, price: str | None, packed: bytes) -> int:
    """Insert a batch in the state `building`; returns its number. `row.id` is ignored."""
    cursor = connection.execute(
        f"INSERT INTO batches ({_COLUMNS.removeprefix('id, ')}, price, questions) "
        f"VALUES ({','.join('?' * 16)})",
        (row.tag, row.scope, row.identity, row.model, row.base_url, row.key_env, row.session,
         row.remote_id, row.file_id, row.state, row.detail, row.requests, row.changed,
         row.created, price, packed),
    )  # fmt: skip
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def set_requests(connection: sqlite3.Connection, number: int, requests: int) -> None:
    """Store how many requests were reserved for a batch; a batch without any is deleted."""
    if requests:
        connection.execute("UPDATE batches SET requests = ? WHERE id = ?", (requests, number))
    else:
        connection.execute("DELETE FROM batches WHERE id = ?", (number,))


def note_creating(
    connection: sqlite3.Connection, number: int, file_id: str, charges: Sequence[int]
) -> None:
    """Record that the batch is about to be created: from now on the server may accept it."""
    mark_sent(connection, charges)
    connection.execute(
        "UPDATE batches SET state = 'creating', file_id = ?, changed = ? WHERE id = ?",
        (file_id, time.time(), number),
    )


def note_open(connection: sqlite3.Connection, number: int, remote_id: str, detail: str) -> None:
    """Record that the server has accepted the batch, under this id."""
    connection.execute(
        "UPDATE batches SET state = 'open', remote_id = ?, detail = ?, changed = ? "
        "WHERE id = ? AND state != 'ended'",
        (remote_id, detail, time.time(), number),
    )


def note_detail(connection: sqlite3.Connection, number: int, detail: str) -> None:
    """Record a batch's progress, in words."""
    connection.execute("UPDATE batches SET detail = ? WHERE id = ?", (detail, number))


def take_over(connection: sqlite3.Connection, number: int, session: int) -> bool:
    """Make a batch this session's, unless it belongs to another live one; returns whether it is."""
    cursor = connection.execute(
        "UPDATE batches SET session = ?1 WHERE id = ?2 AND state != 'ended' "
        "AND (session = ?1 OR session NOT IN (SELECT id FROM sessions))",
        (session, number),
    )
    return cursor.rowcount == 1


def charges_of(ledger: Ledger, number: int) -> dict[str, Charge]:
    """The open charges of a batch's requests, by key."""
    with ledger.reader() as connection:
        rows = connection.execute(
            "SELECT key, id, pico FROM charges WHERE batch = ? AND state != 'lost'", (number,)
        ).fetchall()
    return {key.hex(): Charge(charge, pico) for key, charge, pico in rows}


def contents_of(ledger: Ledger, number: int) -> tuple[PackedRequests, Price | None]:
    """A batch's requests, and the price at which they were sent."""
    with ledger.reader() as connection:
        packed, price = connection.execute(
            "SELECT questions, price FROM batches WHERE id = ?", (number,)
        ).fetchone()
    return PackedRequests(packed or b""), price_from_text(price)


def end(connection: sqlite3.Connection, number: int, detail: str, lost: Sequence[int] = ()) -> int:
    """End a batch: the charges in `lost` stay for ever, its other charges are released.

    Returns how many were released.
    """
    mark_lost(connection, lost)
    rows = connection.execute(
        "SELECT id FROM charges WHERE batch = ? AND state != 'lost'", (number,)
    ).fetchall()
    release(connection, [row[0] for row in rows])
    connection.execute(
        "UPDATE batches SET state = 'ended', detail = ?, questions = NULL, changed = ? "
        "WHERE id = ?",
        (detail, time.time(), number),
    )
    return len(rows)
