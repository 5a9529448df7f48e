"""`tutelage frontier`: what the teacher's help with hard rows costs, and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.terminal import command_of


def frontier(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The threshold to choose. Default: the best on dev."),
    ] = None,
    most_usd: Annotated[
        float | None,
        typer.Option(
            min=0, help="US dollars for 1,000 rows that the choice may cost. Default: no limit."
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(min=2, help="Rows of dev, drawn by their text. Default: all of them."),
    ] = None,
    ask: Annotated[
        bool,
        typer.Option(
            "--ask", help="Ask the teacher where the ledger has no answer, within the budget."
        ),
    ] = False,
    test: Annotated[
        bool,
        typer.Option(
            "--test",
            help="Evaluate the chosen threshold on the test set; the manifest records it.",
        ),
    ] = False,
    ledger: Annotated[
        Path | None, typer.Option(help="The file that keeps paid answers ($TUTELAGE_LEDGER).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print frontier.json instead.")] = False,
) -> None:
    """Draw accuracy against cost: student, teacher, and thresholds between them.

    Below a threshold the teacher is asked for the label, as `serve --escalate` does. Thresholds are
    compared on dev, with the run's own predictions and the teacher's answers in the ledger.
    frontier.json and frontier.html go to the run's folder.

    Example: `tutelage frontier runs/reviews --ask`
    """
    from rich.table import Table

    from tutelage import api
    from tutelage.cli.terminal import Bars, out_console, print_json

    with Bars() as bars:
        found = api.frontier(
            run,
            rows=rows,
            threshold=threshold,
            most_usd=most_usd,
            ask=ask,
            test=test,
            ledger=ledger,
            observer=bars,
        )
        page = api.write_frontier(found, run / "frontier.html")
    if json:
        print_json(found)
        return
    columns, cells, sentences = api.frontier_table(found)
    table = Table(title=f"Accuracy on {found.rows:,} rows of dev, by cost", title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == columns[0] else "right")
    for row in cells:
        table.add_row(*row)
    console = out_console()
    console.print(table)
    for sentence in sentences:
        console.print(sentence, markup=False, soft_wrap=True)
    print(f"Picture: {page}")


app = command_of(frontier)
