"""`tutelage runs`: the runs of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.terminal import command_of


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the runs.")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List runs: when they were begun, whether they are finished, and what they found.

    Example: `tutelage runs`
    """
    from tutelage import api
    from tutelage.cli.terminal import out_console, print_json
    from tutelage.core.storage import read_json

    found = []
    for path in sorted(folder.glob("*/manifest.json")):
        manifest, results = read_json(path), path.parent / "results.json"
        document = read_json(results) if results.exists() else None
        found.append(
            {
                "name": manifest["name"],
                "started": manifest["started"],
                "finished": bool(document and document["finished"]),
                "folder": str(path.parent),
                "answer": api.answer_sentences(document) if document else [],
            }
        )
    if json:
        print_json(found)
        return
    if not found:
        print(f"No runs in {folder}/. `tutelage run quickstart` makes one.")
    for run in found:
        state = "finished" if run["finished"] else "unfinished"
        print(f"{run['name']}  {run['started']}  {state}  {run['folder']}")
        for sentence in run["answer"]:
            out_console().print(f"    {sentence}", markup=False, soft_wrap=True)


app = command_of(runs)
