"""The batch API as one step of an annotation: send requests, wait, store the answers.

Requests that come back without an answer go into another batch. They are made live, at the full
price, only where the recipe says so (`batch_fallback: live`).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import BatchesOpenError, TeacherError, UsageError
from tutelage.teacher.batch.jsonl import BatchLimits
from tutelage.teacher.batch.table import State, rows_of
from tutelage.teacher.cost.budget import Budget, budget_exceeded
from tutelage.teacher.engine.requests import PendingRequest
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Session
from tutelage.teacher.teacher import Teacher

_ROUNDS = 3
"""How often requests may come back before the run stops, or makes them live."""
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
    from tutelage.teacher.batch.batches import QUEUE_FULL, Batches

    settings = teacher.settings
    if not settings.remote:
        raise UsageError(
            "mode: batch needs a teacher of the form openai:MODEL, anthropic:MODEL or "
            f"gemini:MODEL, got {settings.model!r}"
        )
    with Batches(session, teacher, budget, limits=limits) as batches:
        batches.reconcile()
        rounds = 0  # that brought requests back
        while True:
            sent, over_budget = 0, None
            if settings.mode == "batch":
                missing = (
                    requests() if retry_failed else _without_final_failures(requests(), session)
                )
                submitted = batches.submit(missing)
                sent, over_budget = submitted.requests, submitted.over_budget
                if sent:
                    note(f"{sent} requests are in {submitted.batches} batches")
            else:
                send_the_rest()
            # Other budgets' batches may hold requests of ours.
            collected = batches.collect(wait=wait, everything=True)
            if collected.open:
                for problem in collected.problems:
                    note(problem)
                held = sum(row.requests for row in collected.open)
                raise BatchesOpenError(
                    f"{held} requests are in {len(collected.open)} open batches: repeat the "
                    "command later to collect the answers (`tutelage ledger batches` lists the "
                    "batches)"
                )
            if settings.mode != "batch":
                for problem in collected.problems:
                    note(problem)
                return
            if collected.problems:
                _stop(collected.problems, settings, note)
                return
            returned = collected.returned + Counter({"no answer that can be read": collected.lost})
            if over_budget is not None and not sent and not +returned:
                raise budget_exceeded(session, budget, over_budget.worst_pico)
            # A full queue takes smaller batches, in any number of rounds.
            rounds += any(reason != QUEUE_FULL for reason in +returned)
            if rounds == _ROUNDS:
                reasons = ", ".join(f"{reason} ({n})" for reason, n in (+returned).items())
                came_back = f"requests came back {rounds} times without an answer: {reasons}"
                _stop([f"{returned.total()} {came_back}"], settings, note)
                return
            if not (+returned or (sent and over_budget is not None)):
                return


def _stop(problems: Sequence[str], settings: TeacherSettings, note: Note) -> None:
    """Say why batches bring no answers. Raises TeacherError, unless the rest may be made live."""
    if settings.batch_fallback == "live":
        for problem in problems:
            note(problem)
        note("what the batches left is made live, at the full price (batch_fallback: live)")
        return
    raise TeacherError(
        f"{'; '.join(problems[:3])}. Nothing was asked live: correct that and run again, or set "
        "batch_fallback: live to make what is left at the full price"
    )


def _without_final_failures(
    requests: Iterable[PendingRequest], session: Session
) -> Iterator[PendingRequest]:
    """The requests without those that have failed for good."""
    stream = iter(requests)
    while chunk := list(itertools.islice(stream, _CHUNK)):
        with session.ledger.reader() as connection:
            failed = charges.final_failures(connection, {key for key, _ in chunk})
        yield from (pending for pending in chunk if pending.key not in failed)
