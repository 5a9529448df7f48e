from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tutelage.config.recipe_file import load_recipe, packaged_recipes, parse_recipe
from tutelage.config.training_settings import Config
from tutelage.core.errors import RecipeError

Make = Callable[..., dict[str, Any]]


def test_every_recipe_that_we_ship_is_valid_and_reads_back_the_same() -> None:
    root = Path(__file__).parents[2]
    recorded = sorted((root / "benchmarks" / "recorded").glob("*.yaml"))
    assert {"quickstart", "anli-r1"} <= set(packaged_recipes())
    assert len(recorded) == 4
    for source in [*packaged_recipes(), *recorded]:
        recipe = load_recipe(source)
        assert parse_recipe(yaml.safe_load(recipe.to_yaml())) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"studnt": {}}, "studnt: unknown key: did you mean 'student'?"),
        ({"student": {"epoch": 3}}, "student.epoch: unknown key: did you mean 'epochs'?"),
        ({"student": {"epochs": 0}}, "student.epochs: got 0: input should be greater than"),
        ({"name": "a/b"}, "name: got 'a/b', expected letters"),
        ({"data": {"train": "a.csv", "dev": 0.1}}, "data.test: is missing"),
        (
            {"data": {"train": "a.csv", "dev": 1.5, "test": "b.csv"}},
            "data.dev: got 1.5: expected a file, a share of train between 0 and 1, or a whole "
            "number of rows",
        ),
        ({"teacher": None}, "arms: 'reasoning' needs a teacher, and the recipe names none"),
        (
            {"teacher": {"model": "scripted", "concurrency": 0}},
            "teacher.concurrency: got 0: input should be greater",
        ),
        ({"search": {"label_weight": [1.0]}}, "label_weight: got [1.0], expected numbers between"),
        ({"search": {"learning_rate": [0.1, 0.1]}}, "lists a value twice"),
        ({"margin": 0}, "margin: got 0: input should be greater than 0"),
        ({"margin": 100}, "margin: got 100: input should be less than 100"),
        ({"seeds": [1, 1]}, "seeds: [1, 1] lists a value twice"),
        ({"task": "nil"}, "task: got 'nil'"),
        (
            {"task": {"fields": ["text"], "labels": ["one"]}},
            "labels: a task needs at least two",
        ),
    ],
)
def test_each_problem_is_reported_in_one_line(
    small_recipe: Make, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(small_recipe(**change), "my.yaml")
    assert message in " | ".join(caught.value.problems)
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


def test_all_problems_are_reported_at_once(small_recipe: Make) -> None:
    values = small_recipe(studnt={}, seeds=[])
    values["arms"][1]["stratgy"] = "x"
    with pytest.raises(RecipeError) as caught:
        parse_recipe(values)
    assert len(caught.value.problems) == 3


def test_a_misspelt_strategy_names_the_nearest(small_recipe: Make) -> None:
    values = copy.deepcopy(small_recipe())
    values["arms"][1]["strategy"] = "informed_resoning"
    with pytest.raises(RecipeError, match="did you mean 'informed_reasoning'"):
        parse_recipe(values)


def test_a_control_needs_its_treatment_arm(small_recipe: Make) -> None:
    values = copy.deepcopy(small_recipe())
    del values["arms"][1]
    with pytest.raises(RecipeError, match="is a control without a treatment arm"):
        parse_recipe(values)


def test_exponents_without_a_point_are_numbers(small_recipe: Make) -> None:
    text = yaml.safe_dump(small_recipe(search={"learning_rate": [0.001]})).replace("0.001", "1e-3")
    assert "1e-3" in text
    assert parse_recipe(yaml.safe_load(text)).search.learning_rate[0] == 0.001


def test_every_arm_tries_the_same_number_of_configurations(small_recipe: Make) -> None:
    search = {"learning_rate": [6e-4, 1.2e-3, 2.4e-3], "label_weight": [0.25, 0.5, 0.75]}
    recipe = parse_recipe(small_recipe(search=search))
    configs = {arm.name: recipe.configs(arm) for arm in recipe.arms}
    assert {len(set(tried)) for tried in configs.values()} == {9}
    assert all(config.label_weight == 1 for config in configs["labels"])


@pytest.mark.parametrize(
    ("rates", "asked", "trials", "trainings"),
    [
        ([3e-3], 3, 0, 1),  # nothing to choose
        ([3e-3, 1e-3], 3, 2, 3),  # the whole grid
        ([3e-3, 1e-3, 1e-4, 1e-5], 3, 3, 4),
        ([3e-3, 1e-3], 1, 0, 1),  # no search: the first of each list
    ],
)
def test_the_price_of_a_search(
    small_recipe: Make, rates: list[float], asked: int, trials: int, trainings: int
) -> None:
    search = {"learning_rate": rates, "label_weight": [0.3], "trials": asked}
    recipe = parse_recipe(small_recipe(search=search, seeds=[0, 1, 2]))
    assert (recipe.configurations, recipe.trials) == (len(rates), trials)
    assert recipe.trainings == 3 * 3 * trainings  # arms, seeds


def test_the_paper_s_recipe_takes_220_trainings() -> None:
    recipe = load_recipe("anli-r1")
    assert (len(recipe.arms), recipe.trials, recipe.configurations) == (11, 3, 9)
    assert recipe.trainings == 220  # as README says


def test_no_seed_of_a_replicate_can_be_that_of_a_trial(small_recipe: Make) -> None:
    parse_recipe(small_recipe(seeds=[0, 2**31 - 1]))
    with pytest.raises(RecipeError, match=r"seeds\.1: got 2147483648"):
        parse_recipe(small_recipe(seeds=[0, 2**31]))


def test_configurations_that_differ_have_folders_that_differ() -> None:
    rates = [1.2e-3, 1.2000001e-3, 1.20000001e-3, 1.0, 1e-5]
    names = [Config(rate, 0.3).name for rate in rates]
    assert len(set(names)) == len(rates)
    assert (names[0], names[3]) == ("lr-0.0012_w-0.3", "lr-1_w-0.3")


@pytest.mark.parametrize(
    ("listed", "weights", "tried"),
    [
        ([3e-3], 1, [3e-3]),
        ([3e-3], 2, [3e-3, 1.5e-3]),
        ([3e-3], 3, [3e-3, 1.5e-3, 6e-3]),
        # Of two equal gaps the lower one first.
        ([3e-3], 5, [3e-3, 1.5e-3, 6e-3, 2.121e-3, 4.243e-3]),
        ([1e-3, 2e-3, 4e-3], 1, [1e-3, 2e-3, 4e-3]),
        ([1e-3, 2e-3, 4e-3], 2, [1e-3, 2e-3, 4e-3, 1.414e-3, 2.828e-3, 1.189e-3]),
        # The widest gap is the upper one, by factors and not by differences; any order will do.
        ([9e-3, 1e-4, 2e-4], 2, [9e-3, 1e-4, 2e-4, 1.342e-3, 5.18e-4, 3.475e-3]),
        # By differences the upper gap would be wider.
        ([1e-4, 1e-3, 3e-3], 2, [1e-4, 1e-3, 3e-3, 3.162e-4, 1.778e-4, 5.623e-4]),
        ([1.23456e-3, 3e-3], 1, [1.23456e-3, 3e-3]),
    ],
)
def test_labels_alone_try_every_listed_rate_first(
    small_recipe: Make, listed: list[float], weights: int, tried: list[float]
) -> None:
    search = {"learning_rate": listed, "label_weight": [0.1 + 0.1 * i for i in range(weights)]}
    recipe = parse_recipe(small_recipe(search=search))
    assert [config.learning_rate for config in recipe.configs(recipe.baseline)] == tried
    for arm in recipe.arms:
        of_arm = recipe.configs(arm)
        assert len(set(of_arm)) == len(listed) * weights
        assert set(listed) <= {config.learning_rate for config in of_arm}


def test_the_nine_rates_of_the_recipe_of_the_paper() -> None:
    """An even spread: two equal gaps are halved twice."""
    recipe = load_recipe("anli-r1")
    even = [float(f"{6e-4 * 4 ** (i / 8):.4g}") for i in range(9)]
    assert sorted(c.learning_rate for c in recipe.configs(recipe.baseline)) == even


def test_the_family_of_comparisons(small_recipe: Make) -> None:
    recipe = parse_recipe(small_recipe())
    assert recipe.comparisons().primary == (
        ("reasoning", "labels"),
        ("reasoning", "reasoning-shuffled"),
    )
    assert recipe.comparisons().secondary == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [", "not valid YAML"),
        (b"- a\n- b\n", "got list, expected a mapping"),
        (b"\xff\xfe\x00junk", "could not be read as text"),
        (b"", "got NoneType, expected a mapping"),
    ],
)
def test_files_that_are_not_recipes(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'quickstart'"):
        load_recipe("quikstart")
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(tmp_path)
