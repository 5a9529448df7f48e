"""One annotation: its rows, the requests that they wait for, and the results so far."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import BatchesOpenError, TutelageError, UsageError
from tutelage.core.progress import AnnotationProgress
from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Rationale, Usage
from tutelage.strategies.lookup import Strategy
from tutelage.teacher.batch.jsonl import BatchLimits
from tutelage.teacher.batch.rounds import has_batches, run_batches
from tutelage.teacher.clients.server_pool import ServerPool
from tutelage.teacher.cost.budget import Budget
from tutelage.teacher.cost.prices import PICO
from tutelage.teacher.engine.engine import DRAIN_S, Engine
from tutelage.teacher.engine.failures import RetryPolicy
from tutelage.teacher.engine.interrupts import Interrupted, run_interruptible
from tutelage.teacher.engine.pacing import limiter_of
from tutelage.teacher.engine.rate_limits import FailureMonitor
from tutelage.teacher.engine.requests import (
    NullListener,
    PendingRequest,
    RequestBuilder,
    RequestListener,
)
from tutelage.teacher.hopeless import HopelessStreak
from tutelage.teacher.ledger.charges import Failure, Session
from tutelage.teacher.parsing import parse_answer, raised
from tutelage.teacher.summary import Summary, Totals
from tutelage.teacher.teacher import RequestFailedError, Teacher

_REPORT_EVERY_S = 0.1
"""Seconds between two reports of progress."""

T = TypeVar("T")

_Requests = Iterator[PendingRequest]
_Row = tuple[int, Example, PendingRequest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How an annotation runs; the strategy and the teacher say what is requested and from whom.

    budget_name:  name of the budget that `budget_usd` caps: a recipe's name
    retry_failed: retry requests that have failed for good
    wait:         wait for open batches; False: raise BatchesOpenError where there are some
    policy:       the retry policy; None: the default
    on_progress:  called from time to time, and at the end, on the thread that makes the requests
    on_note:      called with each line of information for the user
    on_failure:   called with the uid of each row without an answer, and the reason
    batch_limits: of the batch API's server; None: OpenAI's
    minute_s:     seconds in a minute of the rate limits (test servers have shorter ones)
    """

    budget_name: str = "annotate"
    retry_failed: bool = False
    wait: bool = True
    policy: RetryPolicy | None = None
    on_progress: Callable[[AnnotationProgress], None] | None = None
    on_note: Callable[[str], None] | None = None
    on_failure: Callable[[str, str], None] | None = None
    batch_limits: BatchLimits | None = None
    minute_s: float = 60.0


class AnnotationJob:
    """One annotation: its rows, the requests that they wait for, and the results so far.

    keep:  called with the index and the rationale of each row, in any order
    total: number of rows; None where it is not known
    """

    def __init__(
        self,
        strategy: Strategy,
        task: Task,
        keep: Callable[[int, Rationale], None],
        total: int | None,
        options: Options,
    ) -> None:
        self.options = options
        self.strategy = strategy
        self.task = task
        self._keep = keep
        self.total = total
        self._totals = Totals()
        self.attempts = 0
        self._settings: TeacherSettings | None = None
        self._streak = HopelessStreak(None)
        self._served: dict[str | None, str] = {}
        self._waiting: dict[str, deque[tuple[int, Example]]] = {}
        self._counted: set[int] = set()
        self._raised: set[int] = set()
        self._monitor: FailureMonitor | None = None
        self._started_at = self._reported_at = time.monotonic()

    def parse_data(self, examples: Iterable[Example]) -> None:
        """Annotate with a strategy without a teacher: the answers are in the data."""
        for index, example in enumerate(examples):
            self._settle(index, self.strategy.parse(Completion(""), example, self.task))
        self._report(at_once=True)

    def look_up(self, examples: Iterable[Example], teacher: Teacher) -> None:
        """Annotate with a teacher that looks answers up by example: without ledger and engine."""
        monitor = self._monitor = FailureMonitor(
            proven=True, max_failed=teacher.settings.failure_limit(self.total)
        )
        builder = RequestBuilder(self.strategy, self.task, teacher)

        async def run() -> None:
            async with teacher:
                for index, example in enumerate(examples):
                    request = self._asked(builder.request, index, example)
                    if request is None:
                        continue
                    try:
                        completion = await teacher.complete(request)
                    except RequestFailedError as error:
                        self._settle(index, self._failed(example, "not there", str(error)))
                        monitor.request_failed(error, 1)
                        continue
                    self._settle(index, self._parse(completion, example, teacher.settings))

        run_interruptible(run, lambda: None)
        self._report(at_once=True)

    def request(
        self,
        examples: Callable[[], Iterable[Example]],
        teacher: Teacher,
        session: Session,
        budget: Budget,
    ) -> None:
        """Annotate with a paid teacher: each request is made once, by this process or another."""

        def requests() -> _Requests:
            return (pending for _, _, pending in self.requests_of_rows(examples(), teacher))

        settings = self._settings = teacher.settings
        self._streak = HopelessStreak(settings)
        if isinstance(teacher, ServerPool) and has_batches(session, teacher):
            raise UsageError(
                f"batches of {teacher.identity!r} are open: collect them first with the one "
                "base_url that they were sent to (`tutelage ledger batches` lists them)"
            )
        only_batches = settings.mode == "batch" and settings.batch_fallback != "live"
        if settings.mode == "batch" or has_batches(session, teacher):
            run_batches(
                requests,
                teacher,
                session,
                budget,
                send_the_rest=lambda: self._run_engine(
                    requests(), teacher, session, budget, NullListener()
                ),
                wait=self.options.wait,
                retry_failed=self.options.retry_failed,
                limits=self.options.batch_limits,
                note=self.note,
            )
        tracked = self.tracked_requests(examples(), teacher)
        self._run_engine(tracked, teacher, session, budget, self, sends=not only_batches)

    def _run_engine(
        self,
        requests: Iterable[PendingRequest],
        teacher: Teacher,
        session: Session,
        budget: Budget,
        listener: RequestListener,
        *,
        sends: bool = True,
    ) -> None:
        settings = teacher.settings
        limiter = limiter_of(teacher, self.note, minute_s=self.options.minute_s)
        monitor = FailureMonitor(proven=False, max_failed=settings.failure_limit(self.total))
        self._monitor = monitor
        engine: Engine | None = None

        async def run() -> None:
            nonlocal engine
            engine = Engine(
                teacher,
                session,
                budget,
                limiter,
                listener,
                monitor=monitor,
                policy=self.options.policy,
                retry_failed=self.options.retry_failed,
                sends=sends,
            )
            try:
                await engine.run(requests)
            finally:
                self.attempts += engine.attempts.sent

        def interrupt() -> None:
            if engine is not None:
                self.note(_stopping(limiter.in_flight))
                engine.stop(Interrupted())

        try:
            run_interruptible(run, interrupt)
        finally:
            self._report(at_once=True)

    def requests_of_rows(self, examples: Iterable[Example], teacher: Teacher) -> Iterator[_Row]:
        """Each row's number, the row and its request, where the strategy does not raise."""
        if self._monitor is None:
            most = teacher.settings.failure_limit(self.total)
            self._monitor = FailureMonitor(proven=True, max_failed=most)
        builder = RequestBuilder(self.strategy, self.task, teacher)
        for index, example in enumerate(examples):
            pending = self._asked(builder.pending, index, example)
            if pending is None:
                continue
            if index == 0 and not pending.request.messages:
                raise UsageError(
                    f"strategy {self.strategy.name!r} has no prompt, but the teacher "
                    f"{teacher.settings.model!r} needs one: use the teacher 'recorded:FILE#KEY'"
                )
            yield index, example, pending

    def _asked(self, build: Callable[[Example], T], index: int, example: Example) -> T | None:
        """What asks the teacher about a row; None, and a failed row, where the strategy raises."""
        try:
            return build(example)
        except TutelageError:
            raise
        except Exception as error:  # noqa: BLE001  a strategy may be anybody's code
            if index not in self._raised:  # a stream is read again for each round of batches
                self._raised.add(index)
                detail = raised(self.strategy, error)
                self._settle(index, self._failed(example, "the strategy raised an error", detail))
                if self._monitor is not None:
                    self._monitor.rows_failed(RequestFailedError(detail, transient=False), 1)
            return None

    def tracked_requests(self, examples: Iterable[Example], teacher: Teacher) -> _Requests:
        """The requests, each with a row that waits for its result."""
        for index, example, pending in self.requests_of_rows(examples, teacher):
            self._waiting.setdefault(pending.key, deque()).append((index, example))
            yield pending

    # The engine's RequestListener: called once for each row of a request.

    def cached(self, key: str, completion: Completion) -> None:
        """The answer was in the ledger."""
        self._take(key, completion, sent=False)

    def answered(self, key: str, completion: Completion) -> None:
        """The request was sent and answered."""
        self._take(key, completion, sent=True)

    def batched(self, key: str) -> None:
        """Another process has put the request into a batch. Raises BatchesOpenError."""
        raise BatchesOpenError(
            "another process has put requests of this run into a batch: repeat the command later "
            "to collect the answers (`tutelage ledger batches` lists the batch)"
        )

    def failed(self, key: str, failure: Failure, *, sent: bool) -> None:
        """The request has no answer."""
        index, example = self._next_row(key)
        if sent and self._is_new(key):
            self._totals.requests += 1
        self._settle(index, self._failed(example, failure.reason, failure.detail))

    def replayed(self, key: str, completion: Completion, *, sent: bool) -> None:
        """Take an answer that a worker has checked already. sent: it was asked for in this call"""
        self._streak = HopelessStreak(None)
        self._take(key, completion, sent=sent)

    def _take(self, key: str, completion: Completion, *, sent: bool) -> None:
        index, example = self._next_row(key)
        totals, usage, pico = self._totals, completion.usage, completion.pico
        rationale = self._parse(completion, example, self._settings)
        if rationale.status == "failed":
            totals.unparsable[rationale.detail] += 1
        if not self._is_new(key):
            more = _nothing_more(usage)
            free = None if pico is None else 0.0
            self._settle(index, dataclasses.replace(rationale, usage=more, cost_usd=free))
            return
        totals.prompt_tokens += usage.prompt_tokens or 0
        totals.completion_tokens += usage.completion_tokens or 0
        if usage.cached_tokens is not None:
            totals.cached_tokens = (totals.cached_tokens or 0) + usage.cached_tokens
        self._streak.count(rationale, completion)
        if sent:
            self._note_model(completion)
            totals.requests += 1
            totals.new_tokens += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
            totals.new_pico += pico or 0
        else:
            totals.cached += 1
        if pico is None:
            totals.priced = False
        else:
            totals.pico += pico
            rationale = dataclasses.replace(rationale, cost_usd=pico / PICO)
        self._settle(index, rationale)
        if sent:
            self._streak.check()

    def note(self, line: str) -> None:
        """A line for the user."""
        if self.options.on_note is not None:
            self.options.on_note(line)

    def _note_model(self, completion: Completion) -> None:
        """Tell when the replies of a server begin to name another model."""
        served, server = completion.served, completion.server
        if served is None or served == self._served.get(server):
            return
        before = self._served.get(server) or next(iter(self._served.values()), served)
        if served != before:
            self.note(
                f"{server or 'the server'} now answers as {served!r}, and until now as {before!r}: "
                "the ledger keeps the name with each answer"
                if server is None or server in self._served
                else f"{server} answers as {served!r}, and another server as {before!r}: the "
                "ledger keeps name and address with each answer"
            )
        self._served[server] = served

    def _parse(
        self, completion: Completion, example: Example, settings: TeacherSettings | None
    ) -> Rationale:
        """The rationale in an answer. Its reasoning is separated before any strategy sees it."""
        return parse_answer(self.strategy, completion, example, self.task, settings)

    def _next_row(self, key: str) -> tuple[int, Example]:
        rows = self._waiting[key]
        row = rows.popleft()
        if not rows:
            del self._waiting[key]
        return row

    def _is_new(self, key: str) -> bool:
        """Whether this is the first result of a request: its cost counts once."""
        short = hash(key)
        if short in self._counted:
            return False
        self._counted.add(short)
        return True

    def _failed(self, example: Example, reason: str, detail: str) -> Rationale:
        self._totals.fail(reason, detail)
        if self.options.on_failure is not None:
            self.options.on_failure(example.uid, reason)
        return Rationale(example.uid, self.strategy.name, "", "failed", detail=detail)

    def _settle(self, index: int, rationale: Rationale) -> None:
        self._totals.done += 1
        self._totals.statuses[rationale.status] += 1
        self._keep(index, rationale)
        self._report()

    def _report(self, *, at_once: bool = False) -> None:
        if self.options.on_progress is None:
            return
        now = time.monotonic()
        if at_once or now - self._reported_at >= _REPORT_EVERY_S:
            self._reported_at = now
            self.options.on_progress(self._totals.progress(self.total, now - self._started_at))

    def watched(self, answers: int, failures: int) -> None:
        """Report the progress of workers. answers, failures: that they have recorded so far"""
        if self.options.on_progress is not None:
            now = self._totals.progress(self.total, time.monotonic() - self._started_at)
            done = answers + failures
            self.options.on_progress(
                dataclasses.replace(now, done=done, failed=failures, requests=done)
            )

    def summary(self) -> Summary:
        """The results in numbers."""
        return self._totals.summary(self.attempts)


def _stopping(in_flight: int) -> str:
    wait = f"waiting up to {DRAIN_S:.0f} s for {in_flight} requests in flight"
    return f"stopping: {wait if in_flight else 'nothing is in flight'}; Ctrl-C again stops at once"


def _nothing_more(usage: Usage) -> Usage:
    """Zero tokens where the server counts them, still unknown where it does not."""
    return Usage(*(None if tokens is None else 0 for tokens in dataclasses.astuple(usage)))
