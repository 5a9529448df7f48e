"""How many trainings a recipe takes, by preset, and how long where a run has shown it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "report"))

import small_results

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import load_recipe, parse_recipe
from tutelage.core.results import Configuration, Trial
from tutelage.core.storage import write_json
from tutelage.planning.training_count import count_trainings

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def recipe(small_recipe: Make) -> Callable[..., Recipe]:
    def make(**changes: Any) -> Recipe:
        values = small_recipe(
            arms=[{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}],
            search={"learning_rate": [1e-3, 2e-3], "label_weight": [0.3, 0.5]},
            seeds=[0, 1, 2],
        )
        for key in ("protocol", "controls", "baselines", "departures"):
            del values[key]
        return parse_recipe(values | changes)

    return make


def test_each_preset_is_counted(recipe: Callable[..., Recipe]) -> None:
    for protocol in ("quick", "standard", "full"):
        own, *presets = count_trainings(recipe(protocol=protocol), None)
        found = {each.protocol: (each.arms, each.trials, each.total) for each in presets}
        assert found == {
            "quick": (3, 0, 3 * 3),  # labels, reasoning, its shuffled control
            "standard": (5, 3, 5 * 3 * 4),
            "full": (7, 3, 7 * 3 * 4),  # label echo, hypothesis only
        }
        assert (own.arms, own.trials, own.total) == found[protocol]
        assert own.total == recipe(protocol=protocol).trainings
        assert own.hours is None


def test_the_recipe_as_it_is_may_differ_from_every_preset(recipe: Callable[..., Recipe]) -> None:
    own = count_trainings(
        recipe(protocol="quick", controls=["shuffled", "label_echo"], seeds=[0, 1]), None
    )[0]
    assert (own.arms, own.total) == (4, 4 * 2)


def test_a_plan_of_looks_is_counted_to_its_end(recipe: Callable[..., Recipe]) -> None:
    planned = recipe(protocol="quick", seeds={"start": 5, "step": 5, "at_most": 20})
    own = count_trainings(planned, None)[0]
    assert (own.seeds, own.total, own.before_first_analysis) == (20, 60, 15)


def test_the_paper_s_experiment() -> None:
    own, quick, standard, full = count_trainings(load_recipe("anli-r1"), None)
    assert own.total == full.total == load_recipe("anli-r1").trainings
    assert quick.total == 5 * 5  # labels, two strategies, their shuffled controls; five seeds
    assert standard.total == 9 * 5 * 4


def test_hours_come_from_a_finished_run(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    arm = small_results.arm("labels", seeds=(0, 1))
    trials = tuple(Trial(Configuration(1e-3, 1.0), seed, 0.5, None) for seed in (0, 0, 1, 1))
    results = small_results.results(
        arms=(replace(arm, trials=trials),), training_seconds={"labels": 6 * 1800.0}
    )
    write_json(tmp_path / "results.json", results)
    own, quick, *_ = count_trainings(recipe(), tmp_path)
    assert own.hours == pytest.approx(own.total / 2)
    assert quick.hours == pytest.approx(quick.total / 2)
    write_json(tmp_path / "results.json", {"format": 1})
    assert count_trainings(recipe(), tmp_path)[0].hours is None
    assert count_trainings(recipe(), tmp_path / "none")[0].hours is None
