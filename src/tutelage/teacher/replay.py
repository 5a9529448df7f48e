"""Rationales from the ledger alone: the second half of an annotation whose requests workers made.

Every row gets its rationale in the order of the stream, as the local engine gives it where all
answers are known: so the rows are the same, whoever asked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from tutelage.core.types import Example
from tutelage.teacher.annotation import AnnotationJob
from tutelage.teacher.ledger.charges import Failure
from tutelage.teacher.ledger.store import Ledger, select_many
from tutelage.teacher.teacher import Teacher

_CHUNK = 500
_FAILURES = "SELECT key, reason, detail, transient, created FROM failures WHERE key"

NOT_ASKED = "not asked"
"""The reason of rows whose worker could not ask: nothing was paid for them."""

_UNKNOWN = (Failure(NOT_ASKED, "no worker has recorded a result of this row", True), 0.0)


def newest_answer(ledger: Ledger) -> int:
    """The number of the newest answer; later ones are new."""
    with ledger.reader() as connection:
        (number,) = connection.execute("SELECT coalesce(max(id), 0) FROM answers").fetchone()
    return int(number)


def replay(
    job: AnnotationJob,
    examples: Iterable[Example],
    teacher: Teacher,
    ledger: Ledger,
    since: int,
    began: float,
) -> None:
    """Give each row of a job the answer or the failure that the ledger has.

    since: number of the newest answer before the job's requests were made
    began: when that was, in seconds since 1970
    """
    stream = job.tracked_requests(examples, teacher)
    while keys := [key for key, _ in islice(stream, _CHUNK)]:
        answers = ledger.get_many(keys)
        with ledger.reader() as connection:
            new = set(_new(connection, keys, since))
            failures = dict(_failures(connection, keys))
        for key in keys:
            if key in answers:
                job.replayed(key, answers[key], sent=key in new)
            else:
                failure, created = failures.get(key, _UNKNOWN)
                sent = created >= began and failure.reason != NOT_ASKED
                job.failed(key, failure, sent=sent)


def _new(connection: sqlite3.Connection, keys: Sequence[str], since: int) -> Iterator[str]:
    wanted = [bytes.fromhex(key) for key in keys]
    select = f"SELECT key FROM answers WHERE id > {int(since)} AND key"
    for (key,) in select_many(connection, select, wanted):
        yield key.hex()


def _failures(
    connection: sqlite3.Connection, keys: Sequence[str]
) -> Iterator[tuple[str, tuple[Failure, float]]]:
    wanted = [bytes.fromhex(key) for key in keys]
    for key, reason, detail, transient, created in select_many(connection, _FAILURES, wanted):
        yield key.hex(), (Failure(reason, detail, bool(transient)), created)
