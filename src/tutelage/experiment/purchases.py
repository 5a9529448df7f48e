"""What each arm buys from its teachers, for each seed, until its spend is used up.

For a seed an arm asks about the rows in the seed's order (`row_orders`), one after the other. It
asks about the next row as long as what is left of its spend covers the most that the row can cost;
what it really costs is then taken off. So an arm never spends more than it may, what it buys does
not depend on what other arms or seeds have bought, and a smaller spend buys the first rows of what
a larger one buys. Answers come from the ledger where they are: each is paid for once, and counted
in full for every arm and seed that uses it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tutelage.config.arm_settings import ArmSection
from tutelage.config.spend_settings import SpendSection, SpendUnit
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import UsageError
from tutelage.core.types import Example, Rationale, Usage
from tutelage.experiment.asking import Asking
from tutelage.strategies.lookup import Strategy
from tutelage.teacher.annotate import Annotation
from tutelage.teacher.cost.budget import price_for
from tutelage.teacher.cost.prices import (
    PICO,
    Price,
    output_bound,
    request_bound,
    worst_case,
)
from tutelage.teacher.engine.requests import PendingRequest, RequestBuilder
from tutelage.teacher.registry import is_looked_up, open_teacher
from tutelage.teacher.summary import Summary

_SHOWN = 50
"""Rows of a call from which on its progress is shown: towards the end of a spend they are few."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One request of a row: which it is, and what its answer cost.

    key:  of the request; two rows with one prompt share it
    pico: pico-dollars; None where the teacher has no price
    prompt, completion: tokens; where the server did not count them, the most that they can be
    counted: whether it did
    """

    key: str
    pico: int | None
    prompt: int
    completion: int
    counted: bool = True

    @property
    def tokens(self) -> int:
        """Of prompt and answer together."""
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Bought:
    """A row that an arm bought an answer for.

    answers: one of each teacher that was asked
    charges: likewise
    """

    example: Example
    answers: tuple[Rationale, ...]
    charges: tuple[Charge, ...]


@dataclass(frozen=True, slots=True)
class Purchase:
    """What one arm bought for one seed, in order, and the cost of its use: what it pays alone.

    cost_usd: None where a teacher has no price
    requests: distinct ones
    """

    rows: tuple[Bought, ...]
    cost_usd: float | None
    tokens: int
    requests: int


def purchase_of(rows: Sequence[Bought]) -> Purchase:
    """The cost of these rows: each request counts once."""
    charges = distinct_charges(rows)
    return Purchase(tuple(rows), cost_of(charges), sum(c.tokens for c in charges), len(charges))


def distinct_charges(rows: Iterable[Bought]) -> list[Charge]:
    """The charges of rows, those of one request once."""
    return list({charge.key: charge for row in rows for charge in row.charges}.values())


def counted_tokens(charges: Sequence[Charge]) -> Usage:
    """Tokens of all answers; None where a server did not count those of one."""
    if not all(charge.counted for charge in charges):
        return Usage()
    return Usage(sum(c.prompt for c in charges), sum(c.completion for c in charges))


def cost_of(charges: Iterable[Charge]) -> float | None:
    """Dollars; None where a price is not known."""
    costs = [charge.pico for charge in charges]
    return None if None in costs else sum(cost or 0 for cost in costs) / PICO


class Asker:
    """Asks the teachers of one arm, and knows what a request can cost and has cost.

    An arm with a second teacher asks both about each row.

    summaries: of each teacher, one for every call
    failed:    rows that the first teacher has not answered, by their last call: uid -> reason
    """

    def __init__(
        self,
        arm: ArmSection,
        asking: Asking,
        strategy: Strategy,
    ) -> None:
        self.name, self.strategy, self._asking = arm.name, strategy, asking
        recipe = asking.recipe
        first = recipe.teacher_of(arm) if strategy.asks_teacher else None
        self.settings = [each for each in (first, arm.agrees_with) if each is not None]
        self._builders: list[RequestBuilder] = []
        self._prices: list[Price | None] = []
        for settings in self.settings:
            teacher = open_teacher(settings)
            self._builders.append(RequestBuilder(strategy, recipe.resolved_task(), teacher))
            self._prices.append(price_for(teacher.model, settings))
        self.summaries: list[list[Summary]] = [[] for _ in self.settings]
        self.failed: dict[str, str] = {}
        self.without_teacher: list[Summary] = []

    @property
    def batches(self) -> bool:
        """Whether requests go in batches, each of which may take a day."""
        return any(settings.mode == "batch" for settings in self.settings)

    @property
    def is_paid(self) -> bool:
        """Whether answers are paid for, and kept in the ledger; others are looked up each time."""
        return any(not is_looked_up(settings) for settings in self.settings)

    def teachers(self) -> Iterator[tuple[RequestBuilder, Price | None, TeacherSettings]]:
        """Each teacher's requests, price and settings."""
        return zip(self._builders, self._prices, self.settings, strict=True)

    def check_unit(self, unit: SpendUnit) -> None:
        """Raises UsageError where a spend of this unit has no meaning for the teachers."""
        if unit == "tokens" and any(map(is_looked_up, self.settings)):
            raise UsageError(
                "spend: is in tokens, and answers that are looked up have no counts of them: spend "
                "requests or rows"
            )
        if unit != "dollars":
            return
        for settings, price in zip(self.settings, self._prices, strict=True):
            if price is None:
                raise UsageError(
                    f"spend: is in dollars, and no price of {settings.model!r} is known: set the "
                    "teacher's price, or spend tokens, requests or rows"
                )

    def keys(self, example: Example) -> tuple[str, ...]:
        """The keys of a row's requests."""
        return tuple(builder.pending(example).key for builder in self._builders)

    def most(self, example: Example, unit: SpendUnit, known: frozenset[str] | set[str]) -> int:
        """What a row can cost at most, in `unit` (dollars: in pico-dollars).

        known: keys of requests that are paid for
        """
        if unit == "rows":
            return 1
        total = 0
        for builder, price in zip(self._builders, self._prices, strict=True):
            key, request = builder.pending(example)
            if key in known:
                continue
            if unit == "requests":
                total += 1
            elif unit == "tokens":
                total += request_bound(request) + output_bound(request)
            else:
                total += worst_case(request, price)
        return total

    def ask(self, rows: Sequence[Example]) -> list[Bought]:
        """The answers about these rows."""
        if not self.settings:  # they are in the data
            annotation = self._annotate(rows, None)
            self.without_teacher.append(annotation.summary)
            pairs = zip(rows, annotation.rationales, strict=True)
            return [Bought(example, (rationale,), ()) for example, rationale in pairs]
        by_teacher: list[tuple[Rationale, ...]] = []
        for place, settings in enumerate(self.settings):
            annotation = self._annotate(rows, settings, first=place == 0)
            self.summaries[place].append(annotation.summary)
            by_teacher.append(annotation.rationales)
        bought, paid = [], dict[str, Charge]()
        for example, *answers in zip(rows, *by_teacher, strict=True):
            charges = []
            for builder, answer, price in zip(self._builders, answers, self._prices, strict=True):
                charge = _charge(builder.pending(example), answer, price)
                # Of rows with one prompt the first carries the cost.
                charges.append(paid.setdefault(charge.key, charge))
            bought.append(Bought(example, tuple(answers), tuple(charges)))
        return bought

    def _annotate(
        self, rows: Sequence[Example], settings: TeacherSettings | None, first: bool = False
    ) -> Annotation:
        reasons: dict[str, str] = {}
        annotation = self._asking.annotate(
            rows,
            self.strategy,
            settings,
            self.name,
            shown_from=_SHOWN,
            on_failure=reasons.__setitem__,
        )
        if first:
            for row in rows:
                self.failed.pop(row.uid, None)
            self.failed |= reasons
        return annotation


def _charge(pending: PendingRequest, answer: Rationale, price: Price | None) -> Charge:
    """What an answer cost. What nobody counted is taken to be the most that it can be, so that a
    spend is never exceeded in silence; a request without an answer costs nothing."""
    key, request = pending
    usage = answer.usage
    counted = None not in (usage.prompt_tokens, usage.completion_tokens)
    if answer.status == "failed" and not answer.text and not counted and answer.cost_usd is None:
        return Charge(key, None if price is None else 0, 0, 0)
    prompt = usage.prompt_tokens if counted else request_bound(request)
    completion = usage.completion_tokens if counted else output_bound(request)
    pico: int | None
    if answer.cost_usd is not None:
        pico = round(answer.cost_usd * PICO)
    else:
        pico = None if price is None else worst_case(request, price)
    return Charge(key, pico, prompt or 0, completion or 0, counted)


def buy(order: Sequence[Example], spend: SpendSection | None, asker: Asker) -> list[Bought]:
    """Ask about the rows of `order` until `spend` is used up; None: about all of them."""
    if spend is None:
        return asker.ask(order)
    asker.check_unit(spend.unit)
    bought: list[Bought] = []
    known: set[str] = set()
    left = total_of(spend)
    while True:
        chunk, reserved, keys = [], 0, set(known)
        for example in order[len(bought) :]:
            most = asker.most(example, spend.unit, keys)
            if reserved + most > left:
                break
            chunk.append(example)
            reserved += most
            keys.update(asker.keys(example))
        if not chunk:
            return bought
        rows = asker.ask(chunk)
        left -= sum(costs_of_rows(rows, spend.unit, known))
        bought += rows


def affordable(
    bought: Sequence[Bought], spend: SpendSection | None, asker: Asker
) -> tuple[Bought, ...]:
    """The first rows of a purchase that a smaller spend would have bought."""
    if spend is None:
        return tuple(bought)
    left, known = total_of(spend), set[str]()
    for place, row in enumerate(bought):
        if asker.most(row.example, spend.unit, known) > left:
            return tuple(bought[:place])
        left -= sum(costs_of_rows([row], spend.unit, known))
    return tuple(bought)


def total_of(spend: SpendSection) -> int:
    """The amount as a whole number; dollars in pico-dollars."""
    return round(spend.amount * PICO) if spend.unit == "dollars" else round(spend.amount)


def costs_of_rows(rows: Sequence[Bought], unit: SpendUnit, known: set[str]) -> list[int]:
    """What each row cost, in `unit` (dollars: in pico-dollars). `known` gets the keys that are now
    paid for."""
    costs = []
    for row in rows:
        cost = 1 if unit == "rows" else 0
        for charge in row.charges:
            if charge.key in known or unit == "rows":
                continue
            known.add(charge.key)
            amounts = {"requests": 1, "tokens": charge.tokens, "dollars": charge.pico or 0}
            cost += amounts[unit]
        costs.append(cost)
    return costs


def combined(parts: Sequence[Bought], asker: Asker) -> Annotation:
    """The answers of an arm's first teacher over all seeds, each row once, with their numbers.
    Numbers of rows, such as failures by reason, count distinct rows over all calls.

    parts: of all seeds
    """
    rows = list({row.example.uid: row for row in parts}.values())
    rationales = [row.answers[0] for row in rows]
    statuses: dict[str, int] = {}
    for rationale in rationales:
        statuses[rationale.status] = statuses.get(rationale.status, 0) + 1
    calls = asker.summaries[0] if asker.summaries else asker.without_teacher
    last = calls[-1] if calls else None
    assert last is not None, "an arm that asked about nothing has no annotation"
    charges = distinct_charges(rows)
    counts = {status: statuses.get(status, 0) for status in last.counts}
    failures, examples, unparsable = Counter[str](), dict[str, str](), Counter[str]()
    for rationale in rationales:
        if (reason := asker.failed.get(rationale.uid)) is not None:
            failures[reason] += 1
            examples.setdefault(reason, rationale.detail)
        elif rationale.status == "failed":
            unparsable[rationale.detail] += 1
    summary = replace(
        last,
        counts=counts,
        requests=sum(call.requests for calls in asker.summaries for call in calls),
        cached=max(0, len(charges) - sum(c.requests for calls in asker.summaries for c in calls)),
        attempts=sum(call.attempts for calls in asker.summaries for call in calls),
        tokens=counted_tokens(charges),
        cost_usd=cost_of(charges),
        failures=dict(failures),
        examples=examples,
        unparsable=dict(unparsable),
    )
    return Annotation(tuple(rationales), summary)


Purchases = Mapping[str, Mapping[int, Purchase]]
"""Arm -> seed -> what it bought."""
