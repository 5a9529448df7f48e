"""An OpenAI-compatible server on loopback that answers, and misbehaves, by a script.

In a test it runs on a thread of its own; `python scripted_server.py DELAY_S` runs one for the
benchmark, prints its base URL and serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True)
class Reply:
    """What one request gets: an answer, or a fault."""

    text: str | None = "because"
    status: int = 200
    body: Any = None  # sent instead of an answer: bytes as they are, anything else as JSON
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    reset: bool = False  # the connection is cut without a word
    finish_reason: str = "stop"


def error(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    return Reply(status=status, body={"error": {"message": message, "code": code}}, headers=headers)


Behaviour = Callable[[dict[str, Any], int], Reply]
"""(the request's body, how often its prompt was asked before) -> Reply"""


class ScriptedServer:
    """`with ScriptedServer(behave) as server`: `server.base_url`, and what it has seen."""

    def __init__(self, behave: Behaviour | None = None, models: tuple[str, ...] = ("m",)) -> None:
        self._behave = behave or (lambda body, before: Reply(f"because of {prompt(body)}"))
        self._models = models
        self._asked: dict[str, int] = {}
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answered = 0  # requests that were sent an answer to the end
        self.in_flight = 0
        self.most_in_flight = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def requests(self) -> int:
        return len(self.bodies)

    @property
    def prompts(self) -> list[str]:
        return [prompt(body) for body in self.bodies]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = prompt(body)
        before = self._asked.get(text, 0)
        self._asked[text] = before + 1
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            reply = self._behave(body, before)
            await asyncio.sleep(reply.delay_s)
            if reply.reset:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            if reply.body is not None:
                payload = reply.body
                data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
                return web.Response(body=data, status=reply.status, headers=reply.headers)
            self.answered += 1
            return web.json_response(
                {
                    "model": body["model"],
                    "choices": [
                        {
                            "message": {"role": "assistant", "content": reply.text},
                            "finish_reason": reply.finish_reason,
                        }
                    ],
                    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
                }
            )
        finally:
            self.in_flight -= 1

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in self._models]})

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._list)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def prompt(body: dict[str, Any]) -> str:
    """The words of a request, all messages together."""
    return "\n".join(message["content"] for message in body["messages"])


if __name__ == "__main__":
    wait = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    with ScriptedServer(lambda body, before: Reply("because", delay_s=wait)) as running:
        print(running.base_url, flush=True)
        sys.stdin.read()
        print(running.requests, flush=True)
