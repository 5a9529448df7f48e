"""`tutelage compare`: two students on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    arm: Annotated[Path, typer.Argument(help="Predictions: a file, or an arm's folder of seeds.")],
    baseline: Annotated[Path, typer.Argument(help="The same, of the other student.")],
    data: Annotated[
        str | None, typer.Option(help="The rows that were read, so that shared premises count.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="For its task, if it is not NLI.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """The difference in accuracy with its interval and test, paired row by row.

    Example: `tutelage compare runs/anli/arms/reasoning/lr-0.0006_w-0.5
    runs/anli/arms/labels/lr-0.0006_w-1 --data test.jsonl`
    """
    from tutelage.commands.terminal import print_comparisons, print_json
    from tutelage.reading import compare_files
    from tutelage.recipe_file import task_of
    from tutelage.runfolder import as_json

    found = compare_files(arm, baseline, data=data, task=task_of(recipe))
    if json:
        print_json(found)
        return
    title = f"Difference in accuracy, in points, on {found.n} rows and {found.seeds} seeds"
    print_comparisons([as_json(found)], title)
    print(f"{found.test}")


command.__name__ = "compare"
