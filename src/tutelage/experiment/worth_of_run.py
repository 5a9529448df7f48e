"""`Results.worth`: what the money bought, and what it was worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from tutelage.config.arm_settings import ArmSection
from tutelage.config.comparisons import tested_arms
from tutelage.config.design_rules import treatment_arms
from tutelage.config.recipe import Recipe
from tutelage.core.results import (
    ArmResult,
    ArmWorth,
    Candidate,
    CheaperCandidate,
    CostOfUse,
    GoldWorth,
    Intervention,
    PreviewedArm,
    TeacherAgreement,
    Worth,
)
from tutelage.evaluation.gold_equivalent import (
    LEAST_SIZES,
    GoldEquivalent,
    break_even_price,
    checked_sizes,
    gold_equivalent,
)
from tutelage.evaluation.metrics import by_uid, correctness
from tutelage.evaluation.non_inferior import non_inferiority
from tutelage.evaluation.numeric import Floats
from tutelage.evaluation.possibly_best import possibly_best
from tutelage.experiment.gold_sizes import gold_rows, on_curve
from tutelage.experiment.learnt_rows import ArmRows, Learnt
from tutelage.experiment.prepare import Splits
from tutelage.experiment.purchases import cost_of
from tutelage.experiment.summarise import ArmRun


def describe_worth(
    recipe: Recipe,
    splits: Splits,
    rows: ArmRows,
    arms: Sequence[ArmResult],
    runs: Sequence[ArmRun],
    preview: tuple[PreviewedArm, ...],
    agreement: tuple[TeacherAgreement, ...],
) -> Worth:
    """What the arms learnt, what that cost, which may be best, and how many gold rows it is worth.

    rows: with the self-training arms, whose labels are known once students are trained
    """
    tables = _tables(recipe, splits, runs)
    groups = splits.groups(splits.test, recipe.resolved_task())
    units = [groups[example.uid] for example in splits.test]
    labels = [example.label for example in splits.test] if recipe.balanced else None
    worth = tuple(_describe_arm(recipe, splits, arm, rows, arms) for arm in recipe.arms)
    charges = rows.charges()
    curve, no_curve = _curve(recipe, splits)
    gold: tuple[GoldWorth, ...] = ()
    if not no_curve:
        treated = {arm.name for arm in treatment_arms(recipe.arms) if arm.equal == "steps"}
        points = {size: tables[name] for size, name in curve}
        gold = tuple(
            _gold_worth(
                each,
                gold_equivalent(tables[each.arm], points, each.gold_rows, units, labels=labels),
            )
            for each in worth
            if each.arm in treated
        )
    first = [run.replicates[seed].result for run in runs for seed in sorted(run.replicates)]
    return Worth(
        unit=None if recipe.spend is None else recipe.spend.unit,
        spend=None if recipe.spend is None else recipe.spend.amount,
        gold_price=recipe.gold_price,
        paid_usd=cost_of(charges),
        paid_requests=len(charges),
        gold_usd=None
        if recipe.gold_price is None
        else recipe.gold_price * (len(splits.dev) + len(splits.test)),
        orders=len(recipe.replicates),
        pool_rows=0 if splits.pool is None else len(splits.pool),
        train_rows=len(splits.train),
        steps=max((result.steps for result in first if result is not None), default=0),
        arms=worth,
        candidates=_candidates(recipe, tables, units, labels),
        margin=recipe.recommend_within / 100,
        cheaper=_cheaper(recipe, tables, units, {each.arm: each for each in worth}, labels),
        curve=curve,
        gold=gold,
        no_gold=no_curve,
        preview=preview,
        agreement=agreement,
    )


def _tables(recipe: Recipe, splits: Splits, runs: Sequence[ArmRun]) -> dict[str, Floats]:
    """Arm -> rows × seeds of correctness on the test set."""
    task, uids = recipe.resolved_task(), [example.uid for example in splits.test]
    return {
        run.arm.name: correctness(
            {seed: by_uid(rows, f"seed {seed}", task) for seed, rows in run.test.items()}, uids
        )
        for run in runs
    }


def _describe_arm(
    recipe: Recipe, splits: Splits, arm: ArmSection, rows: ArmRows, results: Sequence[ArmResult]
) -> ArmWorth:
    by_seed = rows.learnt[arm.name]
    found = next(each for each in results if each.name == arm.name)
    learnt = list(by_seed.values())
    count = len(learnt)
    pool = {example.uid for each in learnt for example in each.pool}
    gold = {example.uid for each in learnt for example in each.gold}
    left_out: dict[str, float] = {}
    for each in learnt:
        for reason, number in each.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + number / count
    spend = None if recipe.spend is None else recipe.spend.of(arm.spend).amount
    buys = arm.strategy is not None and arm.control != "self_training"
    return ArmWorth(
        arm=arm.name,
        intervention=intervention_of(arm),
        gold_rows=len(learnt[0].gold),
        pool_rows=sum(len(each.pool) for each in learnt) / count,
        rationales=sum(_with_rationale(each) for each in learnt) / count,
        spend=spend if buys or arm.gold == "spend" else None,
        cost=_cost(recipe, arm, learnt, len(splits.train)),
        left_out=left_out,
        pool_share=len(pool) / len(splits.pool) if pool and splits.pool is not None else None,
        gold_share=len(gold) / len(splits.train),
        accuracy=found.test.accuracy,
        ci95=found.test.ci95,
        tested=arm in tested_arms(recipe.arms),
    )


def _with_rationale(learnt: Learnt) -> int:
    return sum(rationale.status == "ok" for rationale in learnt.rationales)


def intervention_of(arm: ArmSection) -> Intervention:
    """What an arm adds to its gold rows."""
    if arm.control == "self_training":
        return "self-training"
    if arm.control is not None:
        return "control"
    if arm.strategy is None:
        return "labels alone" if arm.gold is None else "gold rows"
    if not arm.learns_pool:
        return "rationales"
    if arm.agrees_with is not None:
        return "agreed labels"
    return (
        "teacher labels" if arm.effective_objective == "label" else "teacher labels and rationales"
    )


def _cost(
    recipe: Recipe, arm: ArmSection, learnt: Sequence[Learnt], available: int
) -> CostOfUse | None:
    """What one draw costs, on average over seeds, when the arm pays alone."""
    purchases = [each.purchase for each in learnt if each.purchase is not None]
    own = gold_rows(recipe, recipe.baseline, available)
    more = len(learnt[0].gold) - own
    if not purchases:
        if more <= 0 or recipe.gold_price is None:
            return None if more else CostOfUse(0.0, 0.0, 0.0, 0.0)
        return CostOfUse(0.0, 0.0, 0.0, more * recipe.gold_price)
    count = len(purchases)
    costs = [each.cost_usd for each in purchases]
    return CostOfUse(
        rows=sum(len(each.rows) for each in purchases) / count,
        requests=sum(each.requests for each in purchases) / count,
        tokens=sum(each.tokens for each in purchases) / count,
        usd=None if None in costs else sum(cost or 0.0 for cost in costs) / count,
    )


def _candidates_of(recipe: Recipe) -> list[ArmSection]:
    """What the money may be spent on: labels alone, and the tested arms."""
    return [recipe.baseline, *tested_arms(recipe.arms)]


def _candidates(
    recipe: Recipe,
    tables: Mapping[str, Floats],
    units: Sequence[str],
    labels: Sequence[str] | None,
) -> tuple[Candidate, ...]:
    candidates = {arm.name: tables[arm.name] for arm in _candidates_of(recipe)}
    found = possibly_best(candidates, units, labels=labels)
    return tuple(
        Candidate(each.arm, each.mean, each.may_be_best, each.p_value, each.rival, each.behind)
        for each in found.candidates
    )


def _cheaper(
    recipe: Recipe,
    tables: Mapping[str, Floats],
    units: Sequence[str],
    worth: Mapping[str, ArmWorth],
    labels: Sequence[str] | None,
) -> tuple[CheaperCandidate, ...]:
    """The candidates that cost less than the dearest; none where a cost is not known."""
    costs = {}
    for arm in _candidates_of(recipe):
        cost = _in_unit(recipe, worth[arm.name].cost)
        if cost is None:
            return ()
        costs[arm.name] = cost
    if len(set(costs.values())) < 2:
        return ()
    margin = recipe.recommend_within / 100
    compared = {name: tables[name] for name in costs}
    found = non_inferiority(compared, costs, units, margin, labels=labels)
    return tuple(
        CheaperCandidate(
            each.arm,
            each.cost,
            each.non_inferior,
            each.p_adjusted,
            each.closest,
            each.behind,
            each.behind_at_most,
        )
        for each in found.cheaper
    )


def _in_unit(recipe: Recipe, cost: CostOfUse | None) -> float | None:
    if cost is None:
        return None
    unit = "dollars" if recipe.spend is None else recipe.spend.unit
    amounts: Mapping[str, float | None] = {
        "dollars": cost.usd,
        "tokens": cost.tokens,
        "requests": cost.requests,
        "rows": cost.rows,
    }
    return amounts[unit]


def _curve(recipe: Recipe, splits: Splits) -> tuple[tuple[tuple[int, str], ...], str | None]:
    """Sizes and arms of the curve of gold rows, and why there is none."""
    arms = [arm for arm in recipe.arms if on_curve(arm)]
    points = sorted({gold_rows(recipe, arm, len(splits.train)): arm.name for arm in arms}.items())
    try:
        checked_sizes([size for size, _ in points])
    except ValueError:
        sizes = ", ".join(f"{size:,}" for size, _ in points)
        return tuple(points), (
            f"a curve of gold rows needs {LEAST_SIZES} sizes or more, each about twice the one "
            f"before: there are {sizes}; add arms with `gold`"
        )
    return tuple(points), None


def _gold_worth(arm: ArmWorth, found: GoldEquivalent) -> GoldWorth:
    low, high = found.worth_interval
    beyond: Literal["above", "below"] | None = None
    if found.estimate is None and found.low == found.sizes[-1]:
        beyond = "above"
    elif found.estimate is None and found.high == found.sizes[0]:
        beyond = "below"
    price = None
    if arm.cost is not None and arm.cost.usd is not None:
        price = break_even_price(found, arm.cost.usd)
    return GoldWorth(
        arm=arm.arm,
        worth=found.worth,
        low=low,
        high=high,
        beyond=beyond,
        break_even=None if price is None else price.price,
        break_even_low=None if price is None or math.isinf(price.low) else price.low,
        break_even_high=None if price is None else price.high,
    )
