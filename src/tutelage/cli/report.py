"""`tutelage report`: write a run's report again from the files in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.terminal import command_of


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, such as runs/quickstart.")],
    output: Annotated[
        Path | None,
        typer.Option(help="The one file to write: .html, or .md. Default: both in the run."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print results.json instead of tables.")
    ] = False,
) -> None:
    """Write the report of a finished run again, and print its tables.

    Writes report.html and report.md into the run's folder, or the one file that is named.

    Example: `tutelage report runs/quickstart`
    """
    from tutelage import api
    from tutelage.cli.terminal import print_json, print_results
    from tutelage.core.errors import UsageError
    from tutelage.core.results import load_results
    from tutelage.core.storage import refuse_folder

    path = run / "results.json"
    if not path.exists():
        raise UsageError(f"{run}: holds no results.json: expected the folder of a finished run")
    if output is not None:
        refuse_folder(output)
    page = api.write_report(run, output)
    results = load_results(path)
    if json:
        print_json(results)
        return
    print_results(results)
    print(f"\nReport: {page}")
    if output is None:
        print(f"For a pull request: {page.with_suffix('.md')}")


app = command_of(report)
