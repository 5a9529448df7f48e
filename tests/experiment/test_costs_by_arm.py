"""Arms with equal annotation keys share answers: each shows the cost, and it is counted once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tutelage.config.recipe_file import parse_recipe
from tutelage.core.results import TokenCounts
from tutelage.core.types import Usage
from tutelage.experiment.teacher_summary import describe_teacher
from tutelage.teacher.annotate import Annotation, Summary

COUNTS: Any = {"ok": 9, "refused": 1}


def annotation(cost_usd: float | None) -> Annotation:
    summary = Summary(
        counts=COUNTS,
        requests=7,
        cached=3,
        attempts=7,
        tokens=Usage(100, 10),
        cost_usd=cost_usd,
        failures={},
        examples={},
        unparsable={},
    )
    return Annotation((), summary)


def test_each_arm_says_its_cost_and_whose_it_is(
    small_recipe: Callable[..., dict[str, Any]],
) -> None:
    values = small_recipe()
    values["arms"].append({"name": "facts", "strategy": "information_extraction"})
    recipe = parse_recipe(values)
    of = {"reasoning": annotation(0.5), "reasoning-shuffled": annotation(0.5)}
    found = describe_teacher(recipe, of | {"facts": annotation(0.25)})
    shown = {name: (arm.cost_usd, arm.shares_with) for name, arm in found.by_arm.items()}
    assert shown == {
        "reasoning": (0.5, None),
        "reasoning-shuffled": (0.5, "reasoning"),
        "facts": (0.25, None),
    }
    assert (found.cost_usd, found.requests, found.cached) == (0.75, 14, 6)
    assert found.tokens == TokenCounts(200, 20)
    unpriced = describe_teacher(recipe, of | {"facts": annotation(None)})
    assert unpriced.cost_usd is None
    assert unpriced.by_arm["facts"].cost_usd is None
    assert unpriced.by_arm["reasoning"].cost_usd == 0.5
