"""Runs the application with uvicorn until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from tutelage.config.serve_settings import ServeSettings
from tutelage.core.errors import UsageError
from tutelage.deliver.escalation import open_escalation
from tutelage.deliver.exported import ExportedModel
from tutelage.deliver.kept_promise import chosen_threshold
from tutelage.deliver.serving.app import make_app
from tutelage.deliver.serving.receiving import protocol_with_deadline
from tutelage.deliver.trained import Student
from tutelage.evaluation.promise import Kept


class Server(uvicorn.Server):
    """A server that says that it is no longer ready as soon as it is stopped."""

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
    on_ready: Callable[[str, Kept | None], None] | None = None,
) -> None:
    """Serve the export in `folder` until SIGTERM or SIGINT.

    on_ready: called once it listens, with the address and with what the threshold that keeps the
              promise keeps

    Raises UsageError where the address cannot be used, the promise cannot be kept or no teacher can
    be asked, StudentError for a faulty export.
    """
    model = Student.load(folder).loaded
    if not isinstance(model, ExportedModel):
        raise UsageError(f"{folder}: is not an export: `tutelage export` makes one of it")
    threshold, kept = chosen_threshold(folder, model.record, settings)
    escalation = open_escalation(
        settings, model.task, threshold, timeout_s=settings.escalation_seconds
    )
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
    app = make_app(model, settings, threshold=threshold, escalation=escalation)
    server = make_server(app, settings)
    if on_ready is not None:
        name = f"[{settings.host}]" if ":" in settings.host else settings.host
        on_ready(f"http://{name}:{listener.getsockname()[1]}", kept)
    server.run(sockets=[listener])
