"""The batch API as one step of an annotation: send requests, wait, store the answers.

Requests that come back without an answer are then made live.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from tutelage.core.errors import BatchesOpenError, UsageError
from tutelage.teacher.batch.jsonl import BatchLimits
from tutelage.teacher.batch.table import State, rows_of
from tutelage.teacher.cost.budget import Budget
from tutelage.teacher.engine.requests import PendingRequest
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Session
from tutelage.teacher.teacher import Teacher

_ROUNDS = 3
"""How often requests that came back go into another batch, at half the price, before they are made
live."""
_CHUNK = 200

Note = Callable[[str], None]


def has_batches(session: Session, teacher: Teacher) -> bool:
    """Whether batches of this teacher are open, whichever process sent them."""
    states: tuple[State, ...] = ("building", "creating", "open")
    return bool(rows_of(session.ledger, states=states, identity=teacher.identity))


def run_batches(
    requests: Callable[[], Iterable[PendingRequest]],
    teacher: Teacher,
    session: Session,
    budget: Budget,
    *,
    send_the_rest: Callable[[], None],
    wait: bool,
    retry_failed: bool,
    limits: BatchLimits | None,
    note: Note,
) -> None:
    """Collect the answers of batches; with `mode: batch` send what is missing first.

    requests:      called once for each round
    send_the_rest: makes the requests live that no batch holds, while the batches are open

    Raises BatchesOpenError where batches are open and `wait` is False, and what `Batches` raises.
    """
    from tutelage.teacher.batch.batches import Batches

    settings = teacher.settings
    if not settings.model.startswith("openai:"):
        raise UsageError(
            f"mode: batch needs a teacher of the form openai:MODEL, got {settings.model!r}"
        )
    with Batches(session, teacher, budget, limits=limits) as batches:
        batches.reconcile()
        for number in range(_ROUNDS):
            sent = 0
            if settings.mode == "batch":
                missing = (
                    requests() if retry_failed else _without_final_failures(requests(), session)
                )
                submitted = batches.submit(missing)
                sent = submitted.requests
                if sent:
                    note(f"{sent} requests are in {submitted.batches} batches")
            elif number == 0:
                send_the_rest()
            # Other budgets' batches may hold requests of ours.
            collected = batches.collect(wait=wait, everything=True)
            for problem in collected.problems:
                note(problem)
            if collected.open:
                held = sum(row.requests for row in collected.open)
                raise BatchesOpenError(
                    f"{held} requests are in {len(collected.open)} open batches: repeat the "
                    "command later to collect the answers (`tutelage ledger batches` lists the "
                    "batches)"
                )
            if not sent or not collected.returned or collected.problems:
                return


def _without_final_failures(
    requests: Iterable[PendingRequest], session: Session
) -> Iterator[PendingRequest]:
    """The requests without those that have failed for good."""
    stream = iter(requests)
    while chunk := list(itertools.islice(stream, _CHUNK)):
        with session.ledger.reader() as connection:
            failed = charges.final_failures(connection, {key for key, _ in chunk})
        yield from (pending for pending in chunk if pending.key not in failed)
