"""Batches in the ledger: one row each, from before it is sent until its answers are in.

    building   its questions are kept and charged; nothing was sent that could cost anything
    creating   its file is there; the call that makes a batch of it may have been made
    open       the server has accepted it, under `remote_id`
    ended      nothing hangs on it any more

A row belongs to a session, so that two processes do not take in the same answers; a dead session's
rows are anybody's.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.teacher.batch.jsonl import Questions, price_from_text
from tutelage.teacher.cost.prices import Price
from tutelage.teacher.ledger.charges import lose, mark_sent, release
from tutelage.teacher.ledger.store import Ledger

State = Literal["building", "creating", "open", "ended"]

_COLUMNS = (
    "id, tag, scope, identity, model, base_url, key_env, session, remote_id, file_id, state, "
    "detail, requests, changed, created"
)


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch as the ledger has it.

    tag:      what its metadata carry on the server; file_id: its input file there
    base_url: where it was sent, without user, password and query
    key_env:  the variable that held the key
    detail:   how it is doing, or how it ended, in words
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
    """What is held for one question of a batch: the charge's number, its pico-dollars."""

    id: int
    pico: int


def rows_of(
    ledger: Ledger,
    *,
    states: Sequence[State],
    identity: str | None = None,
    scope: str | None = None,
) -> list[BatchRow]:
    """The batches in these states, the oldest first; None: of any identity, any budget."""
    with ledger.reading() as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE state IN ({','.join('?' * len(states))}) "
            "AND (? IS NULL OR identity = ?) AND (? IS NULL OR scope = ?) ORDER BY id",
            (*states, identity, identity, scope, scope),
        ).fetchall()
    return [BatchRow(*row) for row in rows]


def row_of(ledger: Ledger, number: int) -> BatchRow | None:
    """The batch of that number."""
    with ledger.reading() as connection:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE id = ?", (number,)
        ).fetchone()
    return None if row is None else BatchRow(*row)


def open_keys(ledger: Ledger) -> Iterator[str]:
    """The questions that batches hold: not to be asked live until their batch has ended."""
    with ledger.reading() as connection:
        rows = connection.execute("SELECT key FROM charges WHERE batch IS NOT NULL").fetchall()
    return (row[0].hex() for row in rows)


def held_among(ledger: Ledger, keys: Iterable[str]) -> set[str]:
    """Those of `keys` (at most 500) that a batch holds."""
    wanted = [bytes.fromhex(key) for key in keys]
    with ledger.reading() as connection:
        rows = connection.execute(
            "SELECT key FROM charges WHERE state != 'lost' AND batch IS NOT NULL "
            f"AND key IN ({','.join('?' * len(wanted))})",
            wanted,
        ).fetchall()
    return {row[0].hex() for row in rows}


def begin(connection: sqlite3.Connection, row: BatchRow, price: str | None, packed: bytes) -> int:
    """A new batch in the state `building`; its number. `row.id` does not count."""
    cursor = connection.execute(
        f"INSERT INTO batches ({_COLUMNS.removeprefix('id, ')}, price, questions) "
        f"VALUES ({','.join('?' * 16)})",
        (row.tag, row.scope, row.identity, row.model, row.base_url, row.key_env, row.session,
         row.remote_id, row.file_id, row.state, row.detail, row.requests, row.changed,
         row.created, price, packed),
    )  # fmt: skip
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def count_in(connection: sqlite3.Connection, number: int, requests: int) -> None:
    """How many questions were granted; a batch without any goes."""
    if requests:
        connection.execute("UPDATE batches SET requests = ? WHERE id = ?", (requests, number))
    else:
        connection.execute("DELETE FROM batches WHERE id = ?", (number,))


def note_creating(
    connection: sqlite3.Connection, number: int, file_id: str, charges: Sequence[int]
) -> None:
    """From now on the server may accept it."""
    mark_sent(connection, charges)
    connection.execute(
        "UPDATE batches SET state = 'creating', file_id = ?, changed = ? WHERE id = ?",
        (file_id, time.time(), number),
    )


def note_open(connection: sqlite3.Connection, number: int, remote_id: str, detail: str) -> None:
    """The server has it, under that id."""
    connection.execute(
        "UPDATE batches SET state = 'open', remote_id = ?, detail = ?, changed = ? "
        "WHERE id = ? AND state != 'ended'",
        (remote_id, detail, time.time(), number),
    )


def note_detail(connection: sqlite3.Connection, number: int, detail: str) -> None:
    """How it is doing."""
    connection.execute("UPDATE batches SET detail = ? WHERE id = ?", (detail, number))


def take(connection: sqlite3.Connection, number: int, session: int) -> bool:
    """Make a batch this session's, if it is nobody's who is alive; whether it is."""
    cursor = connection.execute(
        "UPDATE batches SET session = ?1 WHERE id = ?2 AND state != 'ended' "
        "AND (session = ?1 OR session NOT IN (SELECT id FROM sessions))",
        (session, number),
    )
    return cursor.rowcount == 1


def charges_of(ledger: Ledger, number: int) -> dict[str, Charge]:
    """What is still held for a batch's questions, by key."""
    with ledger.reading() as connection:
        rows = connection.execute(
            "SELECT key, id, pico FROM charges WHERE batch = ? AND state != 'lost'", (number,)
        ).fetchall()
    return {key.hex(): Charge(charge, pico) for key, charge, pico in rows}


def contents_of(ledger: Ledger, number: int) -> tuple[Questions, Price | None]:
    """A batch's questions, and the price that they were sent at."""
    with ledger.reading() as connection:
        packed, price = connection.execute(
            "SELECT questions, price FROM batches WHERE id = ?", (number,)
        ).fetchone()
    return Questions(packed or b""), price_from_text(price)


def end(connection: sqlite3.Connection, number: int, detail: str, lost: Sequence[int] = ()) -> int:
    """End a batch: charges in `lost` stay for ever, what else it holds costs nothing.

    Returns how many charges were released.
    """
    lose(connection, lost)
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
