"""A server that only answers after a delay, at almost no CPU cost: for measuring clients.

HTTP/1.1 with keep-alive, directly on an asyncio protocol: no router, no JSON parsing, and the same
bytes for every answer. It counts its requests and how many were in flight at most.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Any

from openai_server.thread import OnThread


@dataclass(frozen=True, slots=True, kw_only=True)
class StubOptions:
    delay_s: float = 0.05
    model: str = "m"
    text: str = "Because the premise says so, and nothing in it speaks against it."
    prompt_tokens: int = 20
    completion_tokens: int = 10


class Stub(OnThread):
    """`with Stub(delay_s=0.05) as stub: stub.base_url`, on a thread of its own."""

    def __init__(self, **settings: Any) -> None:
        self.options = StubOptions(**settings)
        self.requests = 0
        self.answered = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.connections = 0
        self.answer = _http(_completion(self.options))
        super().__init__()

    def as_json(self) -> dict[str, Any]:
        names = ("requests", "answered", "in_flight", "most_in_flight", "connections")
        return {name: getattr(self, name) for name in names}

    def other(self, target: bytes) -> bytes:
        """The answer to anything but a chat completion."""
        if target == b"/stats":
            return _http(self.as_json())
        if target == b"/v1/models":
            row = {"id": self.options.model, "object": "model", "created": 0, "owned_by": "test"}
            return _http({"object": "list", "data": [row]})
        missing = {"message": "no such address", "type": "invalid_request_error"}
        return _http({"error": missing}, b"404 Not Found")

    async def _start(self) -> None:
        self._server = await self._loop.create_server(
            lambda: _Connection(self, self._loop), "127.0.0.1", 0, backlog=4096
        )
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def _stop(self) -> None:
        self._server.close()


class _Connection(asyncio.Protocol):
    __slots__ = ("_loop", "_rest", "_stub", "_transport")

    def __init__(self, stub: Stub, loop: asyncio.AbstractEventLoop) -> None:
        self._stub = stub
        self._loop = loop
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._stub.connections += 1

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        while (head := data.find(b"\r\n\r\n")) >= 0:
            end = head + 4 + _content_length(data[:head])
            if len(data) < end:
                break
            self._take(data)
            data = data[end:]
        self._rest = data

    def _take(self, data: bytes) -> None:
        stub = self._stub
        if not data.startswith(b"POST /v1/chat/completions"):
            self._transport.write(stub.other(data.split(b" ", 2)[1]))
            return
        stub.requests += 1
        stub.in_flight += 1
        if stub.in_flight > stub.most_in_flight:
            stub.most_in_flight = stub.in_flight
        self._loop.call_later(stub.options.delay_s, self._answer)

    def _answer(self) -> None:
        self._stub.in_flight -= 1
        if not self._transport.is_closing():
            self._transport.write(self._stub.answer)
            self._stub.answered += 1


def _content_length(head: bytes) -> int:
    at = head.find(b"Content-Length: ")
    if at < 0:
        head = head.lower()
        at = head.find(b"content-length: ")
        if at < 0:
            return 0
    end = head.find(b"\r\n", at)
    return int(head[at + 16 : end if end >= 0 else len(head)])


def _http(value: Any, status: bytes = b"200 OK") -> bytes:
    data = json.dumps(value).encode()
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(data)) + data


def _completion(options: StubOptions) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": options.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": options.text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": options.prompt_tokens,
            "completion_tokens": options.completion_tokens,
            "total_tokens": options.prompt_tokens + options.completion_tokens,
        },
    }


def serve(settings: dict[str, Any]) -> None:
    """Serve until standard input closes."""
    with Stub(**settings) as stub:
        print(stub.base_url, flush=True)
        sys.stdin.buffer.read()
        print(json.dumps(stub.as_json()), flush=True)
