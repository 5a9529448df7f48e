"""`tutelage serve`: an exported model as a service."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.cli.options import Given, takes
from tutelage.cli.terminal import command_of
from tutelage.config.serve_settings import ServeSettings


@takes(ServeSettings, "Server")
def serve(
    export: Annotated[Path, typer.Argument(help="A folder that `tutelage export` wrote.")],
    given: Given,
) -> None:
    """Serve an exported model over HTTP, with a web page.

    POST /predict predicts one row or many; / is a page to try it, /docs describes the interface.
    It listens on this machine alone, unless --host says otherwise.

    Example: `tutelage serve exported --port 8080`
    """
    import os

    from tutelage import api
    from tutelage.core.errors import require_extra

    require_extra("deliver", "tutelage serve")
    others = {"token": os.environ["TUTELAGE_TOKEN"]} if os.environ.get("TUTELAGE_TOKEN") else {}
    settings = given.build(ServeSettings, **others)

    def ready(address: str, kept: Any) -> None:
        if kept is not None:
            print(
                f"threshold {kept.threshold:.4f}: trusted answers are right at least "
                f"{settings.promise:g} of the time (95% sure); it trusts {kept.share:.0%} of rows "
                f"like the {kept.rows:,} that it kept, {kept.errors:,} of them wrong",
                flush=True,
            )
        print(f"{export}: {address} (a page to try it), {address}/docs", flush=True)

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the server shuts down in good order on it
    api.serve(export, settings, on_ready=ready)


app = command_of(serve)
