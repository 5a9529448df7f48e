"""Options that describe the contents of a data file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.options import Given
from tutelage.config.layout_settings import LayoutSettings

if TYPE_CHECKING:
    from tutelage.api import FileTask

PANEL = "What the file holds"

TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="nli, sentiment, yes_no, or '{fields: [text], labels: [good, bad]}'.",
        rich_help_panel=PANEL,
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="A recipe with the task and how files are read.",
        rich_help_panel=PANEL,
    ),
]
LabelColumnOption = Annotated[
    str | None,
    typer.Option("--label-column", help="The column that holds the label.", rich_help_panel=PANEL),
]
TextColumnsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text-columns",
        metavar="A,B",
        help="The columns of text, in the order of the task's fields.",
        rich_help_panel=PANEL,
    ),
]


def file_task(
    data: str,
    task: str | None,
    recipe: str | None,
    label_column: str | None,
    text_columns: list[str] | None,
    given: Given,
) -> FileTask:
    """Find the task of a file, and how it is read, from these options and those of
    LayoutSettings, or guess them from the file."""
    from tutelage import api
    from tutelage.config.recipe_file import load_recipe

    said = given.values.get(LayoutSettings)
    return api.file_task(
        data,
        task=task,
        recipe=None if recipe is None else load_recipe(recipe),
        label_column=label_column,
        text_columns=split_names(text_columns),
        layout=given.build(LayoutSettings) if said else None,
    )


def split_names(given: list[str] | None) -> list[str]:
    """The names in an option that may be repeated, and hold several separated by commas."""
    names = [name.strip() for part in given or () for name in part.split(",")]
    return [name for name in names if name]
