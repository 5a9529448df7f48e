"""`tutelage report`: the report of a run, made again from its results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="A run folder, such as runs/quickstart.")],
    output: Annotated[
        Path | None, typer.Option(help="Where the page goes (default: report.html in the run).")
    ] = None,
) -> None:
    """Make report.html of a run's results.json, and print its tables.

    Example: `tutelage report runs/quickstart`
    """
    from tutelage.commands.terminal import print_results
    from tutelage.errors import UsageError
    from tutelage.report.page import render_report
    from tutelage.runfolder import read_json, write_atomic

    path = run / "results.json"
    if not path.exists():
        raise UsageError(f"{run}: holds no results.json: expected the folder of a finished run")
    results = read_json(path)
    page = output or run / "report.html"
    write_atomic(page, render_report(results, title=f"Tutelage: {results['name']}"))
    print_results(results)
    print(f"\nReport: {page}")


command.__name__ = "report"
