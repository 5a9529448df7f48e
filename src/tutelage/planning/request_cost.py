"""Count and price a recipe's requests before they are sent; `planning.plan` adds them up.

The rows are rendered into prompts, the prompts' keys are looked up in the ledger, and the missing
requests are priced. Nothing is sent, except for a pilot.
"""

from __future__ import annotations

import heapq
import itertools
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tutelage.config.teacher_settings import FREE, Mode, TeacherSettings
from tutelage.core.errors import TutelageError, UsageError
from tutelage.core.progress import AnnotationProgress, Observer
from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Request
from tutelage.planning.pilot import Pilot, judge_pilot
from tutelage.strategies.lookup import Strategy
from tutelage.teacher.annotate import Annotation, Options, annotate
from tutelage.teacher.cost.budget import price_for
from tutelage.teacher.cost.forecast import (
    NOTHING,
    Amount,
    Forecast,
    KnownAnswer,
    Workload,
    amount_of,
    forecast,
)
from tutelage.teacher.cost.prices import PICO, Price, price_of, request_bound
from tutelage.teacher.engine.requests import RequestBuilder
from tutelage.teacher.hopeless import HopelessError
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.registry import open_teacher
from tutelage.teacher.teacher import Teacher

Split = Literal["train", "dev", "unlabelled"]

_CHUNK = 500
_REPORT_EVERY = 10_000
"""Rows between two progress reports while counting. Fewer rows are counted in a moment."""
_SAMPLE = 5000
"""Known answers that a forecast uses, at most. More would not change it visibly."""


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """One strategy, one teacher and some rows of a recipe: one request for each row.

    title:    for messages: the name of the first arm, or of the baseline
    settings: the teacher's; None where the strategy needs no teacher
    batches:  whether the batch API may be used
    """

    title: str
    arms: tuple[str, ...]
    strategy: Strategy
    settings: TeacherSettings | None
    rows: Sequence[Example]
    split: Split = "train"
    batches: bool = True


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """The number and the cost of one group of requests.

    title:     as in `RequestGroup`
    arms:      arms that use the answers; empty for a baseline
    teacher:   as the recipe names it; None where no teacher is needed
    mode:      how a run sends the requests: live, or through the batch API
    price:     in words; None where it is unknown
    rows:      number of rows; split: the part of the data that they are from
    requests:  distinct prompts among the rows
    known:     requests whose answer is in the ledger
    failed:    requests that failed permanently; only --retry-failed repeats them
    shared:    unanswered requests that an earlier group already counts
    missing:   the remaining requests, which a run will send
    answers:   known answers that the forecast is based on; 0 where it is based on assumptions
    unmeasured: those of them without token counts from the server, charged at the worst case
    input, output: tokens of the missing requests
    dollars:   cost of the missing requests, live
    batch:     the same through the batch API; None where it is not available or not used
    pilot:     what the answers of the pilot are like; None without one
    """

    title: str
    arms: tuple[str, ...]
    strategy: str
    teacher: str | None
    mode: Mode
    price: str | None
    rows: int
    split: Split = "train"
    requests: int = 0
    known: int = 0
    failed: int = 0
    shared: int = 0
    missing: int = 0
    answers: int = 0
    unmeasured: int = 0
    input: Amount = NOTHING
    output: Amount = NOTHING
    dollars: Amount = NOTHING
    batch: Amount | None = None
    pilot: Pilot | None = None


class RequestSurvey:
    """Renders a group's prompts and looks up which of them have answers.

    settings:     the teacher's; None where no teacher is needed
    paid_teacher: None where there is no teacher, or one whose answers are looked up
    """

    def __init__(self, group: RequestGroup, task: Task, observer: Observer) -> None:
        self._group = group
        self._rows = group.rows
        self._observer = observer
        self._task = task
        self._strategy = group.strategy
        self.settings = group.settings
        self._teacher: Teacher | None = None
        if self.settings is not None:
            self._teacher = open_teacher(self.settings)
        self.paid_teacher: Teacher | None = self._teacher
        if self._teacher is not None and not self._teacher.paid:
            self.paid_teacher = None  # its answers are looked up
        self._remote = self.settings is not None and self.settings.remote
        self._price = self._find_price()
        self._pilot: frozenset[str] = frozenset()
        self._reasons: dict[str, int] = {}
        self._plan = RequestPlan(
            title=group.title,
            arms=group.arms,
            strategy=self._strategy.name,
            teacher=None if self.settings is None else self.settings.model,
            mode="live" if self.settings is None else self.settings.mode,
            price=self._describe_price(),
            rows=len(group.rows),
            split=group.split,
        )

    def _find_price(self) -> Price | None:
        given = self.settings
        if self.paid_teacher is None or given is None:
            return price_of("", override=FREE)
        return price_for(self.paid_teacher.model, given)

    def run_pilot(self, count: int, ledger: Path, scope: str) -> int:
        """Get answers to a sample of `count` distinct prompts; return how many were sent.

        scope: the name whose budget is charged
        """
        assert self.settings is not None
        smallest = heapq.nsmallest(count, self._distinct(), key=lambda found: found[0])
        self._pilot = frozenset(key for key, _ in smallest)
        name = self._group.title

        def on_progress(progress: AnnotationProgress) -> None:
            self._observer.annotating(f"{name}, pilot", progress)

        def ask(rows: Sequence[Example], book: Ledger) -> Annotation:
            assert self.settings is not None
            return annotate(
                rows,
                strategy=self._strategy,
                # A batch may take a day.
                teacher=self.settings.replace(mode="live", max_failed="never"),
                task=self._task,
                ledger=book,
                options=Options(
                    budget_name=scope, on_progress=on_progress, on_note=self._observer.note
                ),
            )

        stopped = None
        with Ledger(ledger) as book:
            before = len(book)
            try:
                done = ask([request.example for _, request in smallest], book)
                requests = done.requests
            except HopelessError as error:
                # The pilot is to show that: what was answered until then is in the ledger.
                stopped = str(error)
                answered = book.get_many(key for key, _ in smallest)
                requests = len(book) - before
                done = ask([r.example for key, r in smallest if key in answered], book)
        self._reasons = dict(done.summary.failures)
        self._plan = replace(self._plan, pilot=judge_pilot(done.rationales, stopped))
        return requests

    def plan(self, book: Ledger | None, planned: set[int]) -> RequestPlan:
        """Count the known and the missing requests, and price the missing ones.

        planned: short keys (`_short`) that earlier groups will send; this group adds its own
        """
        if self.paid_teacher is None:
            return self._plan
        sizes, bounds = array("q"), array("q")
        sample: list[tuple[str, KnownAnswer]] = []
        requests = known = failed = shared = 0
        distinct = self._distinct()
        while chunk := dict(itertools.islice(distinct, _CHUNK)):
            requests += len(chunk)
            found: dict[str, Completion] = {}
            failures: Collection[str] = ()
            if book is not None:
                found = book.get_many(chunk)
                with book.reader() as connection:
                    failures = charges.final_failures(connection, chunk)
            known += len(found)
            for key, request in chunk.items():
                size = sum(len(m.content.encode("utf-8", "replace")) for m in request.messages)
                bound = request_bound(request)
                if key in found:
                    if not self._pilot or key in self._pilot:
                        sample.append((key, KnownAnswer(size, bound, found[key].usage)))
                elif key in failures:
                    failed += 1
                elif _short(key) in planned:
                    shared += 1
                else:
                    planned.add(_short(key))
                    sizes.append(size)
                    bounds.append(bound)
            if len(sample) > 2 * _SAMPLE:
                sample = _smallest(sample)
        answers = [one for _, one in _smallest(sample)]
        load = Workload(sizes, bounds)
        assert self.settings is not None
        limit = self.settings.max_tokens
        live = forecast(load, answers, limit, self._price)
        batch = None
        if self._group.batches and self._remote and self._price and not self._price.free:
            batch = _dollars(forecast(load, answers, limit, self._price.batch()))
        self._plan = replace(
            self._plan,
            requests=requests,
            known=known,
            failed=failed,
            shared=shared,
            missing=len(sizes),
            answers=live.answers,
            unmeasured=live.unmeasured,
            input=amount_of(live.input, live.most_input),
            output=amount_of(live.output, live.most_output),
            dollars=_dollars(live),
            batch=batch,
        )
        return self._plan

    def _describe_price(self) -> str | None:
        if self._teacher is None:
            return "free (the reasons are in the data)"
        if self.paid_teacher is None:
            return "free (the answers are looked up)"
        if self._price is not None and self._price.free and not self._remote:
            return "free (answered on this machine)"
        return None if self._price is None else self._price.describe()

    def warnings(self) -> Iterator[str]:
        """What makes the forecast impossible or less certain, or a run fail; one line each."""
        plan, given = self._plan, self.settings
        if given is None or self.paid_teacher is None:
            return
        name = plan.title
        if (ending := self._ending()) is not None:
            yield f"{name}: {ending}"
        if self._price is None:
            refused = "" if given.budget_usd is None else "; a run with budget_usd is refused"
            yield (
                f"{name}: no price is known for {given.model!r}{refused}: give "
                "teacher.price {input: …, output: …} in US dollars per million tokens, or 0"
            )
        if given.max_tokens is None and plan.missing and self._remote:
            yield f"{name}: without teacher.max_tokens the cost has no upper bound: set it"
        for reason, count in self._reasons.items():
            yield f"{name}: {count} of the pilot's requests have no answer: {reason}"
        if plan.unmeasured:
            yield (
                f"{name}: {plan.unmeasured} of {plan.answers} answers came without usage, so they "
                "are charged at their worst case"
            )

    def _ending(self) -> str | None:
        """When a server ends the model, where it says so soon or too late; asks each, for free."""
        assert self.settings is not None
        if not self._remote or not self._plan.missing:
            return None
        from tutelage.teacher.clients.access import Access
        from tutelage.teacher.clients.server_models import fetch_models, shutdown_warning

        name = self.settings.model.partition(":")[2].strip()
        for server in self.settings.each_server:
            try:
                listed = fetch_models(Access(server))
            except TutelageError:  # no key yet, say: a run will tell
                continue
            found = shutdown_warning(name, listed)
            if found is not None:
                return found[1]
        return None

    def _distinct(self) -> Iterator[tuple[str, Request]]:
        """Yield each distinct prompt once, with its key, in the order of the rows."""
        teacher, given = self._teacher, self.settings
        assert teacher is not None
        assert given is not None
        seen, total = set(), len(self._rows)
        renderer = RequestBuilder(self._strategy, self._task, teacher)
        for row, example in enumerate(self._rows, 1):
            if row % _REPORT_EVERY == 0:
                counted = AnnotationProgress(row, total, cached=0, failed=0, requests=0)
                self._observer.annotating(f"{self._group.title}, counted", counted)
            key, request = renderer.pending(example)
            if not request.messages:
                raise UsageError(
                    f"strategy {self._strategy.name!r} has no prompt, and the teacher "
                    f"{given.model!r} needs one: give it 'recorded:FILE#KEY'"
                )
            if _short(key) not in seen:
                seen.add(_short(key))
                yield key, request


def _short(key: str) -> int:
    # 64 bits of a digest distinguish millions of keys, in a third of the memory.
    return int(key[:16], 16)


def _smallest(sample: list[tuple[str, KnownAnswer]]) -> list[tuple[str, KnownAnswer]]:
    return heapq.nsmallest(_SAMPLE, sample, key=lambda found: found[0])


def _dollars(found: Forecast) -> Amount:
    return amount_of(found.pico, found.most_pico, PICO)
