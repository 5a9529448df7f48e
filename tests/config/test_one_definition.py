"""A setting is defined once: key, stage, constructor, option and reference follow from it."""

from __future__ import annotations

import math
from typing import Annotated, Any

import pytest
import typer
from pydantic import Field, TypeAdapter
from typer.testing import CliRunner

from tutelage.cli.options import Given, takes
from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.config.settings import Number, Settings, nested_section
from tutelage.config.teacher_settings import PriceOverride, TeacherSettings
from tutelage.config.training_settings import StudentSettings, TrainingOptions, TrainSettings
from tutelage.core.errors import RecipeError, UsageError

RUNNER = CliRunner()


def options_of(command: str) -> set[str]:
    from tutelage.cli.main import app

    shown = RUNNER.invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    return {word for word in shown.replace(",", " ").split() if word.startswith("--")}


def test_the_recipe_and_the_stages_share_their_classes() -> None:
    """Not equal fields but the same ones: a stage receives the section or a subclass of it."""
    assert nested_section(Recipe.model_fields["teacher"].annotation) is TeacherSettings
    assert nested_section(Recipe.model_fields["student"].annotation) is StudentSettings
    shared = set(TrainingOptions.model_fields)
    assert shared == set(StudentSettings.model_fields) & set(TrainSettings.model_fields)
    for name in shared:
        mine, theirs = StudentSettings.model_fields[name], TrainSettings.model_fields[name]
        assert (mine.annotation, mine.default) == (theirs.annotation, theirs.default)
    assert {"model", "tracking"} == set(StudentSettings.model_fields) - shared
    assert {"objective", "learning_rate", "label_weight", "seed"} == (
        set(TrainSettings.model_fields) - shared
    )


def test_every_setting_of_a_stage_is_an_option_of_its_command() -> None:
    names = {"model": "teacher"}
    wanted = {f"--{names.get(n, n).replace('_', '-')}" for n in TeacherSettings.model_fields}
    assert wanted <= options_of("annotate")
    wanted = {f"--{n.replace('_', '-')}" for n in TrainSettings.model_fields}
    assert wanted | {"--student", "--track"} <= options_of("train")
    assert {"--pilot", "--ledger", "--runs", "--like"} <= options_of("plan")


def test_a_setting_added_in_one_place_appears_in_all() -> None:
    class Wider(TrainSettings):
        """With one more field."""

        label_smoothing: Number = Field(
            0.0, ge=0, lt=1, description="Label smoothing.", examples=[0.1]
        )

    class WiderRecipe(Settings):
        """A recipe with that section."""

        student: Wider = Wider()

    seen: list[Wider] = []

    @takes(Wider, "Training")
    def command(given: Given) -> None:
        seen.append(given.build(Wider))

    app = typer.Typer()
    app.command()(command)
    assert RUNNER.invoke(app, ["--label-smoothing", "0.25"]).exit_code == 0
    assert seen[0] == Wider(label_smoothing=0.25)  # option and Python
    recipe = WiderRecipe.model_validate({"student": {"label_smoothing": 0.25}})  # recipe
    assert recipe.student == seen[0]
    failed = RUNNER.invoke(app, ["--label-smoothing", "1"])
    assert str(failed.exception).startswith("--label-smoothing: got 1.0: ")
    from tutelage.config.reference import table_of

    assert "| `student.label_smoothing` |" in table_of(Wider, "student")


def test_every_field_is_documented_with_an_example_that_is_valid() -> None:
    todo: list[type[Settings]] = [Recipe, TrainSettings]
    seen: set[type[Settings]] = set()
    while todo:
        kind = todo.pop()
        if kind in seen:
            continue
        seen.add(kind)
        for name, field in kind.model_fields.items():
            where = f"{kind.__name__}.{name}"
            assert field.description and field.description.endswith("."), where
            assert field.examples, where
            if (section := nested_section(field.annotation)) is not None:
                todo.append(section)
            adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])
            adapter.validate_python(field.examples[0])
    assert len(seen) >= 12


@pytest.mark.parametrize("given", [{"price": 0}, {"price": {"input": 0, "output": 0}}])
def test_price_zero_is_a_price(given: dict[str, Any]) -> None:
    assert TeacherSettings(model="openai:m", **given).price == PriceOverride(input=0, output=0)


@pytest.mark.parametrize(
    ("rows", "said", "limit"),
    [
        (5000, None, 50),
        (90, None, 10),
        (None, None, 100),
        (5000, 3, 3),
        (5000, 0, 0),
        (5000, "never", None),
    ],
)
def test_max_failed_means_the_same_everywhere(
    rows: int | None, said: int | str | None, limit: int | None
) -> None:
    assert TeacherSettings(model="scripted", max_failed=said).failure_limit(rows) == limit  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("search.learning_rate", [math.inf]),
        ("search.learning_rate", [math.nan]),
        ("search.learning_rate", [True]),
        ("student.weight_decay", math.inf),
        ("student.max_grad_norm", math.inf),
        ("student.epochs", True),
        ("student.model", ""),
        ("student.model", "  "),
        ("teacher.model", ""),
        ("teacher.temperature", math.nan),
        ("teacher.temperature", -1),
        ("teacher.seed", 2**70),
        ("teacher.max_failed", "sometimes"),
        ("teacher.max_failed", -1),
        ("teacher.price", {"input": -1, "output": 1}),
        ("teacher.price", 1),
        ("seeds", [2**70, 1]),
        ("seeds", [-1, 1]),
        ("seeds", [True, 2]),
        ("seeds", [0.5, 2]),
        ("seeds", [2**31, 1]),
        ("search.trials", 0),
        ("search.trials", True),
        ("margin", math.inf),
        ("data.dev", True),
        ("data.dev", ""),
        ("data.dev", math.inf),
        ("explain_rows", True),
        ("teacher_baseline.rows", True),
    ],
)
def test_a_definition_has_all_of_its_constraints(small_recipe: Any, where: str, value: Any) -> None:
    values = small_recipe(teacher={"model": "scripted"})
    section, _, key = where.rpartition(".")
    if section:
        values[section] = {**values.get(section, {}), key: value}
    else:
        values[key] = value
    with pytest.raises(RecipeError) as caught:
        parse_recipe(values)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TrainSettings, {"learning_rate": math.inf}),
        (TrainSettings, {"seed": 2**70}),
        (TrainSettings, {"seed": True}),
        (TrainSettings, {"learning_rat": 0.1}),
        (TrainSettings, {"compile": True, "lora": {}}),
        (TeacherSettings, {"model": ""}),
        (TeacherSettings, {}),
    ],
)
def test_python_errors_are_one_line_too(kind: type[Settings], values: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        kind(**values)
    assert str(caught.value).startswith(f"{kind.__name__}: ")
    assert "\n" not in str(caught.value)


def test_a_copy_with_changes_is_checked() -> None:
    settings = TrainSettings(epochs=3)
    assert settings.replace(seed=4) == TrainSettings(epochs=3, seed=4)
    with pytest.raises(UsageError, match="epochs: got 0"):
        settings.replace(epochs=0)
    assert hash(TeacherSettings(model="scripted")) == hash(TeacherSettings(model="scripted"))


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'learning_rate'"):
        TrainSettings(learning_rat=0.1)  # type: ignore[call-arg]
