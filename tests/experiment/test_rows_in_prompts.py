"""Labelled rows in a prompt are gold rows of every arm and seed, at every size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.errors import DataError
from tutelage.core.progress import Silent
from tutelage.core.task import NLI
from tutelage.experiment.agreement_check import label_teachers, sample_rows
from tutelage.experiment.arm_rows import draw_rows
from tutelage.experiment.arm_strategies import shots_of, strategy_of
from tutelage.experiment.gold_sizes import gold_orders, rows_drawn_first
from tutelage.experiment.prepare import Splits, load_splits
from tutelage.experiment.row_orders import block_sizes, seed_orders

Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def make(small_recipe: Callable[..., dict[str, Any]]) -> Make:
    def recipe(gold: int | None = 30, shots: int = 2, **data: Any) -> Recipe:
        values = small_recipe(
            protocol="quick",
            arms=[
                {"name": "labels"},
                {"name": "bought", "strategy": "label", "rows": "unlabelled"},
                {"name": "gold-12", "gold": 12},
            ],
            spend={"rows": 20},
            seeds=[3, 4, 5],
            labelling={"shots_per_label": shots},
        )
        for key in ("controls", "baselines", "departures"):
            del values[key]
        values["data"] |= {"gold": gold, "unlabelled": "synthetic:nli?n=60&seed=4", **data}
        if gold is None:
            del values["data"]["gold"]
            values["arms"].pop()
        return parse_recipe(values)

    return recipe


@pytest.fixture(scope="module")
def splits(make: Make) -> Splits:
    return load_splits(make())


def test_they_are_gold_at_every_size(make: Make, splits: Splits, tmp_path: Path) -> None:
    recipe = make()
    shots = shots_of(recipe, splits.train)
    assert len(shots) == 6
    rows = draw_rows(recipe, splits, tmp_path / "l.sqlite", Silent())
    for name, size in (("labels", 30), ("bought", 30), ("gold-12", 12)):
        of_seeds = [rows.learnt[name][seed].gold for seed in (3, 4, 5)]
        assert all(gold[:6] == shots and len(gold) == size for gold in of_seeds)
        # The others are each seed's own.
        assert len({frozenset(row.uid for row in gold) for gold in of_seeds}) == 3
        assert all(len({row.uid for row in gold}) == size for gold in of_seeds)
    # The agreement check asks about none of them.
    (teacher,) = label_teachers(recipe, splits.train)
    asked = {row.uid for row in sample_rows(splits.train, teacher.shots, NLI)}
    assert not asked & {row.uid for row in shots}


def test_prompts_are_those_of_a_recipe_that_learns_all_gold_rows(
    make: Make, splits: Splits
) -> None:
    """So requests have the same keys, and all seeds share the answers."""
    assert splits.pool is not None
    row = splits.pool.rows[0]
    prompts = {
        strategy_of(recipe, recipe.arms[1], splits.train).render(row, NLI)
        for recipe in (make(), make(gold=None), make(gold=20, draws="disjoint"))
    }
    assert len(prompts) == 1


def test_elsewhere_orders_are_what_they_were(make: Make, splits: Splits) -> None:
    for recipe in (make(gold=None), make(shots=0)):
        assert rows_drawn_first(recipe, splits.train) == ()
        assert gold_orders(recipe, splits.train) == seed_orders(
            splits.train, [3, 4, 5], "gold", NLI
        )


def test_disjoint_draws_share_them_alone(make: Make, splits: Splits) -> None:
    recipe = make(gold=24, draws="disjoint")
    shots = shots_of(recipe, splits.train)
    first = {shot.uid for shot in shots}
    sizes = block_sizes(splits.train, 3, "gold", NLI, shots)
    assert sum(sizes) == len(splits.train) + 2 * len(shots) and min(sizes) >= 24
    found = gold_orders(recipe, splits.train)
    drawn = [{row.uid for row in order[:24]} for order in found.values()]
    for place, one in enumerate(drawn):
        assert first <= one
        for other in drawn[place + 1 :]:
            assert one & other == first
    for order in found.values():
        assert sorted(row.uid for row in order) == sorted(row.uid for row in splits.train)


def test_fewer_gold_rows_than_the_prompt_shows_are_refused(make: Make, splits: Splits) -> None:
    with pytest.raises(DataError, match=r"shots_per_label: 5 shows 15 .* arm 'gold-12' learns 12"):
        gold_orders(make(shots=5), splits.train)
