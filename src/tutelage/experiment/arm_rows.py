"""What the students of each arm and seed learn: gold rows, and what the money bought.

    gold rows in the seed's order          data.gold of them, or the arm's own number
    + rationales of gold rows              bought until the spend is used up
    + unlabelled rows with labels          of a teacher, of two that agree, or of a student
    + their rationales

An experiment in which no arm buys and all gold rows are learnt has one set of rows for all seeds.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.config.arm_settings import ArmSection
from tutelage.config.design_rules import controls_of, treatment_arms
from tutelage.config.recipe import Recipe
from tutelage.config.spend_settings import SpendSection
from tutelage.core.errors import BatchesOpenError, DataError, TeacherError
from tutelage.core.progress import Observer
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction, Rationale, TrainingExample
from tutelage.experiment.arm_strategies import strategy_of
from tutelage.experiment.asking import Asking
from tutelage.experiment.batch_rounds import ask_in_few_rounds
from tutelage.experiment.bought_labels import labelled_rows, of_its_label, random_filter
from tutelage.experiment.gold_sizes import gold_orders, gold_rows, rows_drawn_first
from tutelage.experiment.learnt_rows import ArmRows, Learnt
from tutelage.experiment.prepare import Splits, apply_control
from tutelage.experiment.purchases import (
    Asker,
    Bought,
    Purchase,
    affordable,
    buy,
    combined,
    purchase_of,
    total_of,
)
from tutelage.experiment.row_orders import block_sizes, seed_orders
from tutelage.student.encoding.targets import build_training_examples
from tutelage.teacher.annotate import Annotation

_SURE = 100
"""Unlabelled rows whose answers say how frequent the labels are among them."""

_FEWEST_SURE = 30
"""With fewer, the labels' shares are better taken from the training rows."""


def draw_rows(
    recipe: Recipe,
    splits: Splits,
    ledger: Path | None,
    observer: Observer,
    *,
    retry_failed: bool = False,
    wait: bool = True,
) -> ArmRows:
    """Draw every seed's rows, and buy what each arm may.

    Raises DataError where there are fewer rows than an arm is to learn, TeacherError where an arm
    has bought nothing that can be learnt, and whatever `annotate` raises.
    """
    drawing = _Drawing(recipe, splits, ledger, observer, retry_failed, wait)
    drawing.ask_ahead()
    learnt: dict[str, dict[int, Learnt]] = {}
    for arm in recipe.arms:
        if arm.control != "self_training":
            learnt[arm.name] = {seed: drawing.learnt(arm, seed) for seed in recipe.replicates}
            _check_usable(arm, learnt[arm.name])
    return ArmRows(learnt, drawing.annotations(), drawing.left_over())


def rows_bought_in_any_case(
    recipe: Recipe, splits: Splits, ledger: Path | None, observer: Observer
) -> tuple[Example, ...]:
    """Some unlabelled rows that will be bought in any case; nothing is asked."""
    return _Drawing(recipe, splits, ledger, observer, False, True).sure_rows()


def self_training_rows(
    recipe: Recipe, arm: ArmSection, rows: ArmRows, labelled: Mapping[int, Sequence[Prediction]]
) -> dict[int, Learnt]:
    """What a self-training arm learns: the rows of its treatment arm, with a student's labels.

    labelled: seed -> predictions of that seed's student of labels alone for the pool rows that
              `self_training_pool` names

    The labels are hard and unfiltered: each row has the label that is most probable.
    """
    own = {}
    for seed, wanted in self_training_pool(recipe, arm, rows).items():
        labels = {prediction.uid: prediction.label for prediction in labelled[seed]}
        pool = tuple(dataclasses.replace(e, label=labels[e.uid]) for e in wanted)
        own[seed] = Learnt(rows.learnt[recipe.baseline.name][seed].gold, pool)
    return own


def self_training_pool(
    recipe: Recipe, arm: ArmSection, rows: ArmRows
) -> dict[int, tuple[Example, ...]]:
    """Seed -> the rows that a self-training arm has labelled: as many as the first arm that it is a
    control of learns, and the same ones."""
    treated = next(
        one for one in treatment_arms(recipe.arms) if arm in controls_of(one, recipe.arms)
    )
    return {seed: learnt.pool for seed, learnt in rows.learnt[treated.name].items()}


def training_examples(
    learnt: Learnt, arm: ArmSection, task: Task, gold_share: float | None
) -> list[TrainingExample]:
    """The training rows of one arm and seed; gold rows are repeated to come near `gold_share`.

    task: of the arm, without the fields that it omits
    """
    rationales = list(learnt.rationales)
    gold = build_training_examples(
        learnt.gold, task, _of(rationales, learnt.gold), arm.effective_objective
    )
    pool = build_training_examples(
        learnt.pool, task, _of(rationales, learnt.pool), arm.effective_objective
    )
    return gold * repeats(len(gold), len(pool), gold_share) + pool


def repeats(gold: int, pool: int, share: float | None) -> int:
    """How often each gold row is repeated, so that gold rows are nearest to `share` of all."""
    if share is None or not gold or not pool:
        return 1
    wanted = share / (1 - share) * pool / gold
    around = {max(1, math.floor(wanted)), max(1, math.ceil(wanted))}
    return min(around, key=lambda times: abs(times * gold / (times * gold + pool) - share))


def _of(rationales: Sequence[Rationale], rows: Sequence[Example]) -> list[Rationale]:
    uids = {row.uid for row in rows}
    return [rationale for rationale in rationales if rationale.uid in uids]


class _Drawing:
    """The orders of all seeds, and what arms with the same requests have bought together."""

    def __init__(
        self,
        recipe: Recipe,
        splits: Splits,
        ledger: Path | None,
        observer: Observer,
        retry_failed: bool,
        wait: bool,
    ) -> None:
        self._recipe, self._splits, self._observer = recipe, splits, observer
        self._asking = Asking(recipe, ledger, observer, retry_failed, wait)
        self._task = recipe.resolved_task()
        seeds, disjoint = recipe.replicates, recipe.data.draws == "disjoint"
        self._gold = gold_orders(recipe, splits.train)
        pool = () if splits.pool is None else splits.pool.rows
        self._pool = seed_orders(pool, seeds, "pool", self._task, disjoint=disjoint)
        self._askers: dict[tuple[Any, ...], Asker] = {}
        self._bought: dict[tuple[tuple[Any, ...], int], Sequence[Bought]] = {}
        self._batched: dict[tuple[Any, ...], dict[str, Bought]] = {}
        self._check_sizes()

    def ask_ahead(self) -> None:
        """Ask about the rows of all seeds at once where it is known beforehand which they are: one
        batch, or one stream of requests, in the place of one for each seed. Where it is not, and
        requests go in batches, all seeds share a few of these. Where batches are not waited for,
        BatchesOpenError is raised once those of all arms were sent."""
        waiting: BatchesOpenError | None = None
        done: set[tuple[Any, ...]] = set()
        for arm in self._recipe.arms:
            if arm.strategy is None or arm.annotation_key in done:
                continue
            done.add(arm.annotation_key)
            try:
                self._ask_ahead(arm)
            except BatchesOpenError as error:
                waiting = error
        if waiting is not None:
            raise waiting

    def _ask_ahead(self, arm: ArmSection) -> None:
        asker, spend = self._asker(arm), self._largest_spend(arm)
        orders = [self._order(arm, seed) for seed in self._recipe.replicates]
        if spend is not None and spend.unit != "rows":
            if asker.batches:
                self._batched[arm.annotation_key] = ask_in_few_rounds(orders, spend, asker)
        elif asker.is_paid:
            count = None if spend is None else round(spend.amount)
            rows = {row.uid: row for order in orders for row in order[:count]}
            asker.ask(list(rows.values()))

    def sure_rows(self) -> tuple[Example, ...]:
        """Unlabelled rows that the first seed buys in any case, at most `_SURE` of them."""
        seed = self._recipe.replicates[0]
        for arm in self._recipe.arms:
            spend = self._largest_spend(arm)
            if not arm.learns_pool or arm.control is not None:
                continue
            order, asker = self._order(arm, seed)[:_SURE], self._asker(arm)
            if spend is None:
                return tuple(order)
            left, rows = total_of(spend), list[Example]()
            for row in order:
                left -= asker.most(row, spend.unit, frozenset())
                if left < 0:
                    break
                rows.append(row)
            return tuple(rows) if len(rows) >= _FEWEST_SURE else ()
        return ()

    def learnt(self, arm: ArmSection, seed: int) -> Learnt:
        """What the student of an arm and seed learns."""
        gold = self._gold[seed][: gold_rows(self._recipe, arm, len(self._splits.train))]
        if arm.strategy is None:
            return Learnt(gold)
        asker = self._asker(arm)
        spend = self._spend(arm)
        rows = affordable(self._rows(arm, seed), spend, asker)
        purchase = purchase_of(rows)
        if not arm.learns_pool:
            return self._with_rationales(arm, gold, purchase)
        kept, left_out = labelled_rows(rows, agreeing=arm.agrees_with is not None)
        if arm.control == "random_filter":
            kept = random_filter(rows, kept, seed)
        pool = tuple(dataclasses.replace(row.example, label=label) for row, label in kept)
        answers = [row.answers[0] for row, _ in kept]
        rationales = self._controlled(arm, answers, pool)
        return Learnt(gold, pool, tuple(rationales), purchase, left_out)

    def annotations(self) -> dict[str, Annotation]:
        """The answers of all seeds, by arm."""
        found = {}
        for arm in self._recipe.arms:
            if arm.strategy is None or arm.annotation_key not in self._askers:
                continue
            rows = [
                row
                for (key, _), bought in self._bought.items()
                if key == arm.annotation_key
                for row in bought
            ]
            found[arm.name] = combined(rows, self._askers[arm.annotation_key])
        return found

    def _with_rationales(
        self, arm: ArmSection, gold: tuple[Example, ...], purchase: Purchase
    ) -> Learnt:
        """Gold rows, with the rationales of those that were bought."""
        known = {row.example.uid: row.answers[0] for row in purchase.rows}
        asked = [example for example in gold if example.uid in known]
        answers = [of_its_label(known[example.uid], example) for example in asked]
        return Learnt(gold, (), tuple(self._controlled(arm, answers, asked)), purchase)

    def _controlled(
        self, arm: ArmSection, rationales: Sequence[Rationale], rows: Sequence[Example]
    ) -> list[Rationale]:
        """What the arm learns in their place, if it is a control. Rows of other seeds are not
        touched: a shuffled rationale comes from a row of the same draw."""
        if arm.effective_objective == "label":
            return []
        return apply_control(arm, rationales, rows, self._task)

    def _rows(self, arm: ArmSection, seed: int) -> Sequence[Bought]:
        """What arms with these requests buy for one seed, for the largest of their spends."""
        key = (arm.annotation_key, seed)
        if key not in self._bought:
            order, spend = self._order(arm, seed), self._largest_spend(arm)
            asker, batched = self._asker(arm), self._batched.get(arm.annotation_key)
            if batched is None:
                self._bought[key] = buy(order, spend, asker)
            else:
                there = itertools.takewhile(lambda row: row.uid in batched, order)
                self._bought[key] = affordable([batched[row.uid] for row in there], spend, asker)
        return self._bought[key]

    def left_over(self) -> tuple[Bought, ...]:
        """Rows that were asked about in batches and that no seed has bought; a note where there are
        some."""
        bought = {(key, row.example.uid) for (key, _), rows in self._bought.items() for row in rows}
        left = tuple(
            row
            for key, answered in self._batched.items()
            for uid, row in answered.items()
            if (key, uid) not in bought
        )
        if left:
            self._observer.note(
                f"{len(left)} answers of batches are left over: rows cost more than was to be "
                "expected, so that the spend does not buy these"
            )
        return left

    def _order(self, arm: ArmSection, seed: int) -> Sequence[Example]:
        """The rows that an arm may ask about, in the seed's order."""
        if arm.learns_pool:
            return self._pool[seed]
        return self._gold[seed][: gold_rows(self._recipe, arm, len(self._splits.train))]

    def _largest_spend(self, arm: ArmSection) -> SpendSection | None:
        """The largest spend of the arms with its requests."""
        same = [a for a in self._recipe.arms if a.annotation_key == arm.annotation_key]
        spends = [spend for one in same if (spend := self._spend(one)) is not None]
        return max(spends, key=lambda spend: spend.amount, default=None)

    def _spend(self, arm: ArmSection) -> SpendSection | None:
        return None if self._recipe.spend is None else self._recipe.spend.of(arm.spend)

    def _asker(self, arm: ArmSection) -> Asker:
        key = arm.annotation_key
        if key not in self._askers:
            strategy = strategy_of(self._recipe, arm, self._splits.train)
            self._askers[key] = Asker(arm, self._asking, strategy)
        return self._askers[key]

    def _check_sizes(self) -> None:
        rows, recipe = self._splits.train, self._recipe
        sizes = [gold_rows(recipe, arm, len(rows)) for arm in recipe.arms]
        if max(sizes) > len(rows):
            arm = recipe.arms[sizes.index(max(sizes))]
            raise DataError(
                f"arm {arm.name!r} is to learn {max(sizes):,} gold rows, and train has "
                f"{len(rows):,}: lower gold, or add rows"
            )
        if recipe.data.draws == "disjoint":
            first = rows_drawn_first(recipe, rows)
            sizes_of = block_sizes(rows, len(recipe.replicates), "gold", self._task, first)
            smallest = min(sizes_of)
            if max(sizes) > smallest:
                self._observer.note(
                    f"seeds share gold rows: {max(sizes):,} are drawn from blocks of {smallest:,}"
                )


def _check_usable(arm: ArmSection, by_seed: Mapping[int, Learnt]) -> None:
    """Raises TeacherError where an arm has paid for answers, and none can be learnt."""
    for seed, learnt in by_seed.items():
        if learnt.purchase is None:
            continue
        if not learnt.purchase.rows:
            raise TeacherError(
                f"arm {arm.name!r}, seed {seed}: the spend does not cover a single request at its "
                "most: raise spend, or lower the teacher's max_tokens"
            )
        usable = learnt.pool if arm.learns_pool else learnt.rationales
        if arm.learns_pool and not learnt.pool:
            raise TeacherError(
                f"arm {arm.name!r}, seed {seed}: none of {len(learnt.purchase.rows)} answers gives "
                "a label: check the teacher with `tutelage doctor RECIPE`"
            )
        if not arm.learns_pool and not any(r.status == "ok" for r in learnt.rationales):
            first = learnt.purchase.rows[0].answers[0]
            raise TeacherError(
                f"arm {arm.name!r}: none of {len(usable)} rationales can be used (the first is "
                f"{first.status!r}: {first.detail or 'no detail'}): check the teacher with "
                "`tutelage doctor RECIPE`"
            )
