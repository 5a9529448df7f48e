"""`tutelage report`: the report of a run, made again from what is in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.terminal import command_of


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, such as runs/quickstart.")],
    output: Annotated[
        Path | None, typer.Option(help="Where the page goes (default: report.html in the run).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print results.json, no tables.")] = False,
) -> None:
    """Make report.html, and report.md beside it, of a run's folder, and print its tables.

    Example: `tutelage report runs/quickstart`
    """
    from tutelage import api
    from tutelage.cli.terminal import print_json, print_results
    from tutelage.core.errors import UsageError
    from tutelage.core.results import load_results

    path = run / "results.json"
    if not path.exists():
        raise UsageError(f"{run}: holds no results.json: expected the folder of a finished run")
    if output is not None and output.suffix == ".md":
        raise UsageError(f"{output}: is where report.md would go: name the page, such as x.html")
    page = api.write_report(run, output)
    results = load_results(path)
    if json:
        print_json(results)
        return
    print_results(results)
    print(f"\nReport: {page}\nFor a pull request: {page.with_suffix('.md')}")


app = command_of(report)
