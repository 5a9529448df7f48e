"""The keeper of a job: it alone writes to the ledger, and grants what workers may send.

One keeper serves all workers. It may end at any moment and begin again: what it has granted is in
the ledger and in the job's state before the worker learns of it, and every call may be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from tutelage.core import errors
from tutelage.core.errors import TeacherError, TutelageError
from tutelage.scale.job_state import JobState, now
from tutelage.scale.rate_leases import RateCall, SharedRates
from tutelage.teacher.ledger import charges, leases
from tutelage.teacher.ledger.charges import Claim, Failure, Reservation
from tutelage.teacher.ledger.shards import Merged, is_merged, merge_folder, merge_shard
from tutelage.teacher.ledger.store import Ledger, select_many
from tutelage.teacher.replay import NOT_ASKED

SILENT_S = 60.0
"""Seconds after which a worker that does not call counts as ended."""
MOST_ATTEMPTS = 4
"""Attempts at a block, each ended by the end of its worker and without one more row recorded."""
MOST_DEAD = 3
"""Blocks in a row that a dead engine left, with no answer between them, after which the other
blocks are not asked."""


class JobStoppedError(TutelageError):
    """The job ends: nothing new is sent."""


class SessionEndedError(TutelageError):
    """The worker was taken for ended, and its leases are settled: it begins again."""


class Ruling(NamedTuple):
    """What a worker does with a block. reason: why its rows are not asked"""

    action: Literal["ask", "fail", "stop"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a keeper needs to know.

    lock:       of the session that began the job: leases live as long as it is held
    folder:     where workers copy their closed shards
    state:      the file of the job's state
    max_failed: rows that may fail before nothing more is asked; None: no limit
    """

    ledger: Path
    lock: str
    folder: Path
    state: Path
    max_failed: int | None
    minute_s: float = 60.0


@dataclass(frozen=True, slots=True)
class EndedWorker:
    """A worker that ended without a word. keys: leased and not reported; they stay charged"""

    place: str
    keys: tuple[str, ...]


class Keeper:
    """The keeper of one job. Its calls come one at a time."""

    def __init__(self, job: JobSpec) -> None:
        self._job = job
        self._ledger = Ledger(job.ledger)
        self._state = JobState(job.state)
        self._rates = SharedRates(self._state, job.minute_s)
        self._swept_at = now()
        with self._state.change() as state:  # nobody could call while there was no keeper
            state.execute("UPDATE workers SET seen = ?", (now(),))

    def close(self) -> None:
        """Close the files."""
        self._ledger.close()
        self._state.close()

    # Workers.

    def register(self, actor: str, place: str) -> int:
        """A session for a worker that begins. An earlier process of the same actor has ended.

        place: where it runs, for people
        """
        for (session,) in self._state.rows("SELECT session FROM workers WHERE actor = ?", (actor,)):
            self._end_worker(session)
        lock = self._job.lock
        session = self._ledger.transact(lambda c: leases.open_lease_session(c, lock))
        with self._state.change() as state:
            state.execute("INSERT INTO workers VALUES (?, ?, ?, ?)", (session, actor, place, now()))
        return session

    def beat(self, session: int) -> None:
        """A worker lives. Raises SessionEndedError."""
        with self._state.change() as state:
            seen = state.execute(
                "UPDATE workers SET seen = ? WHERE session = ?", (now(), session)
            ).rowcount
        if not seen:
            raise SessionEndedError("this worker was silent for too long, and counts as ended")
        if now() - self._swept_at > SILENT_S / 4:
            self._swept_at = now()
            for (other,) in self._state.rows(
                "SELECT session FROM workers WHERE seen < ?", (now() - SILENT_S,)
            ):
                self._end_worker(other)

    def _end_worker(self, session: int) -> None:
        """Settle the leases of a worker that will report no more."""
        # What it has copied was recorded, even if it could not say so any more.
        self._merge_all()
        keys = self._ledger.transact(lambda c: leases.end_lease_session(c, session))
        self._rates.end_holder(session)
        with self._state.change() as state:
            state.executemany(
                "INSERT OR REPLACE INTO unreported VALUES (?, ?)", [(key, session) for key in keys]
            )
            (place,) = state.execute(
                "SELECT place FROM workers WHERE session = ?", (session,)
            ).fetchone()
            state.execute("DELETE FROM workers WHERE session = ?", (session,))
            state.execute(
                "INSERT OR REPLACE INTO said VALUES (?, ?)", (f"ended {session}", str(place))
            )

    def settle_ended(self, session: int) -> list[int]:
        """End the session of a worker that is known to have ended.

        Returns its charges that no shard has settled. What the worker has left on its disk may
        settle them after all.
        """
        if self._state.rows("SELECT 1 FROM workers WHERE session = ?", (session,)):
            self._end_worker(session)
        else:
            self._merge_all()
        with self._ledger.reader() as connection:
            return leases.charges_of(connection, session)

    # Blocks.

    def begin_block(self, session: int, block: int, missing: int) -> Ruling:
        """Whether a worker asks for the rows of a block.

        missing: rows of it that have neither an answer nor a failure yet
        """
        self.beat(session)
        if self.stopped() is not None:
            return Ruling("stop")
        if dead := self._state.get("dead"):
            return Ruling("fail", dead)
        found = self._state.rows("SELECT attempts, missing FROM blocks WHERE block = ?", (block,))
        attempts = found[0][0] + 1 if found and missing >= found[0][1] else 1
        with self._state.change() as state:
            state.execute(
                "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", (block, attempts, missing)
            )
        if attempts > MOST_ATTEMPTS:
            return Ruling("fail", f"{MOST_ATTEMPTS} workers ended while they worked on these rows")
        return Ruling("ask")

    def end_block(self, session: int, block: int, sent: int) -> None:
        """A block is done. sent: attempts at requests that were made for it"""
        with self._state.change() as state:
            gone = state.execute("DELETE FROM blocks WHERE block = ?", (block,)).rowcount
        if gone:
            self._state.add("sent", sent)

    def engine_died(self, reason: str) -> None:
        """A block was given up because its engine died; after some in a row, all others are."""
        if self._state.add("dead blocks", 1) >= MOST_DEAD:
            self._state.put("dead", reason)

    # The ledger.

    def look_up(self, keys: Sequence[str]) -> tuple[list[str], dict[str, Failure]]:
        """See `Lessor`."""
        wanted = [bytes.fromhex(key) for key in keys]
        with self._ledger.reader() as connection:
            rows = select_many(connection, "SELECT key FROM answers WHERE key", wanted)
            answered = [key.hex() for (key,) in rows]
            return answered, charges.final_failures(connection, set(keys) - set(answered))

    def lease(
        self,
        session: int,
        claims: Sequence[tuple[int, Claim]],
        scope: str,
        cap: int | None,
        lost: Sequence[int],
    ) -> list[Reservation]:
        """See `Lessor`."""
        self.beat(session)
        if self.stopped() is not None:
            raise JobStoppedError("the job ends")
        return self._ledger.transact(
            lambda c: leases.lease(c, session, claims, scope=scope, cap=cap, lost=lost)
        )

    def charged(self, scope: str) -> tuple[int, int, int]:
        """See `Lessor`."""
        return charges.charged(self._ledger, scope), *charges.lost(self._ledger, scope)

    def report(self, session: int, shard: str) -> None:
        """See `Lessor`."""
        path = self._job.folder / shard
        try:
            self._count(merge_shard(self._ledger, path))
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            if not is_merged(self._ledger, shard):
                self.stop(
                    "RunFolderError",
                    f"{path}: a worker has written this shard, but the file is not here: several "
                    "machines need a shared_folder that all of them see",
                )
        with suppress(SessionEndedError):
            self.beat(session)

    def _merge_all(self) -> None:
        merged, damaged = merge_folder(self._ledger, self._job.folder)
        self._count(merged)
        for line in damaged:
            self._state.put(f"damaged {line}", line)

    def _count(self, merged: Merged) -> None:
        if merged.answers:
            self._state.put("dead blocks", "0")
        answers = self._state.add("answers", merged.answers)
        failed = sum(count for reason, count in merged.failures.items() if reason != NOT_ASKED)
        failures = self._state.add("failures", failed)
        limit = self._job.max_failed
        if failed and limit is not None and failures > limit:
            self.stop(
                "TeacherError",
                f"{failures} requests failed, more than max_failed: {limit}; {answers} were "
                "answered; stopped. The answers so far are kept: run again to continue",
            )

    def rates(self, session: int, call: RateCall) -> tuple[float, float]:
        """See `SharedRates.call`."""
        return self._rates.call(session, call)

    # The job.

    def stop(self, kind: str, message: str) -> None:
        """End the job: nothing new is sent. kind: name of the error's class; the first one stays"""
        if not self._state.get("stop"):
            self._state.put("stop", json.dumps([kind, message]))

    def stopped(self) -> TutelageError | None:
        """The error that ends the job."""
        said = self._state.get("stop")
        if not said:
            return None
        kind, message = json.loads(said)
        made: TutelageError = getattr(errors, kind, TeacherError)(message)
        return made

    def progress(self) -> tuple[int, int]:
        """How many answers and failures are recorded since the job began."""
        return int(self._state.get("answers", "0")), int(self._state.get("failures", "0"))

    def proven(self) -> bool:
        """Whether the teacher has answered in this job."""
        return self.progress()[0] > 0

    def finish(self) -> None:
        """Merge what is left and settle all leases. No worker calls any more."""
        for (session,) in self._state.rows("SELECT session FROM workers"):
            self._end_worker(session)
        self._merge_all()

    def ended_workers(self) -> list[EndedWorker]:
        """The workers that ended with leases that nobody has reported."""
        found = []
        for name, place in self._state.rows(
            "SELECT name, value FROM said WHERE name LIKE 'ended %'"
        ):
            session = int(name.partition(" ")[2])
            with self._ledger.reader() as connection:
                lost = leases.lost_keys(connection, session)
            keys = self._state.rows("SELECT key FROM unreported WHERE session = ?", (session,))
            if left := tuple(key for (key,) in keys if key in lost):
                found.append(EndedWorker(str(place), left))
        return found

    def damaged(self) -> list[str]:
        """A line for each shard that was damaged."""
        return [
            v for (v,) in self._state.rows("SELECT value FROM said WHERE name LIKE 'damaged %'")
        ]

    @property
    def attempts(self) -> int:
        """Attempts at requests that workers have reported."""
        return int(self._state.get("sent", "0"))
