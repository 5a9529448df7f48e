"""A server in a thread of this process, and what talks to it."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tutelage.config.serve_settings import ServeSettings
from tutelage.deliver.escalation import open_escalation
from tutelage.deliver.exported import ExportedModel
from tutelage.deliver.serving.app import make_app
from tutelage.deliver.serving.http_server import Server, make_server


@dataclass
class Served:
    port: int
    log: io.StringIO
    server: Server
    app: Any

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """(status, headers, JSON or text)"""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json"} if content is not None else {}
        connection.request(method, path, content, given | (headers or {}))
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        kind = answer.headers.get("content-type", "")
        found = json.loads(text) if kind.startswith("application/json") else text
        return answer.status, {k.lower(): v for k, v in answer.headers.items()}, found

    def predict(self, body: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
        return self.call("POST", "/predict", body, headers)

    def raw(self, content: bytes) -> bytes:
        """What the server answers to these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(content)
            found = b""
            while part := connection.recv(65536):
                found += part
            return found

    def lines(self, at_least: int = 0) -> list[dict[str, Any]]:
        """The log's lines; a request's is written after its answer was sent."""
        deadline = time.monotonic() + 10
        while self.log.getvalue().count("\n") < at_least and time.monotonic() < deadline:
            time.sleep(0.01)
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@contextmanager
def serving(folder: Path, threshold: float | None = None, **changes: Any) -> Iterator[Served]:
    settings = ServeSettings(port=0, **changes)
    log = io.StringIO()
    model = ExportedModel.load(folder)
    escalation = open_escalation(
        settings, model.task, threshold, timeout_s=settings.escalation_seconds
    )
    app = make_app(model, settings, threshold=threshold, escalation=escalation, log=log)
    server = make_server(app, settings)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Served(listener.getsockname()[1], log, server, app)
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
