"""A worker's session: its answers are in a ledger of its own, its charges are leases of another.

The engine uses it as it uses `Session`. What is known of a request is looked up at the lessor,
which has the main ledger; what may be sent is leased there, many requests at once.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
import time
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, Self

from tutelage.core.types import Completion
from tutelage.teacher.ledger.charges import (
    Claim,
    Failure,
    Known,
    Reservation,
    ReservationStatus,
    Session,
    final_failures,
    settle_session,
)
from tutelage.teacher.ledger.shards import WorkerLedger
from tutelage.teacher.ledger.store import select_many
from tutelage.teacher.ledger.writer import Writer

_SETTLED = "SELECT key, charge, pico, result FROM settled WHERE result != 'answered' AND key"


class Lessor(Protocol):
    """Who has the main ledger. Every call may be repeated without harm."""

    def look_up(self, keys: Sequence[str]) -> tuple[list[str], dict[str, Failure]]:
        """The keys that are answered, and the permanent failures of others."""

    def lease(
        self,
        session: int,
        claims: Sequence[tuple[int, Claim]],
        scope: str,
        cap: int | None,
        lost: Sequence[int],
    ) -> list[Reservation]:
        """See `leases.lease`. Raises TutelageError where nothing more is to be sent."""

    def charged(self, scope: str) -> tuple[int, int, int]:
        """See `Session.charged`."""

    def report(self, session: int, shard: str) -> None:
        """Merge a shard: from here on, what it holds is recorded."""


class LeasedSession(Session):
    """The session of one worker.

    ledger: of the worker; its shards are closed here
    number: of the session in the main ledger
    folder: where closed shards are copied
    """

    def __init__(self, ledger: WorkerLedger, number: int, lessor: Lessor, folder: Path) -> None:
        super().__init__(ledger)
        self.id = number
        self._own = ledger
        self._lessor = lessor
        self._shards = folder
        self._claims = itertools.count(1)
        self._recording = threading.Lock()
        self._reports = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Give back what is leased and was not sent, and record everything."""
        self.ledger.transact(lambda connection: settle_session(connection, self.id))
        self.record()

    def settle_dead_sessions(self) -> int:
        """Nothing: whoever has the main ledger settles them."""
        return 0

    def record(self) -> None:
        """Close a shard of all results since the last one, and have it merged. From any thread."""
        with self._recording:
            name = self._own.close_shard(self._shards)
            if name is not None:
                self._lessor.report(self.id, name)
                self._reports += 1

    async def look_up(self, keys: Collection[str]) -> Known:
        """As for Session. Answers that are in the main ledger are named, but their text stays
        there: no request is sent for them, and nobody reads them here."""
        answers = dict(self.ledger.get_many(keys))
        rest = [key for key in keys if key not in answers]
        with self.ledger.reader() as connection:
            failures = final_failures(connection, rest)
        rest = [key for key in rest if key not in failures]
        if rest:
            answered, failed = await asyncio.to_thread(self._lessor.look_up, rest)
            answers |= dict.fromkeys(answered, Completion(""))
            failures |= failed
        return answers, failures

    def get(self, key: str) -> Completion:
        """As for Session, and as for `look_up`."""
        return self.ledger.get_many([key]).get(key, Completion(""))

    def charged(self, scope: str) -> tuple[int, int, int]:
        """As for Session, of the main ledger."""
        return self._lessor.charged(scope)

    async def claim(
        self, writer: Writer, claims: Sequence[Claim], *, scope: str, cap: int | None
    ) -> list[Reservation]:
        """As for Session. A lease whose request cost nothing is used for its next attempt."""
        found, lost = await writer.submit(lambda connection: _take_back(connection, claims, scope))
        while wanted := [(next(self._claims), c) for c in claims if c.key not in found]:
            reports = self._reports
            leased = await asyncio.to_thread(self._lessor.lease, self.id, wanted, scope, cap, lost)
            over = ReservationStatus.OVER_BUDGET
            fit = {
                claim.key: (one, claim.worst_pico)
                for (_, claim), one in zip(wanted, leased, strict=True)
                if one.status is not over
            }
            found |= {key: one for key, (one, _) in fit.items()}
            new = [(one.charge, key, pico) for key, (one, pico) in fit.items() if one.charge]
            if new:
                await writer.submit(partial(self._own.adopt, leases=new, scope=scope))
            # What is answered and not recorded yet is charged at its worst case. The engine takes
            # what is over budget now as the end where nothing is under way: so this is looked at
            # last, with nothing to wait for between here and there.
            idle = reports == self._reports and not self._recording.locked()
            if len(found) < len(claims) and idle and not self._own.unrecorded:
                return [found.get(claim.key, Reservation(over)) for claim in claims]
            if len(found) < len(claims):
                await asyncio.to_thread(self.record)
        return [found[claim.key] for claim in claims]


def _take_back(
    connection: sqlite3.Connection, claims: Sequence[Claim], scope: str
) -> tuple[dict[str, Reservation], list[int]]:
    """The leases that can be used again, by key, and the charges that were lost."""
    worst = {bytes.fromhex(claim.key): claim.worst_pico for claim in claims}
    found: dict[str, Reservation] = {}
    lost = []
    for key, charge, pico, result in list(select_many(connection, _SETTLED, list(worst))):
        if result == "lost":
            lost.append(charge)
        elif pico == worst[key] and key.hex() not in found:
            connection.execute("DELETE FROM settled WHERE charge = ?", (charge,))
            connection.execute(
                "INSERT INTO charges VALUES (?, ?, ?, ?, NULL, 'reserved', ?, ?)",
                (charge, key, scope, charge >> 36, pico, time.time()),
            )
            found[key.hex()] = Reservation(ReservationStatus.RESERVED, charge)
    return found, lost
