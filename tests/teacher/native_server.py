"""Scripted servers of Anthropic's and Gemini's own protocols, on loopback, with their own counts.

    with NativeServer("anthropic", behave) as server: server.base_url, server.billed_pico, …

`behave(prompt, before)` says how a request is answered: a `Native`. Prices are 1 and 4 dollars per
million tokens of input and output, a tenth of the first for cached input, and half in a batch.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from openai_server.thread import OnThread

INPUT, CACHED, OUTPUT = 1_000_000, 100_000, 4_000_000
"""Pico-dollars per token."""
GRPC = {400: 3, 403: 7, 404: 5, 429: 8, 500: 13, 503: 14}


@dataclass(frozen=True)
class Native:
    """The reply to one request. text: None: no content at all; body: sent instead of an answer"""

    text: str | None = "It is so because of the rain."
    thoughts: str = ""
    reason: str = ""  # "": a regular end
    tokens: tuple[int, int, int] = (20, 0, 8)  # input, those of it that were cached, output
    counted: bool = True
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    delay_s: float = 0.0
    expired: bool = False  # in a batch

    @property
    def pico(self) -> int:
        prompt, cached, output = self.tokens
        return (prompt - cached) * INPUT + cached * CACHED + output * OUTPUT


Behaviour = Callable[[str, int], Native]


def fault(scheme: str, status: int, kind: str, message: str, **more: Any) -> Native:
    """An error in the shape of a server. more: further fields of the error; `headers`"""
    headers = more.pop("headers", {})
    if scheme == "anthropic":
        body = {"type": "error", "error": {"type": kind, "message": message, **more},
                "request_id": "req_1"}  # fmt: skip
    else:
        body = {"error": {"code": status, "message": message, "status": kind, **more}}
    return Native(status=status, body=body, headers=headers)


def answer(scheme: str, reply: Native, model: str) -> dict[str, Any]:
    """The JSON of an answer."""
    prompt, cached, output = reply.tokens
    if scheme == "anthropic":
        content = [{"type": "thinking", "thinking": reply.thoughts, "signature": "s"}]
        content = content if reply.thoughts else []
        content += [] if reply.text is None else [{"type": "text", "text": reply.text}]
        usage = {"input_tokens": prompt - cached, "cache_read_input_tokens": cached,
                 "cache_creation_input_tokens": 0, "output_tokens": output}  # fmt: skip
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": f"{model}-1",
                "content": content, "stop_reason": reply.reason or "end_turn",
                "stop_sequence": None, "usage": usage if reply.counted else {}}  # fmt: skip
    thought = 3 if reply.thoughts else 0
    usage = {"promptTokenCount": prompt, "cachedContentTokenCount": cached,
             "candidatesTokenCount": output - thought, "thoughtsTokenCount": thought,
             "totalTokenCount": prompt + output}  # fmt: skip
    whole = {"usageMetadata": usage if reply.counted else {}, "modelVersion": f"{model}-1"}
    if reply.reason.startswith("blocked "):
        return {"promptFeedback": {"blockReason": reply.reason.removeprefix("blocked ")}, **whole}
    parts = [{"text": reply.thoughts, "thought": True}] if reply.thoughts else []
    parts += [] if reply.text is None else [{"text": reply.text}]
    candidate = {"content": {"role": "model", "parts": parts},
                 "finishReason": reply.reason or "STOP", "index": 0}  # fmt: skip
    return {"candidates": [candidate], **whole}


def prompt_in(scheme: str, body: dict[str, Any]) -> str:
    """The last message of a request."""
    if scheme == "anthropic":
        return str(body["messages"][-1]["content"])
    return str(body["contents"][-1]["parts"][0]["text"])


class NativeServer(OnThread):
    """A context manager: a thread with an event loop, and the server on it.

    lose_creations: how many calls that create a batch break before their answer
    page:           batches in one page of the list
    """

    def __init__(self, scheme: str, behave: Behaviour = lambda prompt, before: Native()) -> None:
        super().__init__()
        self.scheme, self.behave = scheme, behave
        self.asked: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.billed_pico = self.answered = self.lose_creations = 0
        self.batches: dict[str, dict[str, Any]] = {}
        self.page, self.polls = 2, 1
        self.batch_end = "BATCH_STATE_SUCCEEDED"

    # Live requests.

    def _denied(self, request: web.Request) -> web.Response | None:
        if self.scheme == "anthropic":
            known = request.headers.get("x-api-key") == "the-secret-key"
            known = known and request.headers.get("anthropic-version") == "2023-06-01"
            wrong = fault("anthropic", 401, "authentication_error", "invalid x-api-key")
        else:
            known = request.headers.get("x-goog-api-key") == "the-secret-key"
            reason = [{"@type": "google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
            wrong = fault("gemini", 400, "INVALID_ARGUMENT", "API key not valid. Please pass one.",
                          details=reason)  # fmt: skip
        return None if known else web.json_response(wrong.body, status=wrong.status)

    async def _live(self, request: web.Request, model: str) -> web.StreamResponse:
        if (denied := self._denied(request)) is not None:
            return denied
        body = await request.json()
        text = prompt_in(self.scheme, body)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        reply = self.behave(text, self.asked[text])
        self.asked[text] += 1
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        value = reply.body if reply.body is not None else answer(self.scheme, reply, model)
        if reply.status == 200 and reply.body is None:
            self.billed_pico += reply.pico
        if reply.cut:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        self.answered += reply.status == 200 and reply.body is None
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        kind = "text/html" if isinstance(value, bytes) else "application/json"
        return web.Response(body=data, status=reply.status, headers=reply.headers,
                            content_type=kind)  # fmt: skip

    async def _post(self, request: web.Request) -> web.StreamResponse:
        """`models/MODEL:CALL` of Gemini."""
        model, _, call = request.match_info["call"].partition(":")
        if call == "batchGenerateContent":
            return await self._create(request, model)
        return await self._live(request, model)

    async def _message(self, request: web.Request) -> web.StreamResponse:
        return await self._live(request, (await request.json())["model"])

    async def _models(self, request: web.Request) -> web.Response:
        if (denied := self._denied(request)) is not None:
            return denied
        if self.scheme == "anthropic":
            rows = [{"id": "m", "type": "model", "retires_at": "2020-01-01T00:00:00Z"},
                    {"id": "n", "type": "model", "retires_at": None}]  # fmt: skip
            return web.json_response({"data": rows, "has_more": False})
        return web.json_response({"models": [{"name": "models/m"}, {"name": "models/n"}]})

    # Batches.

    async def _create(self, request: web.Request, model: str = "") -> web.StreamResponse:
        if (denied := self._denied(request)) is not None:
            return denied
        self.calls["create"] += 1
        call = await request.json()
        number = len(self.batches) + 1
        if self.scheme == "anthropic":
            name, requests, tag = f"msgbatch_{number}", call["requests"], None
        else:
            name, tag = f"batches/b{number}", call["batch"]["displayName"]
            requests = call["batch"]["inputConfig"]["requests"]["requests"]
        self.batches[name] = {"requests": requests, "tag": tag, "polls": 0, "results": None,
                              "model": model, "cancelled": False,
                              "created": datetime.now(UTC).isoformat()}  # fmt: skip
        if self.lose_creations:
            self.lose_creations -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.json_response(self._shown(name))

    def _process(self, batch: dict[str, Any]) -> None:
        results = []
        for one in batch["requests"]:
            body = one["params"] if self.scheme == "anthropic" else one["request"]
            text = prompt_in(self.scheme, body)
            reply = self.behave(text, self.asked[text])
            self.asked[text] += 1
            self.bodies.append(body)
            good = reply.status == 200 and not reply.expired
            self.billed_pico += -(-reply.pico // 2) if good else 0
            value = answer(self.scheme, reply, body.get("model", batch["model"]))
            if self.scheme == "anthropic":
                result = {"type": "succeeded", "message": value}
                if reply.expired or batch["cancelled"]:
                    result = {"type": "expired" if reply.expired else "canceled"}
                elif not good:
                    result = {"type": "errored", "error": reply.body}
                results.append({"custom_id": one["custom_id"], "result": result})
            else:
                status = {"code": 1, "message": "cancelled"}
                if not good and not reply.expired:
                    status = {**reply.body["error"], "code": GRPC[reply.status]}
                ended = {"response": value} if good else {"error": status}
                results.append({"metadata": one["metadata"], **ended})
        batch["results"] = results[::-1]

    def _shown(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        ended, count = batch["results"] is not None, len(batch["requests"])
        if self.scheme == "anthropic":
            kinds = Counter(r["result"]["type"] for r in batch["results"] or ())
            counts = {kind: kinds[kind] for kind in ("succeeded", "errored", "canceled", "expired")}
            return {"id": name, "type": "message_batch", "created_at": batch["created"],
                    "processing_status": "ended" if ended else "in_progress",
                    "request_counts": {"processing": 0 if ended else count, **counts},
                    "results_url": "https://elsewhere.example/results"}  # fmt: skip
        good = sum("response" in result for result in batch["results"] or ())
        metadata: dict[str, Any] = {
            "displayName": batch["tag"],
            "state": self.batch_end if ended else "BATCH_STATE_RUNNING",
            "batchStats": {"requestCount": str(count), "successfulRequestCount": str(good)},
        }
        whole: dict[str, Any] = {"name": name, "metadata": metadata, "done": ended}
        if ended and self.batch_end == "BATCH_STATE_SUCCEEDED":
            metadata["output"] = {"inlinedResponses": {"inlinedResponses": batch["results"]}}
        elif ended:
            whole["error"] = {"code": 9, "message": "billing is disabled"}
        return whole

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        if (denied := self._denied(request)) is not None:
            return denied
        name = request.match_info["id"]
        name = name if self.scheme == "anthropic" else f"batches/{name}"
        batch = self.batches[name]
        if batch["polls"] >= self.polls and batch["results"] is None:
            self._process(batch)
        batch["polls"] += 1
        return web.json_response(self._shown(name))

    async def _results(self, request: web.Request) -> web.StreamResponse:
        if (denied := self._denied(request)) is not None:
            return denied
        rows = self.batches[request.match_info["id"]]["results"]
        return web.Response(text="".join(json.dumps(row) + "\n" for row in rows))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        if (denied := self._denied(request)) is not None:
            return denied
        name = request.match_info["id"].removesuffix(":cancel")
        batch = self.batches[name if self.scheme == "anthropic" else f"batches/{name}"]
        batch["cancelled"] = True
        return web.json_response({})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if (denied := self._denied(request)) is not None:
            return denied
        names = list(self.batches)[::-1]
        after = request.query.get("after_id") or request.query.get("pageToken")
        names = names[names.index(after) + 1 :] if after else names
        page, more = names[: self.page], len(names) > self.page
        rows = [self._shown(name) for name in page]
        if self.scheme == "anthropic":
            last = page[-1] if page else None
            return web.json_response({"data": rows, "has_more": more, "last_id": last})
        following = {"nextPageToken": page[-1]} if more else {}
        return web.json_response({"operations": rows, **following})

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        if self.scheme == "anthropic":
            app.router.add_post("/v1/messages", self._message)
            app.router.add_get("/v1/models", self._models)
            app.router.add_post("/v1/messages/batches", self._create)
            app.router.add_get("/v1/messages/batches", self._list)
            app.router.add_get("/v1/messages/batches/{id}", self._retrieve)
            app.router.add_get("/v1/messages/batches/{id}/results", self._results)
            app.router.add_post("/v1/messages/batches/{id}/cancel", self._cancel)
        else:
            app.router.add_get("/v1/models", self._models)
            app.router.add_post("/v1/models/{call}", self._post)
            app.router.add_get("/v1/batches", self._list)
            app.router.add_get("/v1/batches/{id}", self._retrieve)
            app.router.add_post("/v1/batches/{id}", self._cancel)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _stop(self) -> None:
        await self._runner.cleanup()
