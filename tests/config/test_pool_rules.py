"""Which keys of arms that buy go together, and which control arms they get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tutelage.config.design_rules import controls_of
from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import load_recipe, parse_recipe
from tutelage.core.errors import RecipeError

POOL = {"rows": "unlabelled"}
LABELS = {"name": "bought", "strategy": "label", **POOL}
THOUGHTS = {"name": "thoughts", "strategy": "chain_of_thought", **POOL}


@pytest.fixture
def recipe(small_recipe: Callable[..., dict[str, Any]]) -> Callable[..., Recipe]:
    def make(*arms: dict[str, Any], gold: int | None = 30, **changes: Any) -> Recipe:
        values = small_recipe(
            protocol="quick", arms=[{"name": "labels"}, *arms], spend={"rows": 20}
        )
        for key in ("controls", "baselines", "departures"):
            del values[key]
        values["data"] = {
            **values["data"],
            "unlabelled": "synthetic:nli?n=50&seed=4",
            **({} if gold is None else {"gold": gold}),
        }
        for key, value in changes.items():
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
        return parse_recipe(values)

    return make


Make = Callable[..., Recipe]


def test_each_intervention_gets_its_control(recipe: Make) -> None:
    found = recipe(
        LABELS,
        THOUGHTS,
        {"name": "agreed", "strategy": "label", **POOL, "agrees_with": "scripted"},
        {"name": "reasons", "strategy": "informed_reasoning"},
        {"name": "half", "strategy": "label", **POOL, "spend": 10},
        {"name": "gold-60", "gold": 60},
    )
    controls = {
        arm.name: [c.name for c in controls_of(arm, found.arms)]
        for arm in found.arms
        if arm.control is None and arm.strategy
    }
    assert controls == {
        "bought": ["self-training"],
        "thoughts": ["thoughts-rationale-dropped", "thoughts-shuffled"],
        "agreed": ["agreed-random-filter"],
        "reasons": ["reasons-shuffled"],
        "half": [],
    }
    dropped = next(arm for arm in found.arms if arm.control == "rationale_dropped")
    assert dropped.effective_objective == "label"
    families = found.comparisons()
    assert ("bought", "self-training") in families.primary
    assert ("thoughts", "thoughts-rationale-dropped") in families.primary
    assert ("agreed", "labels") in families.primary
    tested = {arm for arm, _ in (*families.primary, *families.secondary)}
    assert tested == {"bought", "thoughts", "agreed", "reasons"}  # the others are described
    # The written recipe, in which the added arms stand, is the same experiment.
    assert parse_recipe(yaml.safe_load(found.to_yaml())) == found


def test_one_self_training_arm_is_enough_where_all_learn_as_many_rows(recipe: Make) -> None:
    other = {**LABELS, "name": "other", "teacher": {"model": "scripted", "max_tokens": 7}}
    in_rows = [arm.name for arm in recipe(LABELS, other).arms]
    assert in_rows == ["labels", "bought", "other", "self-training"]
    # A dollar buys each teacher another number of rows.
    in_dollars = [arm.name for arm in recipe(LABELS, other, spend=0.5).arms]
    assert in_dollars == [
        *("labels", "bought", "bought-self-training", "other", "other-self-training"),
    ]


@pytest.mark.parametrize(
    ("arms", "changes", "line"),
    [
        ([{"name": "a", "strategy": "informed_reasoning", **POOL}], {}, "a strategy that labels"),
        ([{"name": "a", "strategy": "label"}], {}, "add rows: unlabelled"),
        ([{**LABELS, "objective": "multitask"}], {}, "the strategy label has none"),
        ([{"name": "a", **POOL}], {}, "rows: unlabelled needs a strategy"),
        ([{"name": "a", "gold": 0}], {}, "expected a number of rows, or spend"),
        ([{**LABELS, "gold": 5}], {}, "data.gold sets the gold rows"),
        ([{"name": "a", "gold": "spend"}, LABELS], {}, "add spend in dollars and gold_price"),
        ([{"name": "a", "gold": "spend"}, LABELS], {"spend": 1.0}, "gold_price"),
        ([{**LABELS, "spend": 5}], {"spend": None}, "add the recipe's, which it replaces"),
        ([{**LABELS, "control": "random_filter"}], {}, "random_filter needs agrees_with"),
        ([{"name": "a", "strategy": "human", "agrees_with": "scripted"}], {}, "rows: unlabelled"),
        ([LABELS], {"spend": {"rows": 5, "dollars": 1}}, "got dollars, rows, expected one of"),
        ([LABELS], {"spend": {}}, "got nothing, expected one of"),
        ([LABELS], {"spend": -1}, "greater than 0"),
        ([LABELS], {"seeds": {"start": 2, "step": 1, "at_most": 4}}, "list the seeds"),
        ([], {}, "no arm learns these rows"),
        (
            [{**LABELS, "name": f"a{n}", "teacher": {"model": "scripted", "max_tokens": n + 1}}
             for n in range(6)],
            {},
            "6 are tested for one spend, expected at most 5",
        ),
        ([{"name": "g", "gold": 40}], {"gold_share": 0.5, "spend": None}, "gold_share: no arm"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_line(
    recipe: Make, arms: list[dict[str, Any]], changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(*arms, **changes)
    assert any(line in problem for problem in caught.value.problems), caught.value.problems


def test_a_pool_arm_needs_a_pool(small_recipe: Callable[..., dict[str, Any]]) -> None:
    values = small_recipe(arms=[{"name": "labels"}, LABELS])
    with pytest.raises(RecipeError, match=r"add data\.unlabelled"):
        parse_recipe(values)


def test_a_list_under_unlabelled_names_values_and_a_text_a_file(recipe: Make) -> None:
    found = recipe(LABELS)
    values = found.model_dump(mode="json", exclude_none=True)
    data = {**values["data"]}
    del data["unlabelled"], data["no_label"]
    changed = {**data, "unlabelled": [-1], "train": "a.csv"}
    listed = type(found.data)(**changed)
    assert (listed.no_label, listed.unlabelled) == (["-1"], None)


def test_recipes_without_any_of_it_draw_nothing() -> None:
    assert not load_recipe("quickstart").draws_rows
