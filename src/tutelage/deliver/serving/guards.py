"""What stands before the application: the token, the log, and the count of requests."""

from __future__ import annotations

import hmac
import json
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

Scope = MutableMapping[str, Any]

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz"})
"""Paths that need no token: a page without data, and what a supervisor asks."""


class TokenGuard:
    """Answers 401 to requests without the token."""

    def __init__(self, app: Any, token: str) -> None:
        self._app, self._wanted = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """See the class."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._given(scope):
            await self._app(scope, receive, send)
            return
        await refuse(send, 401, "expected the header Authorization: Bearer TOKEN", b"Bearer")

    def _given(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        # In constant time: how long it takes says nothing of how much was right.
        return len(given) == 1 and hmac.compare_digest(given[0], self._wanted)


async def refuse(send: Any, status: int, detail: str, challenge: bytes | None = None) -> None:
    """Answer with an error as JSON."""
    content = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    if challenge is not None:
        headers.append((b"www-authenticate", challenge))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class RequestLog:
    """Writes a line of JSON for each request, without its texts, and counts it.

    on_request: called with path, status and seconds
    """

    def __init__(
        self,
        app: Any,
        on_request: Callable[[str, int, float], None],
        stream: TextIO | None = None,
    ) -> None:
        self._app, self._on_request, self._stream = app, on_request, stream

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500
        facts: dict[str, Any] = {}
        scope.setdefault("state", {})["log"] = facts

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - begun
            self._on_request(scope["path"], status, seconds)
            line = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "method": scope["method"],
                "path": scope["path"][:200],
                "status": status,
                "ms": round(1000 * seconds, 1),
                **facts,
            }
            print(json.dumps(line, ensure_ascii=True), file=self._stream or sys.stderr, flush=True)
