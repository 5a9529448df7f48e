"""What `plan` says of an experiment whose arms buy, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.plan_settings import PlanSettings
from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.progress import Silent
from tutelage.planning.plan import Plan, plan_recipe

POOL = {"rows": "unlabelled"}


@pytest.fixture
def planned(
    small_recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> Callable[..., tuple[Recipe, Plan]]:
    def plan(**changes: Any) -> tuple[Recipe, Plan]:
        values = small_recipe(
            protocol="quick",
            arms=[
                {"name": "labels"},
                {"name": "bought", "strategy": "label", **POOL},
                {"name": "half", "strategy": "label", **POOL, "spend": 10},
                *({"name": f"gold-{n}", "gold": n} for n in (20, 40, 80)),
            ],
            teacher={
                "model": "openai:m",
                "base_url": "http://127.0.0.1:9/v1",
                "price": {"input": 1.0, "output": 2.0},
                "max_tokens": 20,
            },
            seeds=[0, 1, 2],
        )
        for key in ("controls", "baselines", "departures"):
            del values[key]
        values["data"] |= {"gold": 10, "unlabelled": "synthetic:nli?n=80&seed=4"}
        values |= {"spend": {"rows": 20}, **changes}
        recipe = parse_recipe(values)
        settings = PlanSettings(ledger=tmp_path / "l.sqlite", runs=tmp_path)
        return recipe, plan_recipe(recipe, settings, Silent())

    return plan


def test_rows_of_each_arm_and_of_all_seeds_together(planned: Any) -> None:
    _, plan = planned()
    bought, half = plan.spending.arms
    assert (bought.rows, half.rows, bought.of, half.of) == (20, 10, 80, 80)
    assert 20 < bought.union < 60 and 10 < half.union < 30
    requests, agreement = plan.requests
    assert (requests.rows, requests.split) == (bought.union, "unlabelled")
    # Before these, the teacher is asked about rows whose labels are known: here all 90.
    assert (agreement.title, agreement.arms) == ("agreement of openai:m (label)", ())
    assert (agreement.rows, agreement.split, agreement.mode) == (90, "train", "live")
    lines = list(plan.spending.sentences())
    assert lines[0].startswith("bought: 20 rows for each seed: 20 of 80 rows; 3 seeds together")


def test_a_spend_in_dollars_is_estimated_and_never_planned_beyond_it(planned: Any) -> None:
    _, plan = planned(spend=0.002, arms=_arms())
    (bought,) = plan.spending.arms
    assert 5 < bought.rows < 80
    requests, _ = plan.requests
    # Of one seed's rows at the expected cost of a row.
    assert requests.dollars.expected * bought.rows / requests.missing <= 0.002
    assert "$0.0020 for each seed: about" in next(plan.spending.sentences())


def test_two_teachers_are_both_counted(planned: Any) -> None:
    other = {"model": "openai:n", "base_url": "http://127.0.0.1:9/v1", "max_tokens": 20}
    arms = [{"name": "labels"}, {"name": "a", "strategy": "label", **POOL, "agrees_with": other}]
    _, plan = planned(arms=arms)
    bought = [group for group in plan.requests if group.arms]
    assert [group.teacher for group in bought] == ["openai:m", "openai:n"]
    assert len({group.missing for group in bought}) == 1
    compared = [group.teacher for group in plan.requests if not group.arms]
    assert compared == ["openai:m", "openai:n"]


def test_few_test_rows_cannot_tell_and_that_is_said(planned: Any) -> None:
    _, plan = planned()
    answerable = list(plan.spending.sentences())[-1]
    assert answerable.startswith("what the money is best spent on cannot be told with 45 test rows")
    assert "--detect 5" in answerable


def test_the_curve_of_gold_rows_is_judged(planned: Any) -> None:
    _, plan = planned()
    assert plan.spending.gold == (10, 20, 40, 80)
    assert plan.spending.gold_sentence.startswith("gold equivalents: their intervals are not")
    _, short = planned(arms=_arms())
    assert "four sizes or more are needed" in short.spending.gold_sentence


def test_recipes_that_buy_nothing_have_no_such_part(planned: Any) -> None:
    arms = [{"name": "labels"}, {"name": "reasons", "strategy": "informed_reasoning"}]
    data = {
        "train": "synthetic:nli?n=90&seed=1",
        "dev": "synthetic:nli?n=30&seed=2",
        "test": "synthetic:nli?n=45&seed=3",
    }
    _, plan = planned(arms=arms, data=data, spend=None)
    assert plan.spending is None


def _arms() -> list[dict[str, Any]]:
    return [{"name": "labels"}, {"name": "bought", "strategy": "label", **POOL}]
