"""`tutelage publish`: a model, and its data, for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.options import Given, takes
from tutelage.cli.terminal import command_of
from tutelage.config.publish_settings import PublishSettings


@takes(PublishSettings, "What is published")
def publish(
    model: Annotated[
        Path, typer.Argument(help="An export, a checkpoint, …/seed-0/model, or a run's folder.")
    ],
    target: Annotated[
        str, typer.Argument(help="A new folder, laid out like a repository; or hf:OWNER/NAME.")
    ],
    given: Given,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it. Without it, the files are only listed.")
    ] = False,
) -> None:
    """Publish a model with its card to a folder or to the Hugging Face hub.

    Without --yes it lists every file with its size, and writes nothing. Only files that the model's
    record lists are taken; ledgers, secrets and absolute paths in cards are refused. A new
    repository is private, unless --public says otherwise.

    Example: `tutelage publish exported published --licence apache-2.0 --data-licence mit --yes`
    """
    from tutelage import api
    from tutelage.cli.terminal import complain

    for found in api.publish(model, target, given.build(PublishSettings), do_it=yes):
        for file in found.files:
            print(f"{file.size:>14,}  {file.name}")
        total = sum(file.size for file in found.files)
        print(f"{total:>14,}  bytes in {len(found.files):,} files, a {found.kind}")
        for note in found.notes:
            complain(note, label="missing")
        if found.where:
            print(f"Published: {found.where}")
        else:
            print(f"Nothing was written: with --yes this goes to {found.target}")


app = command_of(publish)
