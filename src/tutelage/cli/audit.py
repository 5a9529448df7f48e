"""`tutelage audit`: measure lengths in the student's tokens, and what would be cut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.data_options import (
    PANEL,
    LabelColumnOption,
    RecipeOption,
    TaskOption,
    TextColumnsOption,
    file_task,
)
from tutelage.cli.options import Given, takes
from tutelage.cli.terminal import command_of
from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.training_settings import StudentSettings, TrainSettings

if TYPE_CHECKING:
    from rich.table import Table

    from tutelage.api import Audit, Cut, Lengths


@takes(
    TrainSettings,
    "For a data file",
    only=("objective", "max_source_tokens", "max_rationale_tokens"),
)
@takes(StudentSettings, "For a data file", only=("model",), names={"model": "student"})
@takes(LayoutSettings, PANEL)
def audit(
    data: Annotated[str, typer.Argument(help="A recipe (.yaml), a data file or hf:NAME#SPLIT.")],
    given: Given,
    rationales: Annotated[
        Path | None,
        typer.Option(
            help="A file that `tutelage annotate` wrote.", rich_help_panel="For a data file"
        ),
    ] = None,
    task: TaskOption = None,
    recipe: RecipeOption = None,
    label_column: LabelColumnOption = None,
    text_columns: TextColumnsOption = None,
    runs: Annotated[Path, typer.Option(help="For a recipe: the folder of its runs.")] = Path(
        "runs"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure every field, input and rationale in the student's tokens.

    Also counts what would be cut. Loads the tokenizer and no weights, trains nothing, sends nothing
    and writes nothing. A recipe's rationales are those in its run folder.

    Example: `tutelage audit recipe.yaml`
    """
    from tutelage import api
    from tutelage.cli.terminal import Bars, print_json
    from tutelage.config.recipe_file import is_recipe, load_recipe
    from tutelage.core.errors import UsageError, require_extra

    require_extra("train", "tutelage audit")
    with Bars() as bars:
        if is_recipe(data):
            wrong = [*given.names(), *(["--rationales"] if rationales is not None else [])]
            if wrong:
                raise UsageError(
                    f"{wrong[0]} is for a data file; a recipe has it as a key: change it in {data}"
                )
            found = api.audit_recipe(load_recipe(data), runs, bars)
        else:
            if not given.values[StudentSettings]:
                raise UsageError(
                    f"{data} is not a recipe (.yaml): for a data file, name the student with "
                    "--student"
                )
            described = file_task(data, task, recipe, label_column, text_columns, given)
            if described.guess:
                bars.note(described.guess)
            found = api.audit_file(
                data,
                rationales,
                given.build(StudentSettings).model,
                given.build(TrainSettings),
                bars,
                task=described.task,
                layout=described.layout,
            )
    if json:
        print_json(found)
    else:
        _show(found)


def _show(audit: Audit) -> None:
    from rich.markup import escape

    from tutelage.cli.terminal import out_console

    console = out_console()
    table = _table(
        f"Tokens under {escape(audit.student)}'s tokenizer ({audit.vocabulary:,} entries)"
    )
    for split in audit.splits:
        for field, found in split.fields.items():
            _row(table, split.name, escape(field), found)
        _row(table, split.name, "whole input", split.source, split.cut)
    for arm in audit.arms:
        name = escape(arm.name)
        _row(table, name, "label", arm.label)
        if arm.rationale.count:
            _row(table, name, "rationale", arm.rationale, arm.rationales)
    console.print(table)
    for split in audit.splits:
        if split.cut.rows_beyond:
            complaint = (
                f"{split.name}: in {split.cut.rows_beyond:,} inputs more is cut than the field "
            )
            console.print(complaint + "that is cut first: raise max_source_tokens", markup=False)
    for arm in audit.arms:
        pad = arm.padding
        console.print(
            f"{arm.name}: {pad.share:.1%} of {pad.positions:,} positions an epoch are padding; "
            f"padded to 600 and 400 tokens it would be {pad.fixed_share:.1%} of "
            f"{pad.fixed_positions:,} ({pad.fixed_positions / pad.positions:.1f} times as many)",
            markup=False,
            soft_wrap=True,
        )
    for note in audit.notes:
        console.print(note, markup=False, soft_wrap=True)


def _table(title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("")
    for name in ("rows", "50%", "90%", "95%", "99%", "longest", "limit", "rows cut", "tokens cut"):
        table.add_column(name, justify="right")
    return table


def _row(table: Table, where: str, what: str, found: Lengths, cut: Cut | None = None) -> None:
    numbers = (found.count, found.p50, found.p90, found.p95, found.p99, found.longest)
    lost = () if cut is None else (cut.limit, cut.rows, cut.tokens)
    table.add_row(where, what, *(f"{number:,}" for number in (*numbers, *lost)))


app = command_of(audit)
