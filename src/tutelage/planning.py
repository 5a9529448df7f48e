"""What a recipe's rationales will cost, said before a cent is spent; a pilot makes it a forecast.

The rows of each question are rendered into prompts, their keys are looked up in the ledger, and
what is missing is priced. Nothing is sent, unless a pilot is asked for.
"""

from __future__ import annotations

import heapq
import itertools
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tutelage.errors import UsageError
from tutelage.observer import Observer
from tutelage.preparation import load_splits
from tutelage.recipe import Recipe
from tutelage.records import Completion, Example, Request
from tutelage.sections import ArmSection
from tutelage.strategies import Strategy, get_strategy
from tutelage.task import Task
from tutelage.teacher import accounts
from tutelage.teacher.annotate import Options, Progress, annotate
from tutelage.teacher.base import Mode, Teacher, TeacherSettings, open_teacher
from tutelage.teacher.forecast import (
    BYTES_PER_TOKEN,
    NOTHING,
    Amount,
    Forecast,
    Known,
    Load,
    amount_of,
    forecast,
    sum_of,
)
from tutelage.teacher.ledger import Ledger, default_path
from tutelage.teacher.prices import FREE, PICO, Price, price_of, request_bound
from tutelage.teacher.tickets import Renderer

_CHUNK = 500
_REPORT_EVERY = 10_000
"""Rows between two reports of how far counting is: fewer are counted in a moment."""
_SAMPLE = 5000
"""Known answers at most that a forecast looks at. More would change nothing that one can see."""


@dataclass(frozen=True, slots=True)
class QuestionPlan:
    """What the arms that put one question to one teacher will take.

    teacher:   as the recipe names it; None where nobody is asked
    mode:      how a run will ask: live, or through the batch API
    price:     in words; None: unknown
    rows, requests: rows of train, and distinct prompts among them
    known:     requests that the ledger has the answer to
    failed:    requests that failed for good: asked again with --retry-failed alone
    shared:    requests without an answer that a question further up asks as well
    missing:   the others: what a run will send
    answers:   known answers that the expectation rests on; 0: on assumptions
    unmeasured: those among them whose tokens the server did not count: charged at the worst case
    input, output: tokens of the missing; dollars: what they cost, batch: through the batch API
               (None where the teacher has none)
    """

    arms: tuple[str, ...]
    strategy: str
    teacher: str | None
    mode: Mode
    price: str | None
    rows: int
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


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """A cap of the recipe, in US dollars. charged: by runs of its name so far."""

    budget_usd: float
    charged_usd: float
    left_usd: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe's rationales will take.

    asked:   requests that the pilot sent
    dollars, batch: of all questions; batch with what has no batch API at its own price
    """

    name: str
    asked: int
    questions: tuple[QuestionPlan, ...]
    dollars: Amount
    batch: Amount
    budgets: tuple[BudgetPlan, ...]
    warnings: tuple[str, ...]


def plan_recipe(recipe: Recipe, ledger: Path | None, pilot: int | None, observer: Observer) -> Plan:
    """Count and price what the arms of a recipe will ask.

    ledger: the file that answers are kept in; None: the one at its default path. It is not made.
    pilot:  of each question, ask so many requests first, within the budget; None: ask nothing

    The requests of a pilot are those with the smallest keys, which are digests: a random sample
    that does not change with the order of the rows, and of which a larger one is a continuation.
    So a pilot asked again asks nothing. Its forecast rests on these requests alone; without a
    pilot it rests on all answers in the ledger, which the first rows of a file may have to
    themselves.

    Raises DataError and UsageError for rows and teachers as a run does, and TeacherError where a
    pilot cannot be asked.
    """
    task = recipe.resolved_task()
    rows = load_splits(recipe).train
    surveys = [_Survey(recipe, arms, rows, task, observer) for arms in _questions(recipe)]
    path = default_path() if ledger is None else ledger
    asked = 0
    if pilot is not None:
        for survey in surveys:
            if survey.priced is not None:
                asked += survey.ask(pilot, path, recipe.name)
    planned: set[int] = set()
    book = Ledger(path) if path.exists() else None
    try:
        questions = tuple(survey.plan(book, planned) for survey in surveys)
        charged = 0 if book is None else accounts.charged(book, recipe.name)
    finally:
        if book is not None:
            book.close()
    caps = {s.settings.budget_usd for s in surveys if s.settings is not None}
    budgets = tuple(
        BudgetPlan(cap, charged / PICO, max(cap - charged / PICO, 0.0))
        for cap in sorted(cap for cap in caps if cap is not None)
    )
    dollars = sum_of([question.dollars for question in questions])
    batch = sum_of([question.batch or question.dollars for question in questions])
    to_pay = sum_of([q.batch if q.mode == "batch" and q.batch else q.dollars for q in questions])
    warnings = tuple(itertools.chain.from_iterable(survey.warnings() for survey in surveys))
    return Plan(
        name=recipe.name,
        asked=asked,
        questions=questions,
        dollars=dollars,
        batch=batch,
        budgets=budgets,
        warnings=(*warnings, *_assumed(questions), *_over(budgets, to_pay)),
    )


def _questions(recipe: Recipe) -> list[list[ArmSection]]:
    """The arms that have a strategy, those with one question together."""
    groups: dict[object, list[ArmSection]] = {}
    for arm in recipe.arms:
        if arm.strategy is not None:
            groups.setdefault(arm.question, []).append(arm)
    return list(groups.values())


class _Survey:
    """One question of a recipe: its prompts, and what is known of their answers."""

    def __init__(
        self,
        recipe: Recipe,
        arms: Sequence[ArmSection],
        rows: Sequence[Example],
        task: Task,
        observer: Observer,
    ) -> None:
        first = arms[0]
        assert first.strategy is not None
        self._arms = tuple(arm.name for arm in arms)
        self._rows = rows
        self._observer = observer
        self._task = task
        self._strategy: Strategy = get_strategy(first.strategy, template=first.template, task=task)
        section = recipe.teacher_of(first) if self._strategy.asks_teacher else None
        self.settings: TeacherSettings | None = None if section is None else section.settings()
        self._teacher: Teacher | None = None
        if self.settings is not None:
            self._teacher = open_teacher(self.settings)
        self.priced: Teacher | None = self._teacher
        if self._teacher is not None and not self._teacher.paid:
            self.priced = None  # looks its answers up
        self._remote = self.settings is not None and self.settings.model.startswith("openai:")
        self._price = self._find_price()
        self._pilot: frozenset[str] = frozenset()
        self._reasons: dict[str, int] = {}
        self._plan = QuestionPlan(
            arms=self._arms,
            strategy=self._strategy.name,
            teacher=None if self.settings is None else self.settings.model,
            mode="live" if self.settings is None else self.settings.mode,
            price=self._describe_price(),
            rows=len(rows),
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
        name = self._arms[0]

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
        sample: list[tuple[str, Known]] = []
        requests = known = failed = shared = 0
        distinct = self._distinct()
        while chunk := dict(itertools.islice(distinct, _CHUNK)):
            requests += len(chunk)
            found: dict[str, Completion] = {}
            hopeless: Collection[str] = ()
            if book is not None:
                found = book.get_many(chunk)
                with book.reading() as connection:
                    hopeless = accounts.failures_of(connection, chunk)
            known += len(found)
            for key, request in chunk.items():
                size = sum(len(m.content.encode("utf-8", "replace")) for m in request.messages)
                bound = request_bound(request)
                if key in found:
                    if not self._pilot or key in self._pilot:
                        sample.append((key, Known(size, bound, found[key].usage)))
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
        load = Load(sizes, bounds)
        assert self.settings is not None
        limit = self.settings.max_tokens
        live = forecast(load, answers, limit, self._price)
        batch = None
        if self._remote and self._price is not None and not self._price.free:
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
        name = self._arms[0]
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
        renderer = Renderer(self._strategy, self._task, teacher)
        for row, example in enumerate(self._rows, 1):
            if row % _REPORT_EVERY == 0:
                counted = Progress(row, total, cached=0, failed=0, requests=0)
                self._observer.annotating(f"{self._arms[0]}, counted", counted)
            key, request = renderer.question(example)
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


def _smallest(sample: list[tuple[str, Known]]) -> list[tuple[str, Known]]:
    return heapq.nsmallest(_SAMPLE, sample, key=lambda found: found[0])


def _dollars(found: Forecast) -> Amount:
    return amount_of(found.pico, found.most_pico, PICO)


def _assumed(questions: Iterable[QuestionPlan]) -> Iterator[str]:
    if any(question.missing and not question.answers for question in questions):
        yield (
            f"where no answer is known, a token for {BYTES_PER_TOKEN} bytes of prompt and answers "
            "of max_tokens are expected: --pilot 20 asks 20 first and forecasts from those"
        )


def _over(budgets: Sequence[BudgetPlan], dollars: Amount) -> Iterator[str]:
    for budget in budgets:
        left = f"the ${budget.left_usd:,.2f} that budget_usd {budget.budget_usd:g} has left"
        for name, verb, value in (
            ("expected", "will", dollars.expected),
            ("worst case", "may", dollars.most),
        ):
            if value is not None and value > budget.left_usd:
                yield f"the {name} ${value:,.2f} is more than {left}: a run {verb} stop there"
                break
