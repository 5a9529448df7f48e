"""`tutelage runs`: list the runs in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.terminal import command_of


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the runs.")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List runs: when they began, whether they are finished, and what they found.

    Example: `tutelage runs`
    """
    from tutelage import api
    from tutelage.cli.terminal import out_console, print_json
    from tutelage.core.errors import RunFolderError
    from tutelage.core.results import load_results
    from tutelage.core.storage import read_json

    found = []
    for path in sorted(folder.glob("*/manifest.json")):
        manifest, file = read_json(path), path.parent / "results.json"
        state, answer = "unfinished", []
        try:
            if file.exists():
                results = load_results(file)
                state = "finished" if results.finished else "unfinished"
                answer = api.answer_sentences(results)
        except RunFolderError as error:  # of another format: list the other runs
            state, answer = "unreadable", [str(error)]
        found.append(
            {
                "name": manifest["name"],
                "started": manifest["started"],
                "finished": state == "finished",
                "state": state,
                "folder": str(path.parent),
                "answer": answer,
            }
        )
    if json:
        print_json(found)
        return
    if not found:
        print(f"No runs in {folder}/. Start one with `tutelage run quickstart`.")
    for run in found:
        print(f"{run['name']}  {run['started']}  {run['state']}  {run['folder']}")
        for sentence in run["answer"]:
            out_console().print(f"    {sentence}", markup=False, soft_wrap=True)


app = command_of(runs)
