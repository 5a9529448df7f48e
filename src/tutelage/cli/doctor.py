"""`tutelage doctor`: check what is installed and reachable, and say how to fix the rest."""

from __future__ import annotations

from typing import Annotated

import typer

from tutelage.cli.terminal import command_of


def doctor(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A recipe whose data, teachers and student are also checked."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check packages, device, ledger, disk, data, servers and student. Exit code 1 where something
    is missing.

    Each teacher of a recipe gets one real request, with the recipe's own parameters and within its
    budget; the answer is kept, so that a run does not pay for it again.

    Example: `tutelage doctor quickstart`
    """
    from tutelage import api
    from tutelage.cli.terminal import print_json

    findings = api.doctor(recipe)
    if json:
        print_json(findings)
    else:
        for finding in findings:
            mark = {"ok": "ok     ", "missing": "MISSING", "optional": "-      "}[finding.status]
            print(f"{mark} {finding.what}: {finding.found}")  # rich reads :m: as an emoji
    if any(finding.status == "missing" for finding in findings):
        raise typer.Exit(1)


app = command_of(doctor)
