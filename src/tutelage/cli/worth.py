"""`tutelage worth`: what the money of a finished run bought, as a table and in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.terminal import command_of


def worth(
    run: Annotated[Path, typer.Argument(help="The folder of a run, such as runs/support.")],
    json: Annotated[
        bool, typer.Option("--json", help="Print `worth` of results.json instead.")
    ] = False,
) -> None:
    """Show what a run's money bought: labels, rationales, or more gold rows.

    A table of the arms with what they cost and reach, what the money is best spent on, and how many
    gold rows each is worth. All of it comes from the run's results.json.

    Example: `tutelage worth runs/support`
    """
    from rich.table import Table

    from tutelage import api
    from tutelage.cli.terminal import out_console, print_json

    found = api.worth(run)
    if json:
        print_json(found.worth)
        return
    title = f"What the money bought: {found.metric} on the test set"
    table = Table(title=title, title_justify="left")
    for name in found.columns:
        table.add_column(name, justify="left" if name in found.columns[:2] else "right")
    for row in found.rows:
        table.add_row(*row.cells)
    console = out_console()
    console.print(table)
    for sentence in found.sentences:
        console.print(sentence, markup=False, soft_wrap=True)


app = command_of(worth)
