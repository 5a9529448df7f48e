"""How many gold rows an arm learns, as the recipe decides it."""

from __future__ import annotations

import math

from tutelage.config.arm_settings import ArmSection
from tutelage.config.recipe import Recipe


def gold_rows(recipe: Recipe, arm: ArmSection, available: int) -> int:
    """How many gold rows an arm learns; it may be more than there are.

    available: rows of train
    """
    own = recipe.data.gold or available
    if arm.gold == "spend":
        assert recipe.spend is not None and recipe.gold_price is not None
        return own + math.floor(recipe.spend.amount / recipe.gold_price + 1e-9)
    return own if arm.gold is None else arm.gold


def on_curve(arm: ArmSection) -> bool:
    """Whether an arm is a point of the curve of gold rows: labels alone, or a number of its own."""
    return arm.is_plain or isinstance(arm.gold, int)
