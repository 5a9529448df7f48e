"""What arms buy: never more than their spend, by the server's own count."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "teacher"))
from scripted_server import Reply, ScriptedServer, prompt

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import TeacherError, UsageError
from tutelage.core.progress import Silent
from tutelage.core.storage import digest
from tutelage.experiment.arm_rows import draw_rows
from tutelage.experiment.learnt_rows import ArmRows
from tutelage.experiment.prepare import load_splits
from tutelage.experiment.purchases import distinct_charges

PRICE = {"input": 1.0, "output": 2.0}
ANSWER = 7 * 1.0 + 3 * 2.0
"""Millionths of a dollar: what the scripted server's usage of 7 and 3 tokens costs."""

Recipes = Callable[..., dict[str, Any]]


def worth_recipe(
    small_recipe: Recipes, server: ScriptedServer, gold: int = 60, **changes: Any
) -> Recipe:
    values: dict[str, Any] = {
        "protocol": "quick",
        "arms": [
            {"name": "labels"},
            {"name": "reasons", "strategy": "informed_reasoning"},
            {"name": "half", "strategy": "informed_reasoning", "spend": 0.0006},
            {"name": "contexts", "strategy": "information_extraction"},
        ],
        "spend": 0.0010,
        "seeds": [0],
        **changes,
    }
    recipe = small_recipe(**values)
    recipe["data"] = {**recipe["data"], "gold": gold}
    for key in ("controls", "baselines", "departures"):
        recipe.pop(key)
    if len(values["seeds"]) == 1:
        recipe["departures"] = {"seeds": "a small test"}
    recipe["teacher"] = {
        "model": "openai:m",
        "base_url": server.base_url,
        "price": PRICE,
        "max_tokens": 20,
    }
    return parse_recipe(recipe)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    def behave(body: dict[str, Any], before: int) -> Reply:
        asked = prompt(body)
        if "five questions" in asked or "Who" in asked:
            return Reply('{"who": "a", "what": "b", "when": "c", "where": "d", "why": "e"}')
        return Reply(f"because of {digest(asked)[:8]}")

    with ScriptedServer(behave) as running:
        yield running


def draw(recipe: Recipe, ledger: Path) -> ArmRows:
    return draw_rows(recipe, load_splits(recipe), ledger, Silent())


def only(recipe: Recipe, name: str) -> Recipe:
    """The recipe with labels alone and one arm."""
    arms = [arm for arm in recipe.arms if arm.name in ("labels", name)]
    return recipe.model_copy(update={"arms": arms})


def test_an_arm_costs_what_it_costs_alone_and_never_more_than_its_spend(
    small_recipe: Recipes, server: ScriptedServer, tmp_path: Path
) -> None:
    recipe = worth_recipe(small_recipe, server)
    together = draw(recipe, tmp_path / "together.sqlite")
    paid = server.answered
    for name, limit in (("reasons", 0.0010), ("half", 0.0006), ("contexts", 0.0010)):
        purchase = together.learnt[name][0].purchase
        assert purchase is not None and purchase.cost_usd is not None
        assert 0 < purchase.cost_usd <= limit
        before = server.answered
        alone = draw(only(recipe, name), tmp_path / f"{name}.sqlite")
        # On an empty ledger the server answers exactly what the arm is said to cost.
        assert (server.answered - before) * ANSWER == pytest.approx(purchase.cost_usd * 1e6)
        assert alone.learnt[name][0].purchase == purchase
    union = distinct_charges(
        row
        for by_seed in together.learnt.values()
        for learnt in by_seed.values()
        for row in (learnt.purchase.rows if learnt.purchase else ())
    )
    assert len(union) == paid  # each answer is paid for once


def test_a_smaller_spend_buys_the_first_rows_of_a_larger_one(
    small_recipe: Recipes, server: ScriptedServer, tmp_path: Path
) -> None:
    learnt = draw(worth_recipe(small_recipe, server), tmp_path / "l.sqlite").learnt
    whole, half = learnt["reasons"][0].purchase, learnt["half"][0].purchase
    assert whole is not None and half is not None
    assert whole.rows[: len(half.rows)] == half.rows
    assert 0 < len(half.rows) < len(whole.rows) < 60
    assert learnt["reasons"][0].gold == learnt["labels"][0].gold


def test_with_five_seeds_what_was_paid_is_the_servers_count(
    small_recipe: Recipes, server: ScriptedServer, tmp_path: Path
) -> None:
    arms = [{"name": "labels"}, {"name": "reasons", "strategy": "informed_reasoning"}]
    recipe = worth_recipe(small_recipe, server, seeds=[0, 1, 2, 3, 4], arms=arms)
    rows = draw(recipe, tmp_path / "l.sqlite")
    charges = distinct_charges(
        row
        for by_seed in rows.learnt.values()
        for learnt in by_seed.values()
        for row in (learnt.purchase.rows if learnt.purchase else ())
    )
    assert len(charges) == server.answered
    by_seed = [rows.learnt["reasons"][seed].purchase for seed in range(5)]
    assert len({tuple(row.example.uid for row in each.rows) for each in by_seed if each}) == 5
    # Seeds draw the same rows in part, whose answers are paid for once.
    assert sum(each.requests for each in by_seed if each) > len(
        distinct_charges(row for each in by_seed if each for row in each.rows)
    )
    before = server.answered
    assert draw(recipe, tmp_path / "l.sqlite").learnt == rows.learnt
    assert server.answered == before  # a second call asks nobody


@pytest.mark.parametrize("unit", ["rows", "requests", "tokens"])
def test_other_units(
    small_recipe: Recipes, server: ScriptedServer, tmp_path: Path, unit: str
) -> None:
    amount = {"rows": 12, "requests": 12, "tokens": 4000}[unit]
    recipe = worth_recipe(
        small_recipe,
        server,
        spend={unit: amount},
        arms=[
            {"name": "labels"},
            {"name": "contexts", "strategy": "information_extraction"},
        ],
    )
    purchase = draw(recipe, tmp_path / "l.sqlite").learnt["contexts"][0].purchase
    assert purchase is not None
    if unit == "rows":
        assert len(purchase.rows) == 12 >= purchase.requests
    elif unit == "requests":
        # Rows with one premise share a request.
        assert purchase.requests == 12 <= len(purchase.rows)
    else:
        # What is left does not cover the longest answer to the next prompt.
        assert purchase.tokens == 10 * purchase.requests <= amount
    assert purchase.requests == server.answered


@pytest.mark.parametrize("unit", ["tokens", "dollars"])
def test_what_a_server_does_not_count_is_taken_to_be_the_most(
    small_recipe: Recipes, tmp_path: Path, unit: str
) -> None:
    def uncounted(body: dict[str, Any], before: int) -> Reply:
        message = {"role": "assistant", "content": f"because of {digest(prompt(body))[:8]}"}
        return Reply(body={"choices": [{"message": message, "finish_reason": "stop"}]})

    amount = {"tokens": 3000, "dollars": 0.004}[unit]
    arms = [{"name": "labels"}, {"name": "reasons", "strategy": "informed_reasoning"}]
    with ScriptedServer(uncounted) as server:
        recipe = worth_recipe(small_recipe, server, spend={unit: amount}, arms=arms)
        learnt = draw(recipe, tmp_path / "l.sqlite").learnt["reasons"][0]
        assert learnt.purchase is not None and learnt.purchase.cost_usd is not None
        spent = learnt.purchase.tokens if unit == "tokens" else learnt.purchase.cost_usd
        # Counted as nothing, all 60 rows would have been bought.
        assert 0.7 * amount < spent <= amount and server.answered < 20
        # Answers from a time without a price cost nothing now, but are charged at their most.
        plain = recipe.teacher
        assert plain is not None
        before = tmp_path / "before.sqlite"
        unpriced = recipe.model_copy(update={"teacher": plain.replace(price=None), "spend": None})
        draw(unpriced, before)
        assert draw(recipe, before).learnt["reasons"][0].rows == learnt.rows
        again = draw(recipe, before).learnt["reasons"][0].purchase
        assert again is not None and len(again.rows) == len(learnt.purchase.rows)


def test_a_spend_that_buys_nothing_or_has_no_price_is_one_line(
    small_recipe: Recipes, server: ScriptedServer, tmp_path: Path
) -> None:
    arms = [{"name": "labels"}, {"name": "reasons", "strategy": "informed_reasoning"}]
    little = worth_recipe(small_recipe, server, spend=1e-6, arms=arms)
    with pytest.raises(TeacherError, match="does not cover a single request"):
        draw(little, tmp_path / "l.sqlite")
    assert server.answered == 0
    priced = worth_recipe(small_recipe, server, arms=arms)
    assert priced.teacher is not None
    unknown = priced.model_copy(update={"teacher": priced.teacher.replace(price=None)})
    with pytest.raises(UsageError, match=r"spend: is in dollars, and no price of 'openai:m'"):
        draw(unknown, tmp_path / "l.sqlite")


def test_answers_that_are_looked_up_have_no_tokens_to_spend(
    small_recipe: Recipes, server: ScriptedServer, tmp_path: Path
) -> None:
    arms = [{"name": "labels"}, {"name": "reasons", "strategy": "informed_reasoning"}]
    recipe = worth_recipe(small_recipe, server, spend={"tokens": 500}, arms=arms)
    scripted = recipe.model_copy(update={"teacher": TeacherSettings(model="scripted")})
    with pytest.raises(UsageError, match="looked up have no counts of them"):
        draw(scripted, tmp_path / "l.sqlite")


def test_gold_for_a_price_and_the_curve(
    small_recipe: Recipes, server: ScriptedServer, tmp_path: Path
) -> None:
    recipe = worth_recipe(
        small_recipe,
        server,
        gold_price=0.0002,
        gold=20,
        arms=[
            {"name": "labels"},
            {"name": "reasons", "strategy": "informed_reasoning"},
            {"name": "people", "gold": "spend"},
            {"name": "gold-40", "gold": 40},
        ],
    )
    learnt = draw(recipe, tmp_path / "l.sqlite").learnt
    sizes = {name: learnt[name][0].rows for name in ("labels", "people", "gold-40")}
    assert sizes == {"labels": 20, "people": 25, "gold-40": 40}
    orders = [learnt[name][0].gold for name in ("labels", "people", "gold-40")]
    for less, more in itertools.pairwise(orders):
        assert more[: len(less)] == less
