"""`benchmarks/find_effect.py`: its experiment, which takes minutes to run, and its conclusion."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe_file import load_recipe
from tutelage.core.results import Results

sys.path.append(str(Path(__file__).parents[1] / "report"))
import small_results

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import find_effect as bench  # noqa: E402

CONTROLS = {
    "informed-reasoning-shuffled": "shuffled",
    "informed-reasoning-filler": "filler",
    "label-echo": "label_echo",
}
AGAINST = ("labels", *CONTROLS)


def found(*, without: str = "", changed: str = "", **changes: Any) -> Results:
    """The results of an experiment in which informed reasoning beat all other arms, apart from
    `changes` to the comparison with `changed`; there is no comparison with `without`."""
    comparisons = [
        small_results.comparison(
            "informed-reasoning", name, 0.2, 0.05, 0.001, n=1000,
            primary=name in ("labels", "informed-reasoning-shuffled"),
        )
        for name in AGAINST
        if name != without
    ]  # fmt: skip
    return small_results.results(
        arms=(
            small_results.arm("labels"),
            small_results.arm("informed-reasoning", "informed_reasoning"),
            *(
                small_results.arm(name, "informed_reasoning", control)
                for name, control in CONTROLS.items()
            ),
        ),
        comparisons=tuple(
            replace(c, **changes if c.baseline == changed else {}) for c in comparisons
        ),
    )


def test_the_experiment_is_quickstart_s_with_every_control() -> None:
    recipe, quickstart = bench.effect_recipe(), load_recipe("quickstart")
    for key in ("data", "search", "seeds", "teacher", "task"):
        assert getattr(recipe, key) == getattr(quickstart, key), key
    assert recipe.student == quickstart.student.replace(epochs=5)
    assert {arm.name: arm.control for arm in recipe.arms} == {
        "labels": None,
        "informed-reasoning": None,
        **CONTROLS,
    }
    families = recipe.comparisons()
    assert {pair[1] for pair in (*families.primary, *families.secondary)} == set(AGAINST)
    assert recipe.departures_made() == []
    assert bench.effect_recipe(tiny=True).comparisons() == families


def test_without_a_fault_nothing_is_reported() -> None:
    assert bench.faults(found()) == []


@pytest.mark.parametrize("name", AGAINST)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"p_adjusted": 0.05}, "not beaten (+20.0 points, p 0.05 after correction)"),
        ({"difference": -0.2, "ci95": (-0.25, -0.15)}, "not beaten (-20.0 points"),
    ],
)
def test_an_arm_that_was_not_beaten_is_named(name: str, change: dict[str, Any], said: str) -> None:
    first, *others = bench.faults(found(changed=name, **change))
    assert first.startswith(f"{name}: {said}")
    assert [line.split(":")[0] for line in others] == ["the report's conclusion"]


@pytest.mark.parametrize("name", AGAINST)
def test_one_that_is_missing_is_named(name: str) -> None:
    assert bench.faults(found(without=name))[0] == f"{CONTROLS.get(name, name)}: not compared"


def test_an_unfinished_run_is_a_fault() -> None:
    assert bench.faults(replace(found(), finished=False)) == ["the run: not finished"]
