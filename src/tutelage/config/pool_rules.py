"""What a recipe must say so that its arms can buy: unlabelled rows, a spend, a price of gold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tutelage.config.arm_settings import ArmSection
from tutelage.config.comparisons import tested_arms
from tutelage.config.design_rules import MOST_TESTED, treatment_arms
from tutelage.config.sections import DataSection
from tutelage.config.spend_settings import SpendSection


def draws_rows(arms: Sequence[ArmSection], data: DataSection, spend: SpendSection | None) -> bool:
    """Whether each seed draws its own training rows: some arm learns unlabelled rows, or not all
    gold ones, or buys for a limited spend."""
    limited = data.gold is not None or spend is not None
    return limited or any(arm.learns_pool or arm.gold is not None for arm in arms)


def pool_problems(
    arms: Sequence[ArmSection],
    data: DataSection,
    spend: SpendSection | None,
    gold_price: float | None,
    gold_share: float | None,
) -> Iterator[str]:
    """What does not go together, one line each."""
    pooled = [arm.name for arm in arms if arm.learns_pool]
    if pooled and data.unlabelled is None:
        yield (
            f"arms: {pooled[0]!r} learns unlabelled rows, and the recipe names none: add "
            "data.unlabelled"
        )
    if data.unlabelled is not None and not pooled:
        yield (
            "data.unlabelled: no arm learns these rows: add one with strategy: label and rows: "
            "unlabelled"
        )
    for arm in arms:
        if arm.spend is not None and spend is None:
            yield f"arms: {arm.name!r} has a spend of its own: add the recipe's, which it replaces"
        if arm.gold == "spend" and (spend is None or spend.unit != "dollars" or gold_price is None):
            yield (
                f"arms: {arm.name!r} buys gold rows: add spend in dollars and gold_price, the "
                "price of a label"
            )
    if spend is not None and not any(arm.asks_teacher for arm in treatment_arms(arms)):
        yield "spend: no arm asks a teacher: add one, or remove spend"
    if spend is not None and len(tested := tested_arms(arms)) > MOST_TESTED:
        yield (
            f"arms: {len(tested)} are tested for one spend, expected at most {MOST_TESTED}: each "
            "more makes every test weaker; give some a spend of their own, and they are described"
        )
    if gold_share is not None and not pooled:
        yield "gold_share: no arm learns unlabelled rows: remove it"
