"""`tutelage compare`: compare two students on the same rows, or two whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.terminal import command_of

if TYPE_CHECKING:
    from tutelage.api import TwoRuns


def compare(
    arm: Annotated[
        Path, typer.Argument(help="A run folder, an arm's folder or a file of predictions.")
    ],
    baseline: Annotated[Path, typer.Argument(help="The same for the other run or student.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="The predicted rows, to group those of one premise; a run folder has them."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A recipe with the task and how files are read. Default: NLI."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare two students on the same rows, or two whole runs.

    Prints the difference in accuracy with its interval and test, paired row by row. Two runs are
    compared arm by arm, on the test rows that both have.

    Example: `tutelage compare runs/anli runs/anli-larger-student`

    Example: `tutelage compare runs/anli/arms/reasoning/lr-0.0006_w-0.5
    runs/anli/arms/labels/lr-0.0006_w-1`

    Example: `tutelage compare mine.jsonl theirs.jsonl --data test.jsonl`
    """
    from tutelage import api
    from tutelage.cli.terminal import (
        print_comparisons,
        print_json,
        print_scores,
        task_and_layout,
        warn_of_independence,
    )
    from tutelage.config.recipe_file import load_recipe
    from tutelage.core.errors import UsageError

    whole = [api.is_run(path) for path in (arm, baseline)]
    if any(whole):
        if not all(whole):
            raise UsageError(
                f"got a run and something else ({arm}, {baseline}): expected two runs' folders, or "
                "two arms' folders or files of predictions"
            )
        if data is not None or recipe is not None:
            raise UsageError(
                "got --data or --recipe with two runs, whose folders have the rows and the task: "
                "remove these options"
            )
        both = api.compare_runs(arm, baseline)
        if json:
            print_json(both)
        else:
            _print_runs(both)
        return
    task, layout = task_and_layout(None if recipe is None else load_recipe(recipe))
    found, independent = api.compare_files(arm, baseline, data=data, task=task, layout=layout)
    if independent:
        warn_of_independence(task.context)
    if json:
        print_scores(found, independent)
        return
    title = f"Difference in accuracy, in points, on {found.n} rows and {found.seeds} seeds"
    print_comparisons([found], title)
    print(f"{found.test}")


def _print_runs(both: TwoRuns) -> None:
    """Print a table of the arms that both runs have, and remarks."""
    from rich.markup import escape
    from rich.table import Table

    from tutelage.cli.terminal import out_console
    from tutelage.core import wording

    console = out_console()
    for letter, name, rows, cost in zip("AB", both.runs, both.rows, both.cost_usd, strict=True):
        console.print(
            f"{letter}: {name}, {wording.several(rows, 'test row')}, teacher "
            f"{wording.dollars(cost)}",
            markup=False,
        )
    title = f"Differences in test {both.metric}, A minus B, in points"
    table = Table(title=title, title_justify="left")
    for name in ("arm", "A", "B", "difference", "95% interval", "p", "p (Holm)", "test"):
        table.add_column(name, justify="left" if name in ("arm", "test") else "right")
    for arm in both.arms:
        known = arm.paired
        table.add_row(
            escape(arm.arm),
            *map(wording.percent, arm.accuracies),
            wording.points(arm.difference),
            wording.points_interval(arm.ci95),
            "" if known is None else wording.p_value(known.p_value),
            "" if known is None else wording.p_value(known.p_adjusted),
            "paired" if known else f"unpaired: {arm.why}",
        )
    console.print(table)
    tests = sorted({arm.paired.test for arm in both.arms if arm.paired is not None})
    remarks = [f"test: {test}" for test in tests]
    remarks += [
        f"only in {letter}: {', '.join(names)}"
        for letter, names in zip("AB", both.only, strict=True)
        if names
    ]
    for remark in (*remarks, *both.remarks):
        console.print(f"  {remark}", markup=False, soft_wrap=True)


app = command_of(compare)
