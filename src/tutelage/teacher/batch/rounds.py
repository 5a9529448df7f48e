"""Questions through the batch API, as one step of an annotation: sent, waited for, taken in.

What comes back without an answer is left to the ordinary path.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from tutelage.core.errors import BatchesOpenError, UsageError
from tutelage.teacher.batch.jsonl import BatchLimits
from tutelage.teacher.batch.table import State, rows_of
from tutelage.teacher.cost.budget import Money
from tutelage.teacher.engine.requests import Question
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Session
from tutelage.teacher.teacher import Teacher

_ROUNDS = 3
"""How often what came back is put into another batch, at half the price, before it goes live."""
_CHUNK = 200

Note = Callable[[str], None]


def has_batches(session: Session, teacher: Teacher) -> bool:
    """Whether batches of this teacher are under way, whoever sent them."""
    states: tuple[State, ...] = ("building", "creating", "open")
    return bool(rows_of(session.ledger, states=states, identity=teacher.identity))


def through_batches(
    questions: Callable[[], Iterable[Question]],
    teacher: Teacher,
    session: Session,
    money: Money,
    *,
    ask_the_rest: Callable[[], None],
    wait: bool,
    retry_failed: bool,
    limits: BatchLimits | None,
    note: Note,
) -> None:
    """Collect what batches hold, and with `mode: batch` send what is missing first.

    questions:    called anew for each round
    ask_the_rest: asks live what no batch holds, while the batches take their time

    Raises BatchesOpenError where some are open and `wait` is not wanted, and what `Batches` raises.
    """
    from tutelage.teacher.batch.batches import Batches

    settings = teacher.settings
    if not settings.model.startswith("openai:"):
        raise UsageError(f"mode: batch is for teachers `openai:MODEL`, got {settings.model!r}")
    with Batches(session, teacher, money, limits=limits) as batches:
        batches.reconcile()
        for number in range(_ROUNDS):
            sent = 0
            if settings.mode == "batch":
                missing = questions() if retry_failed else _hopeful(questions(), session)
                submitted = batches.submit(missing)
                sent = submitted.questions
                if sent:
                    note(f"{sent} questions are in {submitted.batches} batches")
            elif number == 0:
                ask_the_rest()
            # Other budgets' batches may hold questions of ours.
            collected = batches.collect(wait=wait, everything=True)
            for problem in collected.problems:
                note(problem)
            if collected.open:
                held = sum(row.requests for row in collected.open)
                raise BatchesOpenError(
                    f"{held} questions lie in {len(collected.open)} open batches: the same command "
                    "collects them later (`tutelage ledger batches` lists them)"
                )
            if not sent or not collected.returned or collected.problems:
                return


def _hopeful(questions: Iterable[Question], session: Session) -> Iterator[Question]:
    """The questions without those that are known to fail."""
    stream = iter(questions)
    while chunk := list(itertools.islice(stream, _CHUNK)):
        with session.ledger.reading() as connection:
            hopeless = charges.failures_of(connection, {key for key, _ in chunk})
        yield from (question for question in chunk if question[0] not in hopeless)
