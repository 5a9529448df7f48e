"""Runs the application with uvicorn until it is told to end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from tutelage.config.serve_settings import ServeSettings
from tutelage.core.errors import UsageError
from tutelage.deliver.exported import ExportedModel
from tutelage.deliver.serving.app import make_app
from tutelage.deliver.serving.receiving import protocol_with_deadline


class Server(uvicorn.Server):
    """A server that says that it is no longer ready as soon as it is told to end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called on SIGTERM and SIGINT."""
        self.config.app.state.stopping = True  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def make_server(app: Any, settings: ServeSettings) -> Server:
    """The server of an application."""
    config = uvicorn.Config(
        app,
        http=protocol_with_deadline(settings.receive_seconds),
        ws="none",
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    return Server(config)


def serve(
    folder: Path,
    settings: ServeSettings,
    *,
    threshold: float | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the export in `folder` until SIGTERM or SIGINT.

    threshold: probability from which an answer is trusted; None: the export's own
    on_ready:  called with the address, once it listens

    Raises UsageError where the address cannot be used, StudentError for a faulty export.
    """
    model = ExportedModel.load(folder)
    if model.record.label_engine == "openvino":
        model.engine.scores([[1, 2, 3]])  # so that the first request does not wait for it
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"{settings.host}:{settings.port}: cannot be listened on ({error.strerror}): name "
            "another --port or --host"
        ) from error
    app = make_app(model, settings, threshold=threshold)
    server = make_server(app, settings)
    if on_ready is not None:
        name = f"[{settings.host}]" if ":" in settings.host else settings.host
        on_ready(f"http://{name}:{listener.getsockname()[1]}")
    server.run(sockets=[listener])
