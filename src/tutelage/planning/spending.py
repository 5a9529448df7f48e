"""Before anything is paid: how many rows each arm's spend buys, and what can be told afterwards.

How many rows a spend in dollars or tokens buys is an estimate, from answers in the ledger, or else
from the length of prompts and the longest answer. A run buys row by row, and never more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.config.arm_settings import ArmSection
from tutelage.config.design_rules import treatment_arms
from tutelage.config.recipe import Recipe
from tutelage.config.spend_settings import SpendSection, SpendUnit
from tutelage.core.progress import Observer
from tutelage.core.types import Example
from tutelage.core.wording import dollars, joined, several
from tutelage.evaluation.bag_of_words import bag_of_words
from tutelage.evaluation.gold_equivalent import checked_sizes, closing_range
from tutelage.evaluation.power import Design
from tutelage.experiment.arm_strategies import strategy_of
from tutelage.experiment.asking import Asking
from tutelage.experiment.gold_sizes import gold_orders, gold_rows, on_curve
from tutelage.experiment.prepare import Splits
from tutelage.experiment.purchases import Asker
from tutelage.experiment.row_orders import seed_orders
from tutelage.planning.power_analysis import PowerAnalysis
from tutelage.teacher.cost.forecast import KnownAnswer, Workload, forecast
from tutelage.teacher.cost.prices import PICO, request_bound
from tutelage.teacher.ledger.store import Ledger

_PRICED = 200
"""Rows from whose prompts the cost of a row is estimated."""


@dataclass(frozen=True, slots=True)
class ArmSpending:
    """What one arm is expected to buy.

    spend: in `Spending.unit`; None without a limit
    rows:  that one seed's spend is expected to buy answers for
    of:    rows that it may buy answers for: of the pool, or its gold rows
    union: rows that all seeds together ask about, as far as is known
    """

    arm: str
    spend: float | None
    rows: int
    of: int
    union: int


@dataclass(frozen=True, slots=True)
class Spending:
    """What the arms are expected to buy, and what the answer can be.

    unit:  of the spends; None without a limit
    seeds: each of which draws its own rows
    arms:  those that ask a teacher, controls aside
    gold:  sizes of the curve of gold rows
    gold_sentence: whether gold equivalents can be had
    answerable: whether it can be told what the money is best spent on
    """

    unit: SpendUnit | None
    seeds: int
    arms: tuple[ArmSpending, ...]
    gold: tuple[int, ...]
    gold_sentence: str
    answerable: str

    def sentences(self) -> Iterator[str]:
        """What `tutelage plan` prints."""
        for arm in self.arms:
            limit = "all rows" if arm.spend is None else amount_in_words(arm.spend, self.unit)
            exact = "" if self.unit in (None, "rows", "requests") else "about "
            yield (
                f"{arm.arm}: {limit} for each seed: {exact}{arm.rows:,} of {arm.of:,} rows; "
                f"{several(self.seeds, 'seed')} together ask about {arm.union:,}, each answer once"
            )
        yield self.gold_sentence
        yield self.answerable


def amount_in_words(amount: float, unit: SpendUnit | None) -> str:
    """`$1.00`, `700 rows`."""
    return dollars(amount) if unit == "dollars" else f"{amount:,.0f} {unit or 'rows'}"


def planned_rows(
    recipe: Recipe, splits: Splits, book: Ledger | None, observer: Observer
) -> Mapping[tuple[Any, ...], Sequence[Sequence[Example]]]:
    """Annotation key of the arms that share requests -> for each seed, the rows that the largest of
    their spends is expected to buy."""
    task, seeds = recipe.resolved_task(), recipe.replicates
    disjoint = recipe.data.draws == "disjoint"
    gold = gold_orders(recipe, splits.train)
    pool = seed_orders(
        () if splits.pool is None else splits.pool.rows, seeds, "pool", task, disjoint=disjoint
    )
    planned: dict[tuple[Any, ...], list[list[Example]]] = {}
    for arm in recipe.arms:
        if arm.strategy is None or arm.annotation_key in planned:
            continue
        same = [one for one in recipe.arms if one.annotation_key == arm.annotation_key]
        spend = _largest(recipe, same)
        asker = None if spend is None else _asker(recipe, arm, splits, observer)
        own = gold_rows(recipe, arm, len(splits.train))
        planned[arm.annotation_key] = [
            _bought(pool[seed] if arm.learns_pool else gold[seed][:own], spend, asker, book)
            for seed in seeds
        ]
    return planned


def plan_spending(
    recipe: Recipe,
    splits: Splits,
    planned: Mapping[tuple[Any, ...], Sequence[Sequence[Example]]],
    book: Ledger | None,
    observer: Observer,
    design: Design | None,
    power: PowerAnalysis | None,
) -> Spending:
    """What the arms are expected to buy.

    design, power: of the comparison of two arms; None where nothing can be compared
    """
    arms = []
    for arm in treatment_arms(recipe.arms):
        if arm.equal == "epochs":
            continue  # it learns what the arm that it is a variant of learns
        spend = None if recipe.spend is None else recipe.spend.of(arm.spend)
        asker = None if spend is None else _asker(recipe, arm, splits, observer)
        by_seed = [_bought(rows, spend, asker, book) for rows in planned[arm.annotation_key]]
        available = (
            len(splits.pool or ()) if arm.learns_pool else gold_rows(recipe, arm, len(splits.train))
        )
        arms.append(
            ArmSpending(
                arm=arm.name,
                spend=None if spend is None else spend.amount,
                rows=round(sum(map(len, by_seed)) / len(by_seed)),
                of=available,
                union=len({row.uid for rows in by_seed for row in rows}),
            )
        )
    sizes = sorted(
        {gold_rows(recipe, arm, len(splits.train)) for arm in recipe.arms if on_curve(arm)}
    )
    return Spending(
        unit=None if recipe.spend is None else recipe.spend.unit,
        seeds=len(recipe.replicates),
        arms=tuple(arms),
        gold=tuple(sizes),
        gold_sentence=_gold_sentence(recipe, splits, sizes, design),
        answerable=_answerable(power),
    )


def training_size(
    recipe: Recipe, splits: Splits, planned: Mapping[tuple[Any, ...], Sequence[Sequence[Example]]]
) -> int:
    """Rows of the arm that is expected to learn most: they decide the steps of every training."""
    most = max(gold_rows(recipe, arm, len(splits.train)) for arm in recipe.arms)
    for arm in recipe.arms:
        if arm.learns_pool and arm.annotation_key in planned:
            bought = max(len(rows) for rows in planned[arm.annotation_key])
            most = max(most, gold_rows(recipe, arm, len(splits.train)) + bought)
    return most


def _largest(recipe: Recipe, arms: Sequence[ArmSection]) -> SpendSection | None:
    if recipe.spend is None:
        return None
    return max((recipe.spend.of(arm.spend) for arm in arms), key=lambda spend: spend.amount)


def _asker(recipe: Recipe, arm: ArmSection, splits: Splits, observer: Observer) -> Asker:
    strategy = strategy_of(recipe, arm, splits.train)
    return Asker(arm, Asking(recipe, None, observer), strategy)


def _bought(
    order: Sequence[Example], spend: SpendSection | None, asker: Asker | None, book: Ledger | None
) -> list[Example]:
    """The rows of `order` that a spend is expected to buy."""
    if spend is None or asker is None:
        return list(order)
    asker.check_unit(spend.unit)
    if spend.unit == "rows":
        return list(order[: round(spend.amount)])
    if spend.unit == "requests":
        seen: set[str] = set()
        for place, row in enumerate(order):
            seen.update(asker.keys(row))
            if len(seen) > spend.amount:
                return list(order[:place])
        return list(order)
    each = _cost_of_a_row(order[:_PRICED], spend.unit, asker, book)
    count = len(order) if each == 0 else math.floor(spend.amount / each)
    return list(order[:count])


def _cost_of_a_row(
    rows: Sequence[Example], unit: SpendUnit, asker: Asker, book: Ledger | None
) -> float:
    """The expected cost of one row, in dollars or tokens, from the prompts of these rows."""
    total = 0.0
    for builder, price, settings in asker.teachers():
        distinct = dict(builder.pending(row) for row in rows)
        sizes = [sum(len(m.content.encode()) for m in r.messages) for r in distinct.values()]
        bounds = [request_bound(request) for request in distinct.values()]
        found = {} if book is None else book.get_many(distinct)
        known = [
            KnownAnswer(size, bound, found[key].usage)
            for key, size, bound in zip(distinct, sizes, bounds, strict=True)
            if key in found
        ]
        expected = forecast(Workload(sizes, bounds), known, settings.max_tokens, price)
        if unit == "dollars":
            total += (expected.pico.expected if expected.pico else 0) / PICO
        else:
            for part in (expected.input, expected.output):
                total += 0 if part is None else part.expected
    return total / max(len(rows), 1)


def _gold_sentence(
    recipe: Recipe, splits: Splits, sizes: Sequence[int], design: Design | None
) -> str:
    """Whether an arm's worth in gold rows can be told, as far as a bag of words can say."""
    listed = joined([f"{size:,}" for size in sizes])
    try:
        checked_sizes(sizes)
    except ValueError:
        return (
            f"gold equivalents: none, with {listed} gold rows: four sizes or more are needed, each "
            "about twice the one before: add arms with `gold`"
        )
    if design is None or max(sizes) > len(splits.train):
        return f"gold equivalents: the curve has {listed} gold rows"
    task, seed = recipe.resolved_task(), recipe.replicates[0]
    order = gold_orders(recipe, splits.train, [seed])[seed]
    accuracies = [
        max(
            bag_of_words(order[:size], splits.dev, splits.dev[:1], task, recipe.metric).dev_accuracy
        )
        for size in sizes
    ]
    found = closing_range(sizes, accuracies, design)
    rise = (
        f"a bag of words rises by {100 * found.rise:.1f} points from {sizes[0]:,} to {sizes[-1]:,}"
    )
    if found.low is None or found.high is None:
        return (
            f"gold equivalents: their intervals are not expected to close: {rise}, and each end "
            f"needs {_points(found.distance)}: more seeds, test rows, or sizes further apart"
        )
    return (
        f"gold equivalents: intervals are expected to close for arms that are worth "
        f"{found.low:,.0f} to {found.high:,.0f} gold rows in all ({rise})"
    )


_LARGE = 0.10
"""Differences between such arms are rarely larger, a fraction: see docs/results.md."""


def _answerable(power: PowerAnalysis | None) -> str:
    """Whether the experiment can tell which arm is best, before anything is paid."""
    best = "what the money is best spent on"
    if power is None:
        return f"{best} cannot be told: nothing is compared"
    size = f"{power.rows:,} test rows and {several(power.seeds, 'seed')}"
    found = power.expected.detectable
    if found is None:
        return f"{best} cannot be told with {size}: no difference can be detected"
    points = f"{100 * found:.0f} points" if found >= 0.1 else f"{100 * found:.1f} points"
    if found < _LARGE:
        return f"{best} can be told where arms differ by about {points} or more"
    less = [s for s in power.other_seeds if s.detectable is not None and s.detectable < _LARGE]
    rows = power.more_rows.detectable
    cures = [f"{less[0].seeds} seeds"] if less else []
    cures += ["twice the test rows"] if rows is not None and rows < _LARGE else []
    cure = f": {' or '.join(cures)} would do" if cures else ": it takes more test rows and seeds"
    return (
        f"{best} cannot be told with {size}, unless arms differ by {points}, which is rarely so"
        f"{cure}; --detect 5 says what it takes for 5 points"
    )


def _points(distance: float | None) -> str:
    return "more than there is" if distance is None else f"{100 * distance:.1f} points"
