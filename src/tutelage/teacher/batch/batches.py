"""The batch API: the same questions through files and batches, at half the price and in a day.

    batches.reconcile()              what a killed process left
    batches.submit(questions)        -> Submitted
    batches.collect(wait=True)       -> Collected; what comes back without an answer goes the
                                        ordinary path: live, or into another batch

How a batch is sent once, whoever is killed, is in `sending`; how its answers get into the
ledger in `intake`.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from tutelage.core.errors import TeacherError, UsageError
from tutelage.teacher.batch import table
from tutelage.teacher.batch.collect import Intake, Tally
from tutelage.teacher.batch.jsonl import BatchLimits, RemoteBatch, read_lines
from tutelage.teacher.batch.server import CallFault
from tutelage.teacher.batch.submit import Desk, Submitted, giving_up
from tutelage.teacher.batch.table import BatchRow, held_among, open_keys, rows_of
from tutelage.teacher.cost.budget import Money
from tutelage.teacher.engine.failures import RetryPolicy, Verdict
from tutelage.teacher.engine.requests import Question
from tutelage.teacher.ledger.charges import Session
from tutelage.teacher.teacher import Teacher

__all__ = [
    "BatchLimits",
    "BatchProgress",
    "BatchRow",
    "Batches",
    "Collected",
    "Submitted",
    "forget",
    "held_among",
    "open_keys",
    "rows_of",
]

_QUEUE_FULL = "token_limit_exceeded"
_GROWTH = 1.5
"""What an interval between two looks grows by, while nothing ends."""


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far the batches are. done, total: questions; answered and refused: in the ledger."""

    done: int
    total: int
    answered: int
    refused: int
    open_batches: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What `collect` took in; the counts are those of `intake.Tally`.

    returned: by reason, questions that are to be asked again
    problems: why asking them again in the same way would fail again, a line each
    open:     the batches that have not ended
    """

    answered: int
    refused: int
    returned: Counter[str]
    lost: int
    duplicates: int
    strays: int
    broken: int
    problems: tuple[str, ...]
    open: tuple[BatchRow, ...]


class Batches:
    """The batches of one teacher and one budget. A context manager; it costs nothing to make.

    teacher: is not opened; money: with the ordinary price (batches are reckoned with at half)

    Whatever a call raises, the next one goes on from there. All raise AuthenticationError,
    ServerUnreachableError or TeacherError where the server cannot be asked.
    """

    def __init__(
        self,
        session: Session,
        teacher: Teacher,
        money: Money,
        *,
        limits: BatchLimits | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._desk = Desk(session, teacher, money, limits or BatchLimits(), policy or RetryPolicy())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._desk.server.close()

    def reconcile(self) -> int:
        """Find out about batches that may have been accepted unheard; how many were.

        Those that the server does not list were not: their charges are released. Raises
        TeacherError where it cannot list: then a person has to look.
        """
        return self._desk.reconcile()

    def submit(self, questions: Iterable[Question]) -> Submitted:
        """Put questions into as many batches as the limits ask for, as far as the budget reaches.

        No more of them than one batch holds are in memory at a time.
        """
        return self._desk.submit(questions)

    def collect(
        self,
        *,
        wait: bool,
        on_progress: Callable[[BatchProgress], None] | None = None,
        everything: bool = False,
    ) -> Collected:
        """Take in what has ended; with `wait`, until all has.

        everything: of this server, other budgets' batches too (they may hold questions of ours)

        Faults of the server are borne with `wait` for `limits.give_up_s`. Questions that come back
        without an answer are released: reserve and ask them again, unless `problems` says that it
        would be in vain.
        """
        tally = Tally()
        total = sum(row.requests for row in self._desk.rows("open", everything=everything))
        under_way: dict[int, int] = {}
        pause, heard = self._desk.limits.poll_s, time.monotonic()

        def report() -> None:
            if on_progress is not None:
                settled = tally.answered + tally.refused + tally.lost
                settled += sum(tally.returned.values())
                done = min(total, settled + sum(under_way.values()))
                open_batches = len(self._desk.rows("open", everything=everything))
                on_progress(BatchProgress(done, total, tally.answered, tally.refused, open_batches))

        while True:
            fault: CallFault | None = None
            ended = False
            for row in self._desk.rows("open", everything=everything):
                if not self._desk.take(row):
                    continue  # another process is at it
                try:
                    remote = self._look_at(row)
                    under_way[row.id] = (remote.completed or 0) + (remote.failed or 0)
                    if remote.ended:
                        under_way[row.id] = 0
                        self._bring_in(row, remote, tally, report)
                        ended = True
                    heard = time.monotonic()
                except CallFault as caught:
                    fault = self._bearable(row, caught, wait)
            report()
            if not (wait and self._desk.rows("open", everything=everything)):
                break
            if fault is not None and time.monotonic() - heard > self._desk.limits.give_up_s:
                raise self._desk.server.explain("tell how its batches are", fault) from fault
            pause = self._desk.limits.poll_s if ended else pause
            asked = (fault.retry_after_s or 0.0) if fault is not None else 0.0
            time.sleep(max(pause, min(asked, self._desk.policy.max_retry_after_s)))
            pause = min(pause * _GROWTH, self._desk.limits.poll_cap_s)
        return Collected(
            answered=tally.answered,
            refused=tally.refused,
            returned=tally.returned,
            lost=tally.lost,
            duplicates=tally.duplicates,
            strays=tally.strays,
            broken=tally.broken,
            problems=tuple(
                f"{self._desk.server.shown}: {message} ({count} questions)"
                for message, count in tally.problems.items()
            ),
            open=tuple(self._desk.rows("building", "creating", "open", everything=everything)),
        )

    def _look_at(self, row: BatchRow) -> RemoteBatch:
        assert row.remote_id is not None
        remote = self._desk.server.retrieve(row.remote_id)
        if remote.ended and remote.completed and remote.output_file is None:
            # Servers end a batch a moment before its files are there.
            raise CallFault(Verdict.RETRY, f"batch {remote.id} has ended and names no output file")
        detail = remote.status
        if remote.total:
            detail += f", {(remote.completed or 0) + (remote.failed or 0)} of {remote.total}"
        if detail != row.detail:
            self._desk.transact(lambda c: table.note_detail(c, row.id, detail))
        return remote

    def _bring_in(
        self, row: BatchRow, remote: RemoteBatch, tally: Tally, report: Callable[[], None]
    ) -> None:
        if remote.status == "failed":
            self._take_back(row, remote, tally)
            return
        intake = Intake(self._desk.ledger, row, tally)
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            for file_id, file in ((remote.output_file, output), (remote.error_file, errors)):
                if file_id is not None:
                    self._desk.server.download(file_id, file)
            for file in (output, errors):
                lines = map(self._desk.server.clean, read_lines(file))
                intake.read(lines, report, output=file is output)
        if intake.rename:
            if row.id in self._desk.sent_renamed:
                tally.problems[f"the model {row.model!r} takes no limit of tokens"] += 1
            self._desk.renamed = True
        intake.finish(remote)

    def _take_back(self, row: BatchRow, remote: RemoteBatch, tally: Tally) -> None:
        """A batch that was not begun: nothing of it costs anything."""
        reasons = "; ".join(map(self._desk.server.clean, remote.errors[:3])) or "no reason is given"
        more = len(remote.errors) - 3
        reasons += f"; and {more} more" if more > 0 else ""
        count = self._desk.end(row, f"failed: {reasons}")
        if _QUEUE_FULL in remote.codes and row.requests > 1:
            # Smaller ones find room in the queue, if others of the account leave any.
            self._desk.most = max(1, min(self._desk.most, row.requests // 2))
            tally.returned["the server's queue is full"] += count
            return
        tally.returned["the batch failed"] += count
        tally.problems[f"batch {remote.id} failed: {reasons}"] += count

    def _bearable(self, row: BatchRow, fault: CallFault, wait: bool) -> CallFault:
        """A fault that may pass; raises any other."""
        if fault.status == 404:
            raise TeacherError(
                f"{self._desk.server.shown} does not know batch {row.remote_id}, or no longer has "
                f"its files ({fault}): check the key in {row.key_env}; or " + giving_up(row)
            ) from fault
        if fault.verdict is not Verdict.RETRY or not wait:
            raise self._desk.server.explain("tell how its batches are", fault) from fault
        return fault

    def cancel(self, numbers: Sequence[int] | None = None) -> int:
        """Have open batches ended early (None: all of this teacher and budget); how many will.

        What they have answered by then costs money, and `collect` takes it in.
        """
        count = 0
        for row in self._desk.rows("open", everything=numbers is not None):
            if row.remote_id is None or (numbers is not None and row.id not in numbers):
                continue
            try:
                if self._desk.server.cancel(row.remote_id):
                    count += 1
                    note = partial(table.note_detail, number=row.id, detail="cancelling")
                    self._desk.transact(note)
            except CallFault as fault:
                raise self._desk.server.explain(f"cancel batch {row.remote_id}", fault) from fault
        return count

    def adopt(self, number: int, remote_id: str) -> None:
        """Take a batch of which a person knows the id for the ledger's. Raises UsageError where
        it is not."""
        row = table.row_of(self._desk.ledger, number)
        if row is None or row.state != "creating" or not self._desk.take(row):
            raise UsageError(f"batch {number}: expected one in the state 'creating'")
        try:
            remote = self._desk.server.retrieve(remote_id)
        except CallFault as fault:
            raise self._desk.server.explain(f"tell of batch {remote_id}", fault) from fault
        if row.tag != remote.tag and row.file_id != remote.input_file:
            raise UsageError(
                f"batch {remote_id} is another one: its tag is {remote.tag!r}, and {row.tag!r} "
                f"was expected"
            )
        self._desk.adopt(row, remote)


def forget(session: Session, number: int) -> int:
    """Give up a batch: what was sent stays charged at its worst case, and may be asked again.

    Returns how many questions it held. Raises UsageError for one that has ended, or that a process
    is at work on.
    """
    ledger = session.ledger
    row = table.row_of(ledger, number)
    session.bury_the_dead()
    if row is None or not ledger.transact(lambda c: table.take(c, number, session.id)):
        raise UsageError(f"batch {number}: expected one that is open, and that nobody is at")
    charges = table.charges_of(ledger, number)
    # What is still being built has not left.
    lost = [] if row.state == "building" else [charge.id for charge in charges.values()]
    ledger.transact(lambda c: table.end(c, number, "given up", lost))
    return len(charges)
