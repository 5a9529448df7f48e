"""Options that describe the contents of a data file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tutelage.api import FileTask

_PANEL = "What the file holds"

TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="nli, or fields and labels: '{fields: [text], labels: [good, bad]}'.",
        rich_help_panel=_PANEL,
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", help="A recipe that has the task and columns.", rich_help_panel=_PANEL
    ),
]
LabelColumnOption = Annotated[
    str | None,
    typer.Option("--label-column", help="The column that holds the label.", rich_help_panel=_PANEL),
]
TextColumnsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text-columns",
        metavar="A,B",
        help="The columns of text, in the order of the task's fields.",
        rich_help_panel=_PANEL,
    ),
]


def file_task(
    data: str,
    task: str | None,
    recipe: str | None,
    label_column: str | None,
    text_columns: list[str] | None,
) -> FileTask:
    """Find the task and columns of a file from these options, or guess them from the file."""
    from tutelage import api
    from tutelage.config.recipe_file import load_recipe

    columns = [name.strip() for part in text_columns or () for name in part.split(",")]
    return api.file_task(
        data,
        task=task,
        recipe=None if recipe is None else load_recipe(recipe),
        label_column=label_column,
        text_columns=[name for name in columns if name],
    )
