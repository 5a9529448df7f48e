"""Annotate: one rationale for each example, each question asked once, no answer lost.

examples -> prompts -> what the ledger knows -> the rest, asked by a few workers -> rationales
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.errors import UsageError
from tutelage.records import (
    RATIONALE_STATUSES,
    Completion,
    Example,
    Rationale,
    RationaleStatus,
    Request,
    Usage,
)
from tutelage.strategies import Strategy, get_strategy
from tutelage.task import Task
from tutelage.teacher.base import QuestionFailedError, Teacher, TeacherSettings, open_teacher
from tutelage.teacher.governor import Health
from tutelage.teacher.ledger import Ledger, answer_key

_CHUNK = 500  # questions looked up in the ledger at once
_GRACE_S = 5.0
"""Seconds that questions on their way get to come home when the run has to stop: they are paid."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an annotation is.

    done, total, failed: rows; failed ones got no answer at all
    cached, requests:    questions, as in Annotation
    """

    done: int
    total: int
    cached: int
    failed: int
    requests: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """The outcome of `annotate`.

    rationales: one for each example, in their order
    requests:   questions put to the teacher now; none for one that looks answers up
    cached:     questions that the ledger had the answer to
    tokens:     of all answers used, each counted once, the ledger's too; as far as was told
    """

    rationales: tuple[Rationale, ...]
    requests: int
    cached: int
    tokens: Usage

    @property
    def counts(self) -> dict[RationaleStatus, int]:
        """Rationales by status; every status is there, and the sum is the number of examples."""
        counted = Counter(rationale.status for rationale in self.rationales)
        return {status: counted[status] for status in RATIONALE_STATUSES}


def annotate(
    examples: Sequence[Example],
    *,
    strategy: Strategy | str,
    teacher: TeacherSettings | Teacher | None,
    task: Task,
    ledger: Ledger | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    base: Path | None = None,
) -> Annotation:
    """A rationale for every example, whatever becomes of it.

    teacher:     who is asked; None for a strategy that asks nobody
    ledger:      where paid answers are kept and looked for; None: the one at its default path
    on_progress: called after each question, on whatever thread does the asking
    base:        the folder that relative paths in `teacher.model` count from

    Equal prompts are asked once; the first row carries the answer's usage, the others zero tokens,
    so that sums are right. Each answer is in the ledger before anything else happens to it: after
    an interruption, or an error that stops the run, the same call asks only what is missing.
    Questions that failed are not kept, and are asked again.

    Works from a notebook too. Raises UsageError for a wrong call; TeacherError and its kin where
    the teacher cannot go on.
    """
    chosen = get_strategy(strategy, task=task) if isinstance(strategy, str) else strategy
    if not chosen.asks_teacher:
        own = tuple(chosen.parse(Completion(""), example, task) for example in examples)
        if on_progress is not None:
            on_progress(Progress(len(own), len(own), 0, 0, 0))
        return Annotation(own, 0, 0, Usage(0, 0))
    if teacher is None:
        raise UsageError(f"strategy {chosen.name!r} asks a teacher, and none is given")
    if isinstance(teacher, TeacherSettings):
        teacher = open_teacher(teacher, base)
    job = _Job(examples, chosen, teacher, task, on_progress)
    job.check()
    with ExitStack() as stack:
        if not teacher.paid:
            ledger = None  # what is looked up needs no keeping, and no file comes into being
        elif ledger is None:
            ledger = stack.enter_context(Ledger())
        job.recall(ledger)
        if job.missing:
            _run_to_end(job.ask)
    return job.result()


class _Job:
    """One call of `annotate`: what was asked by whom, and what is known so far."""

    def __init__(
        self,
        examples: Sequence[Example],
        strategy: Strategy,
        teacher: Teacher,
        task: Task,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._examples = examples
        self._strategy = strategy
        self._teacher = teacher
        self._task = task
        self._on_progress = on_progress
        self._identity = teacher.identity if teacher.paid else ""
        self._ledger: Ledger | None = None
        self._rationales: list[Rationale | None] = [None] * len(examples)
        self._rows: Mapping[str, list[int]] = {}
        self._done = self._cached = self._requests = 0
        self._prompt_tokens = self._completion_tokens = 0
        self._health = Health(proven=True, max_failed=teacher.settings.max_failed)
        self.missing: list[str] = []

    def check(self) -> None:
        """Refuse a strategy without a prompt where the teacher can only be asked one."""
        if self._teacher.paid and self._examples and not self._request(0).messages:
            raise UsageError(
                f"strategy {self._strategy.name!r} has no prompt, and the teacher "
                f"{self._teacher.settings.model!r} needs one: give it 'recorded:FILE#KEY'"
            )

    def recall(self, ledger: Ledger | None) -> None:
        """Group the rows by question and answer those whose answer is known."""
        self._ledger = ledger
        self._rows = self._group()
        keys = list(self._rows)
        if ledger is None:
            self.missing = keys
        else:
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                known = ledger.get_many(chunk)
                for key in chunk:
                    if key in known:
                        self._cached += 1
                        self._settle(key, known[key])
                    else:
                        self.missing.append(key)
                self._report()
        # Only a teacher that is really asked can turn out to be broken.
        self._health = Health(
            proven=self._cached > 0 or not self._teacher.paid,
            max_failed=self._teacher.settings.max_failed,
        )

    def _group(self) -> dict[str, list[int]]:
        """The rows of each question, in the order of first appearance."""
        if not self._teacher.paid:
            return {str(index): [index] for index in range(len(self._examples))}
        rows: dict[str, list[int]] = {}
        for index in range(len(self._examples)):
            rows.setdefault(answer_key(self._identity, self._request(index)), []).append(index)
        return rows

    def _request(self, index: int) -> Request:
        example = self._examples[index]
        return Request(
            model=self._teacher.model,
            messages=self._strategy.render(example, self._task),
            strategy=self._strategy.name,
            example=example,
            parameters=self._teacher.settings.parameters,
        )

    async def ask(self) -> None:
        """Ask what is missing, `concurrency` questions at a time."""
        questions = iter(self.missing)
        async with self._teacher:
            # The first goes alone: a wrong key or model is found out for the price of one request.
            await self._answer(next(questions))
            count = min(self._teacher.settings.concurrency, len(self.missing) - 1)
            workers = [asyncio.create_task(self._work(questions)) for _ in range(count)]
            if not workers:
                return
            try:
                done, running = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                if running:  # one has failed: nothing new is asked, what is on its way may land
                    for _ in questions:
                        pass
                    await asyncio.wait(running, timeout=_GRACE_S)
            finally:
                for worker in workers:
                    worker.cancel()
                outcomes = await asyncio.gather(*workers, return_exceptions=True)
            for worker in done:
                worker.result()
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    raise outcome

    async def _work(self, questions: Iterator[str]) -> None:
        for key in questions:
            await self._answer(key)

    async def _answer(self, key: str) -> None:
        request = self._request(self._rows[key][0])
        if self._teacher.paid:
            self._requests += 1
        try:
            completion = await self._teacher.complete(request)
        except QuestionFailedError as error:
            self._fail(key, error)
            return
        # No await from here to the ledger: a cancelled run must not drop what it was told.
        if self._ledger is not None:
            self._ledger.put(key, request, completion, identity=self._identity)
        self._health.succeeded()
        self._settle(key, completion)
        self._report()

    def _settle(self, key: str, completion: Completion) -> None:
        usage = completion.usage
        self._prompt_tokens += usage.prompt_tokens or 0
        self._completion_tokens += usage.completion_tokens or 0
        for position, index in enumerate(self._rows[key]):
            rationale = self._strategy.parse(completion, self._examples[index], self._task)
            if position > 0:
                rationale = dataclasses.replace(rationale, usage=_nothing_more(usage))
            self._rationales[index] = rationale
        self._done += len(self._rows[key])

    def _fail(self, key: str, error: QuestionFailedError) -> None:
        rows = self._rows[key]
        for index in rows:
            self._rationales[index] = Rationale(
                self._examples[index].uid, self._strategy.name, "", "failed", detail=str(error)
            )
        self._done += len(rows)
        self._health.question_failed(error, len(rows))
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(
                Progress(
                    done=self._done,
                    total=len(self._examples),
                    cached=self._cached,
                    failed=self._health.failed,
                    requests=self._requests,
                )
            )

    def result(self) -> Annotation:
        """Everything, once nothing is missing."""
        rationales = tuple(r for r in self._rationales if r is not None)
        assert len(rationales) == len(self._examples)
        return Annotation(
            rationales=rationales,
            requests=self._requests,
            cached=self._cached,
            tokens=Usage(self._prompt_tokens, self._completion_tokens),
        )


def _nothing_more(usage: Usage) -> Usage:
    """No tokens where the server counts them, still unknown where it does not."""
    return Usage(
        None if usage.prompt_tokens is None else 0,
        None if usage.completion_tokens is None else 0,
    )


def _run_to_end(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine function to its end, on a thread where this one's loop is running already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work())
        return
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def on_thread() -> None:
        task = asyncio.create_task(work())
        begun.set_result((asyncio.get_running_loop(), task))
        await task

    with ThreadPoolExecutor(1, thread_name_prefix="annotate") as pool:
        outcome = pool.submit(asyncio.run, on_thread())
        loop, task = begun.result()
        try:
            outcome.result()
        except KeyboardInterrupt:  # it reaches this thread; the work is on the other
            loop.call_soon_threadsafe(task.cancel)
            raise
