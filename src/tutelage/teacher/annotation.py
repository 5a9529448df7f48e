"""One annotation under way: which rows wait for which question, and what became of the others."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tutelage.core.errors import BatchesOpenError, UsageError
from tutelage.core.progress import AnnotationProgress
from tutelage.core.task import Task
from tutelage.core.types import (
    RATIONALE_STATUSES,
    Completion,
    Example,
    Rationale,
    RationaleStatus,
    Usage,
)
from tutelage.strategies.lookup import Strategy
from tutelage.teacher.batch.jsonl import BatchLimits
from tutelage.teacher.batch.rounds import has_batches, through_batches
from tutelage.teacher.cost.budget import Money
from tutelage.teacher.cost.prices import PICO
from tutelage.teacher.engine.engine import DRAIN_S, Engine
from tutelage.teacher.engine.failures import RetryPolicy
from tutelage.teacher.engine.interrupts import InterruptedWork, run_to_end
from tutelage.teacher.engine.rate_limits import Governor, Health, Limits
from tutelage.teacher.engine.requests import Events, Question, Renderer, Unheard
from tutelage.teacher.ledger.charges import Failure, Session
from tutelage.teacher.teacher import RequestFailedError, Teacher

_REPORT_EVERY_S = 0.1
"""Seconds between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of an annotation, in numbers.

    counts:   rows by status; every status is there, and the sum is the number of rows
    requests: questions put to the teacher now; none for one that looks answers up
    cached:   questions that the ledger had the answer to
    sent:     tries that left, more than `requests` where some were made again
    tokens:   of all answers used, each counted once, the ledger's too; as far as was told
    cost_usd: of the same answers, now or when they were asked; what was lost on the way is not in
              it; None where the price of some is not known
    failures: rows without an answer, by reason; examples: what was said of one of them
    unread:   rows whose answer the strategy could not read, by why; `failed` too, in `counts`
    """

    counts: Mapping[RationaleStatus, int]
    requests: int
    cached: int
    sent: int
    tokens: Usage
    cost_usd: float | None
    failures: Mapping[str, int]
    examples: Mapping[str, str]
    unread: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How an annotation is run; what is asked, and of whom, is elsewhere.

    budget_name:  whose budget `budget_usd` is: a recipe's name
    retry_failed: ask again what is known to have failed for good
    policy:       how often to ask again; None: the usual
    wait:         for batches that are open; if not, BatchesOpenError says that they are
    on_progress:  called now and then, and at the end, on whatever thread does the asking
    on_note:      told what a person should know, a line each
    batch_limits: of the batch API's server; None: OpenAI's
    minute_s:     seconds in a minute of the limits (servers under test have short ones)
    """

    budget_name: str = "annotate"
    retry_failed: bool = False
    wait: bool = True
    policy: RetryPolicy | None = None
    on_progress: Callable[[AnnotationProgress], None] | None = None
    on_note: Callable[[str], None] | None = None
    batch_limits: BatchLimits | None = None
    minute_s: float = 60.0


@dataclass(slots=True)
class _Count:
    """What `AnnotationProgress` and `Summary` are made of."""

    rows: int = 0
    done: int = 0
    failed: int = 0
    cached: int = 0
    requests: int = 0
    asked_tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    pico: int = 0
    paid_now: int = 0
    priced: bool = True
    statuses: Counter[RationaleStatus] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)


class Job:
    """One annotation: which rows wait for which question, and what has become of the others."""

    def __init__(
        self,
        strategy: Strategy,
        task: Task,
        keep: Callable[[int, Rationale], None],
        total: int | None,
        options: Options,
    ) -> None:
        self.options = options
        self._strategy = strategy
        self._task = task
        self._keep = keep
        self._total = total
        self._count = _Count()
        self._sent = 0
        self._waiting: dict[str, deque[tuple[int, Example]]] = {}
        self._counted: set[int] = set()
        self._began = self._reported = time.monotonic()

    def read(self, examples: Iterable[Example]) -> None:
        """A strategy that asks nobody: the answer lies in the data."""
        for index, example in enumerate(examples):
            self._settle(index, self._strategy.parse(Completion(""), example, self._task))
        self._report(at_once=True)

    def look_up(self, examples: Iterable[Example], teacher: Teacher) -> None:
        """A teacher that looks answers up by their example: nothing to keep, or to ask twice."""
        health = Health(proven=True, max_failed=teacher.settings.failure_limit(self._total))

        renderer = Renderer(self._strategy, self._task, teacher)

        async def run() -> None:
            async with teacher:
                for index, example in enumerate(examples):
                    try:
                        completion = await teacher.complete(renderer.request(example))
                    except RequestFailedError as error:
                        self._settle(index, self._failed(example, "not there", str(error)))
                        health.question_failed(error, 1)
                        continue
                    self._settle(index, self._strategy.parse(completion, example, self._task))

        run_to_end(run, lambda: None)
        self._report(at_once=True)

    def ask(
        self,
        examples: Callable[[], Iterable[Example]],
        teacher: Teacher,
        session: Session,
        money: Money,
    ) -> None:
        """A teacher that is paid: each question once, whoever has asked it."""
        if teacher.settings.mode == "batch" or has_batches(session, teacher):
            through_batches(
                lambda: (question for _, _, question in self._questions(examples(), teacher)),
                teacher,
                session,
                money,
                ask_the_rest=lambda: self._ask_live(
                    (question for _, _, question in self._questions(examples(), teacher)),
                    teacher,
                    session,
                    money,
                    Unheard(),
                ),
                wait=self.options.wait,
                retry_failed=self.options.retry_failed,
                limits=self.options.batch_limits,
                note=self.options.on_note or (lambda line: None),
            )
        self._ask_live(self._awaited(examples(), teacher), teacher, session, money, self)

    def _ask_live(
        self,
        questions: Iterable[Question],
        teacher: Teacher,
        session: Session,
        money: Money,
        events: Events,
    ) -> None:
        settings = teacher.settings
        governor = Governor(
            Limits(
                concurrency=settings.concurrency,
                requests_per_minute=settings.requests_per_minute,
                tokens_per_minute=settings.tokens_per_minute,
                minute_s=self.options.minute_s,
            ),
            patient=settings.remote,
        )
        if hasattr(teacher, "on_headers"):
            teacher.on_headers = governor.learn
        engine: Engine | None = None

        async def run() -> None:
            nonlocal engine
            engine = Engine(
                teacher,
                session,
                money,
                governor,
                events,
                health=Health(proven=False, max_failed=settings.failure_limit(self._total)),
                policy=self.options.policy,
                retry_failed=self.options.retry_failed,
            )
            try:
                await engine.run(questions)
            finally:
                self._sent += engine.sent.requests

        def interrupt() -> None:
            if engine is not None:
                if self.options.on_note is not None:
                    self.options.on_note(_stopping(governor.in_flight))
                engine.stop(InterruptedWork())

        try:
            run_to_end(run, interrupt)
        finally:
            self._report(at_once=True)

    def _questions(
        self, examples: Iterable[Example], teacher: Teacher
    ) -> Iterator[tuple[int, Example, Question]]:
        renderer = Renderer(self._strategy, self._task, teacher)
        for index, example in enumerate(examples):
            question = renderer.question(example)
            if index == 0 and not question[1].messages:
                raise UsageError(
                    f"strategy {self._strategy.name!r} has no prompt, and the teacher "
                    f"{teacher.settings.model!r} needs one: give it 'recorded:FILE#KEY'"
                )
            yield index, example, question

    def _awaited(self, examples: Iterable[Example], teacher: Teacher) -> Iterator[Question]:
        """The questions, each with a row that waits for what becomes of it."""
        for index, example, question in self._questions(examples, teacher):
            self._waiting.setdefault(question[0], deque()).append((index, example))
            yield question

    # What the engine tells: once for each row of a question.

    def known(self, key: str, completion: Completion) -> None:
        """The answer was there already."""
        self._take(key, completion, asked=False)

    def answered(self, key: str, completion: Completion) -> None:
        """The question was asked and answered."""
        self._take(key, completion, asked=True)

    def left(self, key: str) -> None:
        """Somebody has put the question into a batch meanwhile."""
        raise BatchesOpenError(
            "another process has put questions of this run into a batch: the same command "
            "collects them (`tutelage ledger batches` lists it)"
        )

    def failed(self, key: str, failure: Failure, *, asked: bool) -> None:
        """The question has no answer."""
        index, example = self._next_row(key)
        if asked and self._is_new(key):
            self._count.requests += 1
        self._settle(index, self._failed(example, failure.reason, failure.detail))

    def _take(self, key: str, completion: Completion, *, asked: bool) -> None:
        index, example = self._next_row(key)
        count, usage, pico = self._count, completion.usage, completion.pico
        rationale = self._strategy.parse(completion, example, self._task)
        if rationale.status == "failed":
            count.unread[rationale.detail] += 1
        if not self._is_new(key):
            more = _nothing_more(usage)
            free = None if pico is None else 0.0
            self._settle(index, dataclasses.replace(rationale, usage=more, cost_usd=free))
            return
        count.prompt_tokens += usage.prompt_tokens or 0
        count.completion_tokens += usage.completion_tokens or 0
        if usage.cached_tokens is not None:
            count.cached_tokens = (count.cached_tokens or 0) + usage.cached_tokens
        if asked:
            count.requests += 1
            count.asked_tokens += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
            count.paid_now += pico or 0
        else:
            count.cached += 1
        if pico is None:
            count.priced = False
        else:
            count.pico += pico
            rationale = dataclasses.replace(rationale, cost_usd=pico / PICO)
        self._settle(index, rationale)

    def _next_row(self, key: str) -> tuple[int, Example]:
        rows = self._waiting[key]
        row = rows.popleft()
        if not rows:
            del self._waiting[key]
        return row

    def _is_new(self, key: str) -> bool:
        """Whether a question comes up for the first time: what it cost is counted once."""
        short = hash(key)
        if short in self._counted:
            return False
        self._counted.add(short)
        return True

    def _failed(self, example: Example, reason: str, detail: str) -> Rationale:
        self._count.failed += 1
        self._count.reasons[reason] += 1
        self._count.examples.setdefault(reason, detail)
        return Rationale(example.uid, self._strategy.name, "", "failed", detail=detail)

    def _settle(self, index: int, rationale: Rationale) -> None:
        self._count.done += 1
        self._count.statuses[rationale.status] += 1
        self._keep(index, rationale)
        self._report()

    def _report(self, *, at_once: bool = False) -> None:
        if self.options.on_progress is None:
            return
        now = time.monotonic()
        if at_once or now - self._reported >= _REPORT_EVERY_S:
            self._reported = now
            count = self._count
            self.options.on_progress(
                AnnotationProgress(
                    done=count.done,
                    total=self._total,
                    cached=count.cached,
                    failed=count.failed,
                    requests=count.requests,
                    tokens=count.asked_tokens,
                    cost_usd=count.paid_now / PICO if count.priced else None,
                    seconds=now - self._began,
                )
            )

    def summary(self) -> Summary:
        """Everything in numbers."""
        count = self._count
        return Summary(
            counts={status: count.statuses[status] for status in RATIONALE_STATUSES},
            requests=count.requests,
            cached=count.cached,
            sent=self._sent,
            tokens=Usage(count.prompt_tokens, count.completion_tokens, count.cached_tokens),
            cost_usd=count.pico / PICO if count.priced else None,
            failures=dict(count.reasons),
            examples=dict(count.examples),
            unread=dict(count.unread),
        )


def _stopping(under_way: int) -> str:
    wait = f"{under_way} questions under way get up to {DRAIN_S:.0f} s to be answered"
    return f"stopping: {wait if under_way else 'nothing is under way'}; Ctrl-C again stops now"


def _nothing_more(usage: Usage) -> Usage:
    """No tokens where the server counts them, still unknown where it does not."""
    return Usage(*(None if tokens is None else 0 for tokens in dataclasses.astuple(usage)))
