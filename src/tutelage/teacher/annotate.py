"""Annotate: one rationale for each example, each question asked once, no answer lost.

examples -> prompts -> what the ledger knows -> the rest, asked by the engine -> rationales

`annotate` keeps the rationales in memory; `annotate_to_file` reads a stream and writes a file, and
keeps next to nothing.
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
from tutelage.teacher.annotation import Job, Options, Summary
from tutelage.teacher.cost.budget import money_of
from tutelage.teacher.ledger.charges import Session
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.registry import open_teacher
from tutelage.teacher.teacher import Teacher

__all__ = ["Annotation", "Options", "AnnotationProgress", "Summary", "annotate", "annotate_to_file"]


@dataclass(frozen=True, slots=True)
class Annotation:
    """The outcome of `annotate`: one rationale for each example, in their order; see Summary."""

    rationales: tuple[Rationale, ...]
    summary: Summary

    @property
    def counts(self) -> Mapping[RationaleStatus, int]:
        """Rationales by status."""
        return self.summary.counts

    @property
    def requests(self) -> int:
        """Questions put to the teacher now."""
        return self.summary.requests

    @property
    def cached(self) -> int:
        """Questions that the ledger had the answer to."""
        return self.summary.cached

    @property
    def tokens(self) -> Usage:
        """Of all answers used, each counted once."""
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
    """A rationale for every example, whatever becomes of it.

    teacher: who is asked; None for a strategy that asks nobody
    ledger:  where paid answers are kept and looked for; None: the one at its default path
    base:    the folder that relative paths in `teacher.model` count from

    Equal prompts are asked once; the first row carries the answer's usage, the others zero tokens,
    so that sums are right. Each answer is in the ledger before anything else happens to it: after
    an interruption, or an error that stops the run, the same call asks only what is missing.

    Works from a notebook too. Raises UsageError for a wrong call; BudgetError, TeacherError and its
    kin where the teacher cannot go on; KeyboardInterrupt once what was under way has come home.
    """
    rationales: list[Rationale | None] = [None] * len(examples)

    def keep(index: int, rationale: Rationale) -> None:
        rationales[index] = rationale

    summary = _annotate(
        lambda: examples, len(examples), keep, strategy, teacher, task, ledger, options, base
    )
    whole = tuple(rationale for rationale in rationales if rationale is not None)
    assert len(whole) == len(examples)
    return Annotation(whole, summary)


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
) -> Summary:
    """`annotate` for more rows than fit into memory: rationales go to `output`, a line each, in the
    order of the examples. The file appears when it is whole.

    examples: called once, and again for each round of batches
    total:    how many there are, for progress; None: nobody knows
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with RationaleFile(output) as lines:
        summary = _annotate(
            examples, total, lines.keep, strategy, teacher, task, ledger, options, base
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
) -> Summary:
    chosen = get_strategy(strategy, task=task) if isinstance(strategy, str) else strategy
    if chosen.asks_teacher and teacher is None:
        raise UsageError(f"strategy {chosen.name!r} asks a teacher, and none is given")
    if isinstance(teacher, TeacherSettings):
        teacher = open_teacher(teacher, base)
    job = Job(chosen, task, keep, total, options or Options())
    if not chosen.asks_teacher or teacher is None:
        job.read(examples())
    elif not teacher.paid:
        job.look_up(examples(), teacher)
    else:
        money = money_of(teacher, job.options.budget_name)
        with ExitStack() as stack:
            if ledger is None:
                ledger = stack.enter_context(Ledger())
            session = stack.enter_context(Session(ledger))
            job.ask(examples, teacher, session, money)
    return job.summary()
