"""`benchmarks/find_effect.py`: its experiment, which takes minutes to run, and its verdict."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe_file import load_recipe

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import find_effect as bench  # noqa: E402

CONTROLS = {
    "informed-reasoning-shuffled": "shuffled",
    "informed-reasoning-filler": "filler",
    "label-echo": "label_echo",
}
AGAINST = ("labels", *CONTROLS)


def found() -> dict[str, Any]:
    """The results of an experiment in which informed reasoning beat all there is."""
    test = {"accuracy": 0.7, "ci95": [0.65, 0.75], "n": 1000}
    names = {"labels": None, "informed-reasoning": None, **CONTROLS}
    return {
        "finished": True,
        "arms": [{"name": n, "control": c, "test": test} for n, c in names.items()],
        "comparisons": [
            {
                "arm": "informed-reasoning", "baseline": name, "difference": 0.2,
                "ci95": [0.15, 0.25], "p_adjusted": 0.001, "n": 1000, "seeds": 5,
                "minimum_detectable_difference": 0.04,
                "primary": name in ("labels", "informed-reasoning-shuffled"),
            }
            for name in AGAINST
        ],
    }  # fmt: skip


def test_the_experiment_is_quickstart_s_with_every_control() -> None:
    recipe, quickstart = bench.effect_recipe(), load_recipe("quickstart")
    for key in ("data", "student", "search", "seeds", "teacher", "task"):
        assert getattr(recipe, key) == getattr(quickstart, key), key
    assert {arm.name: arm.control for arm in recipe.arms} == {
        "labels": None,
        "informed-reasoning": None,
        **CONTROLS,
    }
    families = recipe.comparisons()
    assert {pair[1] for pair in (*families.primary, *families.secondary)} == set(AGAINST)
    assert [departure.rule for departure in recipe.departed()] == ["baselines"]
    assert bench.effect_recipe(tiny=True).comparisons() == families


def test_all_beaten_is_no_fault() -> None:
    assert bench.faults(found()) == []


@pytest.mark.parametrize("name", AGAINST)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"p_adjusted": 0.05}, "not beaten (+20.0 points, p 0.05 after correction)"),
        ({"difference": -0.2, "ci95": [-0.25, -0.15]}, "not beaten (-20.0 points"),
    ],
)
def test_one_that_was_not_beaten_is_named(name: str, change: dict[str, Any], said: str) -> None:
    results = found()
    results["comparisons"][AGAINST.index(name)] |= change
    first, *others = bench.faults(results)
    assert first.startswith(f"{name}: {said}")
    assert [line.split(":")[0] for line in others] == ["the report's verdict"]


@pytest.mark.parametrize("name", AGAINST)
def test_one_that_is_missing_is_told(name: str) -> None:
    results = copy.deepcopy(found())
    del results["comparisons"][AGAINST.index(name)]
    assert bench.faults(results)[0] == f"{CONTROLS.get(name, name)}: not compared with"


def test_an_unfinished_run_is_no_proof() -> None:
    assert bench.faults(found() | {"finished": False}) == ["the run: not finished"]
