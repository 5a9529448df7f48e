"""The server: chat completions, models, and its own counts.

Inside a test, on a thread of its own:

    with Server(behave, seed=1, delay_s=0.05, faults=spread(0.3, TRANSIENT)) as server:
        server.base_url              # "http://127.0.0.1:PORT/v1"
        server.counts                # counts.Counts: requests, asked, answered, billed_pico, ...
        server.bodies, .headers      # of every live request, in order (Options.record)
        server.prompts, .requests    # the text of each, in order; how many there are
        server.wait_idle()           # until nothing is in flight

`behave(body, before)` receives a request's body and how often its prompt was asked before. It
returns a `faults.Reply`, or None to let `Options.faults` decide. Every keyword is a field of
`options.Options`. `faults.KINDS` names the faults; `TRANSIENT`, `ODD`, `ROW`, `ACCOUNT` are its
parts, and `spread(0.3, TRANSIENT)` gives each an equal share.

As a process of its own, which survives its clients (`process.ServerProcess` starts one):

    python tests/teacher/openai_server '{"delay_s": 0.05, "faults": {"500": 0.1}}'
    python tests/teacher/openai_server stub '{"delay_s": 0.05}'      # fast, without faults: stub.py

prints its base URL, serves until its standard input closes, then prints its counts as JSON.
`GET /stats` (not below /v1) returns the same, `GET /stats?prompts=1` with counts by prompt, and
`POST /options` changes the options in its JSON body (rate limits start again).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from openai_server.answers import (
    Tokens,
    completion,
    count_tokens,
    max_tokens,
    prompt_of,
    prompt_tokens,
    unsupported_in,
)
from openai_server.batches import Batches
from openai_server.calls import add_routes
from openai_server.counts import Counts
from openai_server.faults import KINDS, Chaos, Reply, error, rate_limited, unsupported
from openai_server.limits import Limits
from openai_server.options import Options
from openai_server.thread import OnThread

Behaviour = Callable[[dict[str, Any], int], Reply | None]
"""(request's body, how often its prompt was asked before) -> Reply, or None: by the options"""

_STALL_STEP_S = 0.05


class Server(OnThread):
    """A context manager: a thread with an event loop, and the server on it."""

    def __init__(
        self,
        behave: Behaviour | None = None,
        options: Options | None = None,
        **settings: Any,
    ) -> None:
        self._behave = behave
        self.counts = Counts()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._not_before: dict[str, float] = {}
        self._random = random.Random(0)  # for delays, in the order of arrival
        self._set(options or Options(**settings))
        self._batches = Batches(self)
        super().__init__()

    def _set(self, options: Options) -> None:
        self.options = options
        self._chaos = Chaos(options, options.faults)
        self._line_chaos = Chaos(options, options.batch_faults)
        self._limits = Limits(options)

    def change(self, **settings: Any) -> None:
        """Change options from now on."""
        self._set(dataclasses.replace(self.options, **settings))

    @property
    def requests(self) -> int:
        return self.counts.requests

    @property
    def prompts(self) -> list[str]:
        return [prompt_of(body) for body in self.bodies]

    def wait_idle(self, timeout_s: float = 10.0) -> None:
        """Wait until no request is in flight. Raises TimeoutError."""
        end = time.monotonic() + timeout_s
        while self.counts.in_flight:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.counts.in_flight} requests still in flight")
            time.sleep(0.005)

    # One live request.

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = prompt_of(body)
        counts, now = self.counts, time.monotonic()
        before = counts.asked[text]
        counts.asked[text] += 1
        counts.requests += 1
        if now < self._not_before.pop(text, 0.0):
            counts.retried_early += 1
        if self.options.record:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
        counts.in_flight += 1
        counts.most_in_flight = max(counts.most_in_flight, counts.in_flight)
        try:
            reply = self._decide(request.headers.get("Authorization"), body, text, before, now)
            payload, _tokens = self.settle(body, reply, before)
            return await self.send(request, reply, payload, text)
        finally:
            counts.in_flight -= 1

    def _decide(
        self, authorization: str | None, body: dict[str, Any], text: str, before: int, now: float
    ) -> Reply:
        options = self.options
        if not self.knows(authorization):
            return KINDS["401"](options)
        size = prompt_tokens(body, options) + max_tokens(body, options)
        wait = self._limits.admit(size, now)
        if wait > 0:
            self.counts.rate_violations += 1
            headers = {"Retry-After": f"{min(wait, 3600.0):.3f}", **self._limits.headers(now)}
            return self._remember(text, rate_limited(headers), now)
        reply = self.refuse(body)
        if reply is None and self._behave is not None:
            reply = self._behave(body, before)
        if reply is None:
            reply = self._chaos.draw(text, before)
        return self._remember(text, reply, now)

    def knows(self, authorization: str | None) -> bool:
        key = self.options.api_key
        return key is None or authorization == f"Bearer {key}"

    def decide_line(self, body: dict[str, Any], before: int) -> Reply:
        """The reply to a request in a batch, whose model was validated with the batch."""
        reply = self.refuse(body)
        if reply is None and self._behave is not None:
            reply = self._behave(body, before)
        return self._line_chaos.draw(prompt_of(body), before) if reply is None else reply

    def _remember(self, text: str, reply: Reply, now: float) -> Reply:
        if "Retry-After" in reply.headers:
            self._not_before[text] = now + float(reply.headers["Retry-After"])
        return reply

    def refuse(self, body: dict[str, Any]) -> Reply | None:
        """The error for a model or a parameter that is not supported, or None."""
        if body["model"] not in self.options.models:
            message = f"The model '{body['model']}' does not exist or you cannot use it."
            return error(404, message, "model_not_found")
        for name in unsupported_in(body, self.options):
            return unsupported(name)
        return None

    def settle(
        self, body: dict[str, Any], reply: Reply, before: int, *, batch: bool = False
    ) -> tuple[Any, Tokens | None]:
        """Bill a reply. Returns its JSON or bytes, and its tokens if it was billed."""
        counts, options = self.counts, self.options
        if not reply.is_billed:
            return reply.body, None
        tokens = count_tokens(body, reply, before, options)
        counts.billed_requests += 1
        counts.billed_pico += tokens.cost(options, batch=batch)
        counts.prompt_tokens += tokens.prompt
        counts.completion_tokens += tokens.output
        if reply.body is not None:
            return reply.body, tokens
        now = int(time.time())
        return completion(body, reply, tokens, options, counts.billed_requests, now), tokens

    async def send(
        self, request: web.Request, reply: Reply, payload: Any, text: str | None = None
    ) -> web.StreamResponse:
        """Send a reply, or disconnect, as it says. text: the prompt of a live request."""
        options = self.options
        delay = options.delay_s if reply.delay_s is None else reply.delay_s
        if options.delay_spread_s:
            delay += self._random.random() * options.delay_spread_s
        if delay:
            await asyncio.sleep(delay)
        if reply.stall:
            cut_off = await self.stall(request)
            self.counts.abandoned += text is not None
            return cut_off
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        data *= reply.copies
        data = data[: int(len(data) * reply.keep)]
        if reply.cut is not None:
            await self._send_part(request, data, reply.cut)
        if reply.reset or reply.cut is not None:
            return self.cut_off(request, "reset" if reply.cut is None else "cut", reply.reset)
        headers = {**self._limits.headers(time.monotonic()), **reply.headers}
        headers["Content-Type"] = reply.content_type
        response = web.Response(body=data, status=reply.status, headers=headers)
        self.counts.statuses[str(reply.status)] += 1
        if _gone(request):
            self.counts.abandoned += text is not None
            return response
        self._count(text, reply, 1)  # before it is sent: a client with its answer finds it counted
        try:
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            self._count(text, reply, -1)
            self.counts.abandoned += text is not None
        return response

    def _count(self, text: str | None, reply: Reply, times: int) -> None:
        """Count a live request whose reply is sent to the end (-1: was not after all)."""
        if text is not None:
            self.counts.refused += times * (400 <= reply.status < 500)
            if reply.is_answer:
                self.counts.answered += times
                self.counts.answers[text] += times

    async def stall(self, request: web.Request) -> web.StreamResponse:
        """Send nothing until the client disconnects or `stall_s` is over."""
        end = time.monotonic() + self.options.stall_s
        while not _gone(request) and time.monotonic() < end:
            await asyncio.sleep(_STALL_STEP_S)
        return self.cut_off(request, "stall")

    async def _send_part(self, request: web.Request, data: bytes, share: float) -> None:
        if request.transport is None:
            return
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        request.transport.write(f"{head}\r\n\r\n".encode() + data[: int(len(data) * share)])
        await asyncio.sleep(0.01)  # an RST may discard unread bytes

    def cut_off(self, request: web.Request, how: str, reset: bool = True) -> web.StreamResponse:
        """End the connection, by RST or by FIN, without sending more."""
        self.counts.statuses[how] += 1
        if request.transport is not None:
            if reset:
                connection = request.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.transport.abort()
        return web.Response()

    # The other addresses.

    async def _models(self, request: web.Request) -> web.Response:
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "test"}
            for name in self.options.models
        ]
        if self.options.shutdown_date is not None:
            rows = [{**row, "shutdown_date": self.options.shutdown_date} for row in rows]
        return web.json_response({"object": "list", "data": rows})

    async def _stats(self, request: web.Request) -> web.Response:
        self._batches.tick()
        return web.json_response(self.counts.as_json(prompts="prompts" in request.query))

    async def _change(self, request: web.Request) -> web.Response:
        values = await request.json()
        self.change(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        return web.json_response({})

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/stats", self._stats)
        app.router.add_post("/options", self._change)
        add_routes(app.router, self, self._batches)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=4096).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()
