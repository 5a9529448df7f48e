"""One question of a recipe, counted and priced before it is asked: what `planning` adds up.

The rows are rendered into prompts, the prompts' keys are looked up in the ledger, and what is
missing is priced. Nothing is sent, unless a pilot is asked for.
"""

from __future__ import annotations

import heapq
import itertools
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tutelage.core.errors import UsageError
from tutelage.core.progress import Observer
from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Request
from tutelage.strategies.registry import Strategy
from tutelage.teacher.annotate import Options, Progress, annotate
from tutelage.teacher.cost.forecast import (
    NOTHING,
    Amount,
    Forecast,
    KnownAnswer,
    Workload,
    amount_of,
    forecast,
)
from tutelage.teacher.cost.prices import FREE, PICO, Price, price_of, request_bound
from tutelage.teacher.engine.requests import RequestBuilder
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.registry import open_teacher
from tutelage.teacher.teacher import Mode, Teacher, TeacherSettings

Split = Literal["train", "dev"]

_CHUNK = 500
_REPORT_EVERY = 10_000
"""Rows between two reports of how far counting is: fewer are counted in a moment."""
_SAMPLE = 5000
"""Known answers at most that a forecast looks at. More would change nothing that one can see."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that a recipe puts, over some of its rows.

    title:    for people; the name of its first arm, where it has any
    settings: of the teacher; None where the strategy asks nobody
    batches:  whether it may go through the batch API
    """

    title: str
    arms: tuple[str, ...]
    strategy: Strategy
    settings: TeacherSettings | None
    rows: Sequence[Example]
    split: Split = "train"
    batches: bool = True


@dataclass(frozen=True, slots=True)
class QuestionPlan:
    """What one question to one teacher, put for each of its rows, will take.

    title, arms: who needs the answers; a baseline is no arm
    teacher:   as the recipe names it; None where nobody is asked
    mode:      how a run will ask: live, or through the batch API
    price:     in words; None: unknown
    rows, split, requests: rows, of which part of the data, and distinct prompts among them
    known:     requests that the ledger has the answer to
    failed:    requests that failed for good: asked again with --retry-failed alone
    shared:    requests without an answer that a question further up asks as well
    missing:   the others: what a run will send
    answers:   known answers that the expectation rests on; 0: on assumptions
    unmeasured: those among them whose tokens the server did not count: charged at the worst case
    input, output: tokens of the missing; dollars: what they cost, batch: through the batch API
               (None where the teacher has none, or is asked live in any case)
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


class Survey:
    """One question's prompts, and what is known of their answers."""

    def __init__(self, asked: Asked, task: Task, observer: Observer) -> None:
        self._asked = asked
        self._rows = asked.rows
        self._observer = observer
        self._task = task
        self._strategy = asked.strategy
        self.settings = asked.settings
        self._teacher: Teacher | None = None
        if self.settings is not None:
            self._teacher = open_teacher(self.settings)
        self.priced: Teacher | None = self._teacher
        if self._teacher is not None and not self._teacher.paid:
            self.priced = None  # looks its answers up
        self._remote = self.settings is not None and self.settings.remote
        self._price = self._find_price()
        self._pilot: frozenset[str] = frozenset()
        self._reasons: dict[str, int] = {}
        self._plan = QuestionPlan(
            title=asked.title,
            arms=asked.arms,
            strategy=self._strategy.name,
            teacher=None if self.settings is None else self.settings.model,
            mode="live" if self.settings is None else self.settings.mode,
            price=self._describe_price(),
            rows=len(asked.rows),
            split=asked.split,
        )

    def _find_price(self) -> Price | None:
        given = self.settings
        if self.priced is None or given is None:
            return price_of("", override=FREE)
        if not self._remote:
            return price_of(self.priced.model, override=given.price or FREE)
        return price_of(self.priced.model, given.base_url, given.provider, given.price)

    def ask(self, count: int, ledger: Path, scope: str) -> int:
        """Have a sample of `count` distinct prompts answered; how many had to be sent."""
        assert self.settings is not None
        smallest = heapq.nsmallest(count, self._distinct(), key=lambda found: found[0])
        self._pilot = frozenset(key for key, _ in smallest)
        name = self._asked.title

        def on_progress(progress: Progress) -> None:
            self._observer.annotating(f"{name}, pilot", progress)

        with Ledger(ledger) as book:
            done = annotate(
                [request.example for _, request in smallest],
                strategy=self._strategy,
                teacher=replace(self.settings, mode="live"),  # a batch may take a day
                task=self._task,
                ledger=book,
                options=Options(
                    budget_name=scope, on_progress=on_progress, on_note=self._observer.note
                ),
            )
        self._reasons = dict(done.summary.failures)
        return done.requests

    def plan(self, book: Ledger | None, planned: set[int]) -> QuestionPlan:
        """Count what is known and what is missing. planned: what other questions will ask
        (`_short` keys), to which this one adds its own."""
        if self.priced is None:
            return self._plan
        sizes, bounds = array("q"), array("q")
        sample: list[tuple[str, KnownAnswer]] = []
        requests = known = failed = shared = 0
        distinct = self._distinct()
        while chunk := dict(itertools.islice(distinct, _CHUNK)):
            requests += len(chunk)
            found: dict[str, Completion] = {}
            hopeless: Collection[str] = ()
            if book is not None:
                found = book.get_many(chunk)
                with book.reader() as connection:
                    hopeless = charges.final_failures(connection, chunk)
            known += len(found)
            for key, request in chunk.items():
                size = sum(len(m.content.encode("utf-8", "replace")) for m in request.messages)
                bound = request_bound(request)
                if key in found:
                    if not self._pilot or key in self._pilot:
                        sample.append((key, KnownAnswer(size, bound, found[key].usage)))
                elif key in hopeless:
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
        if self._asked.batches and self._remote and self._price and not self._price.free:
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
        if self.priced is None:
            return "free (the answers are looked up)"
        if self._price is not None and self._price.free and not self._remote:
            return "free (answered on this machine)"
        return None if self._price is None else self._price.describe()

    def warnings(self) -> Iterator[str]:
        """What stands in the way of a number, or of a run."""
        plan, given = self._plan, self.settings
        if given is None or self.priced is None:
            return
        name = plan.title
        if self._price is None:
            refused = "" if given.budget_usd is None else "; with budget_usd a run is refused"
            yield (
                f"{name}: no price is known for {given.model!r}{refused}: give "
                "teacher.price {input: …, output: …} in US dollars per million tokens, or 0"
            )
        if given.max_tokens is None and plan.missing and self._remote:
            yield f"{name}: without teacher.max_tokens there is no worst case: set it"
        for reason, count in self._reasons.items():
            yield f"{name}: {count} of the pilot's questions have no answer: {reason}"
        if plan.unmeasured:
            yield (
                f"{name}: {plan.unmeasured} of {plan.answers} answers came without usage: such "
                "answers are charged at their worst case"
            )

    def _distinct(self) -> Iterator[tuple[str, Request]]:
        """Each distinct prompt once, in the order of the rows."""
        teacher, given = self._teacher, self.settings
        assert teacher is not None
        assert given is not None
        seen, total = set(), len(self._rows)
        renderer = RequestBuilder(self._strategy, self._task, teacher)
        for row, example in enumerate(self._rows, 1):
            if row % _REPORT_EVERY == 0:
                counted = Progress(row, total, cached=0, failed=0, requests=0)
                self._observer.annotating(f"{self._asked.title}, counted", counted)
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
    # 64 bits of a digest tell millions apart, in a third of the memory.
    return int(key[:16], 16)


def _smallest(sample: list[tuple[str, KnownAnswer]]) -> list[tuple[str, KnownAnswer]]:
    return heapq.nsmallest(_SAMPLE, sample, key=lambda found: found[0])


def _dollars(found: Forecast) -> Amount:
    return amount_of(found.pico, found.most_pico, PICO)
