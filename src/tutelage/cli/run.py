"""`tutelage run`: run an experiment from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.options import Given, takes
from tutelage.cli.terminal import command_of
from tutelage.config.scale_settings import ScaleSettings


@takes(ScaleSettings, "Where the students are trained", only=("engine", "ray_address"))
def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or `quickstart`, or `anli-r1`.")],
    given: Given,
    runs: Annotated[Path, typer.Option(help="The folder that holds the runs.")] = Path("runs"),
    ledger: Annotated[
        Path | None, typer.Option(help="The file that keeps paid answers ($TUTELAGE_LEDGER).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trainings at the same time. Default: as many as fit.")
    ] = None,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Do not wait for open batches: a later call collects them."),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option(help="Repeat requests that have failed permanently.")
    ] = False,
    fractions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="0.1,0.3",
            help="Also train what each seed chose on these fractions of the rows, for "
            "learning curves on dev. Default: no curves in results.json; fractions that were "
            "trained before are kept.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print results.json instead of tables.")
    ] = False,
) -> None:
    """Run an experiment: annotate, train, evaluate, compare, report.

    The same command continues an interrupted run, and repeats nothing. With --engine ray a Ray
    cluster trains the students, one on each GPU; all its machines must see the folder of --runs.

    Example: `tutelage run quickstart`
    """
    from tutelage import api
    from tutelage.cli.terminal import Bars, print_json, print_results
    from tutelage.config.recipe_file import load_recipe
    from tutelage.core.errors import require_extra

    require_extra("train", "tutelage run")
    with api.main_process() as first, Bars() as bars:
        if not first:
            return
        loaded = load_recipe(recipe)
        done = api.run(
            loaded,
            runs=runs,
            ledger=ledger,
            workers=workers,
            observer=bars,
            retry_failed=retry_failed,
            wait=not no_wait,
            fractions=fractions or (),
            scale=given.build(ScaleSettings),
        )
    if json:
        print_json(done.results)
        return
    print_results(done.results)
    print(f"\nReport: {done.folder / 'report.html'}\nResults: {done.folder / 'results.json'}")


app = command_of(run)
