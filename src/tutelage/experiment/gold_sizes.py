"""Which gold rows the arms of each seed learn, and how many, as the recipe decides it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tutelage.config.arm_settings import ArmSection
from tutelage.config.recipe import Recipe
from tutelage.core.errors import DataError
from tutelage.core.types import Example
from tutelage.experiment.arm_strategies import shots_of
from tutelage.experiment.row_orders import seed_orders


def gold_rows(recipe: Recipe, arm: ArmSection, available: int) -> int:
    """How many gold rows an arm learns; it may be more than there are.

    available: rows of train
    """
    own = recipe.data.gold or available
    if arm.gold == "spend":
        assert recipe.spend is not None and recipe.gold_price is not None
        return own + math.floor(recipe.spend.amount / recipe.gold_price + 1e-9)
    return own if arm.gold is None else arm.gold


def rows_drawn_first(recipe: Recipe, train: Sequence[Example]) -> tuple[Example, ...]:
    """The rows in the prompt of a strategy that labels rows, where an arm learns a part of train.

    They are labelled rows that people were paid for. So each seed draws them first: they are among
    the gold rows of every arm, whatever their number, and are the same for all seeds, so that all
    seeds share the teacher's answers.

    Raises DataError where an arm learns fewer rows than the prompt shows.
    """
    shots = shots_of(recipe, train)
    sizes = {arm.name: gold_rows(recipe, arm, len(train)) for arm in recipe.arms}
    name = min(sizes, key=lambda arm: sizes[arm])
    if not shots or sizes[name] >= len(train):
        return ()
    if sizes[name] < len(shots):
        raise DataError(
            f"labelling.shots_per_label: {recipe.labelling.shots_per_label} shows {len(shots)} "
            f"labelled rows in every prompt, and arm {name!r} learns {sizes[name]} gold rows, "
            "which are to hold them: lower shots_per_label, or raise gold"
        )
    return shots


def gold_orders(
    recipe: Recipe, train: Sequence[Example], seeds: Sequence[int] | None = None
) -> Mapping[int, tuple[Example, ...]]:
    """Seed -> the rows of train, in the order in which it draws gold rows.

    seeds: some of the recipe's, which share no blocks with others then; None: all of them
    """
    return seed_orders(
        train,
        recipe.replicates if seeds is None else seeds,
        "gold",
        recipe.resolved_task(),
        disjoint=recipe.data.draws == "disjoint" and seeds is None,
        first=rows_drawn_first(recipe, train),
    )


def on_curve(arm: ArmSection) -> bool:
    """Whether an arm is a point of the curve of gold rows: labels alone, or a number of its own."""
    return arm.is_plain or isinstance(arm.gold, int)
