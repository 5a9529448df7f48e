"""The batch API: the same requests in files and batches, at half the price and within a day.

    batches.reconcile()              finds batches that a killed process has left
    batches.submit(requests)         -> Submitted
    batches.collect(wait=True)       -> Collected; requests that come back without an answer are
                                        made live, or go into another batch

`submit` sends each batch once, even if the process is killed; `collect` stores its answers in the
ledger.
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
from tutelage.teacher.batch.collect import BatchCollector, BatchCounts
from tutelage.teacher.batch.jsonl import BatchLimits, RemoteBatch, limits_of, result_lines
from tutelage.teacher.batch.server import STATUS, CallFault
from tutelage.teacher.batch.submit import BatchSubmitter, Submitted, forget_hint
from tutelage.teacher.batch.table import BatchRow, held_among, open_keys, rows_of
from tutelage.teacher.cost.budget import Budget
from tutelage.teacher.engine.failures import Action, RetryPolicy
from tutelage.teacher.engine.requests import PendingRequest
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

_QUEUE_FULL_CODE = "token_limit_exceeded"
QUEUE_FULL = "the server's queue is full"
"""Why requests come back that fit into smaller batches."""
_GROWTH = 1.5
"""Factor by which the interval between two polls grows while no batch ends."""


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """The progress of all batches. done, total: requests; answered, refused: those of them whose
    result is in the ledger."""

    done: int
    total: int
    answered: int
    refused: int
    open_batches: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What `collect` has stored in the ledger; the counts are those of `collect.BatchCounts`.

    returned: requests to retry, by reason
    problems: why retrying them unchanged would fail again, one line each
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
    """The batches of one teacher and one budget. A context manager; constructing it costs nothing.

    teacher: is not opened
    budget:  with the ordinary price; batches are charged at their own

    After an error, the next call continues where it stopped. All methods raise AuthenticationError,
    ServerUnreachableError or TeacherError where the server does not answer.
    """

    def __init__(
        self,
        session: Session,
        teacher: Teacher,
        budget: Budget,
        *,
        limits: BatchLimits | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._submitter = BatchSubmitter(
            session, teacher, budget, limits or limits_of(teacher.settings), policy or RetryPolicy()
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._submitter.server.close()

    def reconcile(self) -> int:
        """Find batches that the server may have accepted without our knowledge; returns how many.

        What the server does not list was not accepted: its charges are released. Raises
        TeacherError where the server cannot list batches: then the user has to look there.
        """
        return self._submitter.reconcile()

    def submit(self, requests: Iterable[PendingRequest]) -> Submitted:
        """Send requests in as many batches as the limits require, as far as the budget reaches.

        No more requests than one batch holds are in memory at a time.
        """
        return self._submitter.submit(requests)

    def collect(
        self,
        *,
        wait: bool,
        on_progress: Callable[[BatchProgress], None] | None = None,
        everything: bool = False,
    ) -> Collected:
        """Store the answers of batches that have ended; with `wait`, until all have.

        everything: also other budgets' batches on this server (they may hold requests of ours)

        With `wait`, server faults are tolerated for `limits.give_up_s`. Requests that come back
        without an answer are released: reserve and make them again, unless `problems` says why that
        would fail again.
        """
        counts = BatchCounts()
        total = sum(row.requests for row in self._submitter.rows("open", everything=everything))
        in_progress: dict[int, int] = {}
        pause, answered_at = self._submitter.limits.poll_s, time.monotonic()

        def report() -> None:
            if on_progress is not None:
                settled = counts.answered + counts.refused + counts.lost
                settled += sum(counts.returned.values())
                done = min(total, settled + sum(in_progress.values()))
                open_batches = len(self._submitter.rows("open", everything=everything))
                on_progress(
                    BatchProgress(done, total, counts.answered, counts.refused, open_batches)
                )

        while True:
            fault: CallFault | None = None
            ended = False
            for row in self._submitter.rows("open", everything=everything):
                if not self._submitter.take_over(row):
                    continue  # another process handles it
                try:
                    remote = self._poll(row)
                    in_progress[row.id] = (remote.completed or 0) + (remote.failed or 0)
                    if remote.ended:
                        in_progress[row.id] = 0
                        self._collect_batch(row, remote, counts, report)
                        ended = True
                    answered_at = time.monotonic()
                except CallFault as caught:
                    fault = self._transient(row, caught, wait)
            report()
            if not (wait and self._submitter.rows("open", everything=everything)):
                break
            silent_s = time.monotonic() - answered_at
            if fault is not None and silent_s > self._submitter.limits.give_up_s:
                raise self._submitter.server.explain(STATUS, fault) from fault
            pause = self._submitter.limits.poll_s if ended else pause
            retry_after = (fault.retry_after_s or 0.0) if fault is not None else 0.0
            time.sleep(max(pause, min(retry_after, self._submitter.policy.max_retry_after_s)))
            pause = min(pause * _GROWTH, self._submitter.limits.poll_cap_s)
        return Collected(
            answered=counts.answered,
            refused=counts.refused,
            returned=counts.returned,
            lost=counts.lost,
            duplicates=counts.duplicates,
            strays=counts.strays,
            broken=counts.broken,
            problems=tuple(
                f"{self._submitter.server.address}: {message} ({count} requests)"
                for message, count in counts.problems.items()
            ),
            open=tuple(self._submitter.rows("building", "creating", "open", everything=everything)),
        )

    def _poll(self, row: BatchRow) -> RemoteBatch:
        assert row.remote_id is not None
        remote = self._submitter.server.retrieve(row.remote_id)
        if remote.ended and remote.completed and remote.output_file is None:
            # Servers report the end of a batch a moment before its files are there.
            raise CallFault(Action.RETRY, f"batch {remote.id} has ended without an output file")
        detail = remote.status
        if remote.total:
            detail += f", {(remote.completed or 0) + (remote.failed or 0)} of {remote.total}"
        if detail != row.detail:
            self._submitter.transact(lambda c: table.note_detail(c, row.id, detail))
        return remote

    def _collect_batch(
        self, row: BatchRow, remote: RemoteBatch, counts: BatchCounts, report: Callable[[], None]
    ) -> None:
        if remote.status == "failed":
            self._record_failed_batch(row, remote, counts)
            return
        dialect = self._submitter.server.dialect
        collector = BatchCollector(self._submitter.ledger, row, counts, dialect)
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            for file_id, file in ((remote.output_file, output), (remote.error_file, errors)):
                if file_id is not None:
                    self._submitter.server.download(file_id, file)
            for file in (output, errors):
                lines = map(self._submitter.server.clean, result_lines(file))
                collector.read(lines, report, output=file is output)
        if collector.rename:
            if row.id in self._submitter.sent_renamed:
                counts.problems[f"the model {row.model!r} accepts no limit of tokens"] += 1
            self._submitter.renamed = True
        collector.finish(remote)

    def _record_failed_batch(self, row: BatchRow, remote: RemoteBatch, counts: BatchCounts) -> None:
        """End a batch that the server rejected as a whole: it costs nothing."""
        reasons = (
            "; ".join(map(self._submitter.server.clean, remote.errors[:3])) or "no reason is given"
        )
        more = len(remote.errors) - 3
        reasons += f"; and {more} more" if more > 0 else ""
        count = self._submitter.end(row, f"failed: {reasons}")
        if _QUEUE_FULL_CODE in remote.codes and row.requests > 1:
            # Smaller batches fit into the queue, if others of the account leave room.
            self._submitter.most = max(1, min(self._submitter.most, row.requests // 2))
            counts.returned[QUEUE_FULL] += count
            return
        counts.returned["the batch failed"] += count
        counts.problems[f"batch {remote.id} failed: {reasons}"] += count

    def _transient(self, row: BatchRow, fault: CallFault, wait: bool) -> CallFault:
        """The fault, if it is transient. Raises TeacherError for any other, and without `wait`."""
        if fault.status == 404:
            raise TeacherError(
                f"{self._submitter.server.address} does not know batch {row.remote_id}, or no "
                f"longer has its files ({fault}): check the key in {row.key_env}; or else "
                + forget_hint(row)
            ) from fault
        if fault.action is not Action.RETRY or not wait:
            raise self._submitter.server.explain(STATUS, fault) from fault
        return fault

    def cancel(self, numbers: Sequence[int] | None = None) -> int:
        """Cancel open batches (None: all of this teacher and budget); returns how many.

        What they have answered by then is charged, and `collect` stores it.
        """
        count = 0
        for row in self._submitter.rows("open", everything=numbers is not None):
            if row.remote_id is None or (numbers is not None and row.id not in numbers):
                continue
            try:
                if self._submitter.server.cancel(row.remote_id):
                    count += 1
                    note = partial(table.note_detail, number=row.id, detail="cancelling")
                    self._submitter.transact(note)
            except CallFault as fault:
                raise self._submitter.server.explain(
                    f"cancel batch {row.remote_id}", fault
                ) from fault
        return count

    def adopt(self, number: int, remote_id: str) -> None:
        """Record the server's id of a batch. Raises UsageError where it is another batch."""
        row = table.row_of(self._submitter.ledger, number)
        if row is None or row.state != "creating" or not self._submitter.take_over(row):
            raise UsageError(f"batch {number}: expected a batch in the state 'creating'")
        try:
            remote = self._submitter.server.retrieve(remote_id)
        except CallFault as fault:
            raise self._submitter.server.explain(f"find batch {remote_id}", fault) from fault
        untagged = remote.created is not None and remote.total == row.requests
        if row.tag != remote.tag and row.file_id != remote.input_file and not untagged:
            raise UsageError(
                f"batch {remote_id} is another batch: its tag is {remote.tag!r}, expected "
                f"{row.tag!r}"
            )
        self._submitter.adopt(row, remote)


def forget(session: Session, number: int) -> int:
    """Give up a batch: what was sent stays charged at its worst case, and can be requested again.

    Returns how many requests it held. Raises UsageError for a batch that has ended, or that a
    running process handles.
    """
    ledger = session.ledger
    row = table.row_of(ledger, number)
    session.settle_dead_sessions()
    if row is None or not ledger.transact(lambda c: table.take_over(c, number, session.id)):
        raise UsageError(
            f"batch {number}: expected a batch that is open and that no running process handles"
        )
    charges = table.charges_of(ledger, number)
    # A batch in the state 'building' was not sent.
    lost = [] if row.state == "building" else [charge.id for charge in charges.values()]
    ledger.transact(lambda c: table.end(c, number, "given up", lost))
    return len(charges)
