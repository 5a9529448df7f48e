"""Annotate: one rationale for each example. Each request is made once, and no answer is lost.

examples -> prompts -> answers in the ledger -> the rest from the teacher -> rationales

`annotate` keeps the rationales in memory. `annotate_to_file` reads a stream and writes a file, and
keeps almost nothing in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import UsageError
from tutelage.core.progress import AnnotationProgress
from tutelage.core.rationale_file import RationaleFile
from tutelage.core.task import Task
from tutelage.core.types import Example, Rationale, RationaleStatus, Usage
from tutelage.strategies.lookup import Strategy, get_strategy
from tutelage.teacher.annotation import AnnotationJob, Options
from tutelage.teacher.cost.budget import Budget, budget_for
from tutelage.teacher.ledger.charges import Session
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.registry import open_teacher
from tutelage.teacher.summary import Summary
from tutelage.teacher.teacher import Teacher

__all__ = [
    "Annotation",
    "Options",
    "AnnotationProgress",
    "Summary",
    "annotate",
    "annotate_each",
    "annotate_to_file",
]


Ask = Callable[[AnnotationJob, Callable[[], Iterable[Example]], Teacher, Session, Budget], None]
"""How the requests of a job are made, and its rows settled: `AnnotationJob.request`, or by workers
elsewhere."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """The result of `annotate`: one rationale for each example, in their order; see Summary."""

    rationales: tuple[Rationale, ...]
    summary: Summary

    @property
    def counts(self) -> Mapping[RationaleStatus, int]:
        """Rationales by status."""
        return self.summary.counts

    @property
    def requests(self) -> int:
        """Requests that the teacher answered or refused in this call."""
        return self.summary.requests

    @property
    def cached(self) -> int:
        """Requests whose answer was in the ledger."""
        return self.summary.cached

    @property
    def tokens(self) -> Usage:
        """Tokens of all answers used, each counted once."""
        return self.summary.tokens


def annotate(
    examples: Sequence[Example],
    *,
    strategy: Strategy | str,
    teacher: TeacherSettings | Teacher | None,
    task: Task,
    ledger: Ledger | None = None,
    options: Options | None = None,
    base: Path | None = None,
) -> Annotation:
    """A rationale for every example, including those that fail.

    teacher: answers the requests; None for a strategy without a teacher
    ledger:  stores paid answers; None: the one at the default path
    base:    the folder that relative paths in `teacher.model` are resolved against

    Equal prompts are requested once; the first row carries the answer's usage, the others zero
    tokens, so that sums are right. Each answer is in the ledger before it is used: after an
    interruption, or an error that stops the run, the same call requests only what is missing.

    Works in a notebook too. Raises UsageError for a wrong call; BudgetError, TeacherError or a
    subclass where the teacher cannot continue; KeyboardInterrupt after the requests in flight have
    completed.
    """
    rationales: list[Rationale | None] = [None] * len(examples)

    def keep(index: int, rationale: Rationale) -> None:
        rationales[index] = rationale

    summary = annotate_each(
        examples,
        keep,
        strategy=strategy,
        teacher=teacher,
        task=task,
        ledger=ledger,
        options=options,
        base=base,
    )
    whole = tuple(rationale for rationale in rationales if rationale is not None)
    assert len(whole) == len(examples)
    return Annotation(whole, summary)


def annotate_each(
    examples: Sequence[Example],
    keep: Callable[[int, Rationale], None],
    *,
    strategy: Strategy | str,
    teacher: TeacherSettings | Teacher | None,
    task: Task,
    ledger: Ledger | None = None,
    options: Options | None = None,
    base: Path | None = None,
) -> Summary:
    """`annotate` for a caller that takes each rationale as soon as it is known.

    keep: called with the index and the rationale of each row, in any order, on the thread that
          makes the requests. Where an error ends the call, such as a spent budget, it has been
          called for every row that had its answer by then.
    """
    return _annotate(
        lambda: examples, len(examples), keep, strategy, teacher, task, ledger, options, base
    )


def annotate_to_file(
    examples: Callable[[], Iterable[Example]],
    output: Path,
    *,
    strategy: Strategy | str,
    teacher: TeacherSettings | Teacher | None,
    task: Task,
    ledger: Ledger | None = None,
    options: Options | None = None,
    base: Path | None = None,
    total: int | None = None,
    on_rationale: Callable[[int, Rationale], None] | None = None,
    ask: Ask | None = None,
) -> Summary:
    """`annotate` for more rows than fit into memory: writes a line per rationale to `output`.

    The lines are in the order of the examples. The file appears when it is complete.

    examples: called once, and again for each round of batches
    total:    number of examples, for progress; None: unknown
    on_rationale: called with the index and the rationale of each row as well, in any order
    ask: makes the requests and settles the rows; None: this process does
    """
    with RationaleFile(output) as lines:

        def keep(index: int, rationale: Rationale) -> None:
            lines.keep(index, rationale)
            if on_rationale is not None:
                on_rationale(index, rationale)

        summary = _annotate(
            examples, total, keep, strategy, teacher, task, ledger, options, base, ask
        )
        lines.finish()
    return summary


def _annotate(
    examples: Callable[[], Iterable[Example]],
    total: int | None,
    keep: Callable[[int, Rationale], None],
    strategy: Strategy | str,
    teacher: TeacherSettings | Teacher | None,
    task: Task,
    ledger: Ledger | None,
    options: Options | None,
    base: Path | None,
    ask: Ask | None = None,
) -> Summary:
    chosen = get_strategy(strategy, task=task) if isinstance(strategy, str) else strategy
    if chosen.asks_teacher and teacher is None:
        raise UsageError(f"strategy {chosen.name!r} needs a teacher, but none is given")
    if isinstance(teacher, TeacherSettings):
        teacher = open_teacher(teacher, base)
    job = AnnotationJob(chosen, task, keep, total, options or Options())
    if not chosen.asks_teacher or teacher is None:
        job.parse_data(examples())
    elif not teacher.paid:
        job.look_up(examples(), teacher)
    else:
        budget = budget_for(teacher, job.options.budget_name)
        with ExitStack() as stack:
            if ledger is None:
                ledger = stack.enter_context(Ledger())
            session = stack.enter_context(Session(ledger))
            (ask or AnnotationJob.request)(job, examples, teacher, session, budget)
    return job.summary()
