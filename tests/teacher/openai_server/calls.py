"""The HTTP calls for files and batches, and the faults of each.

`Options.call_faults` lists, by the name of the call, the fault of its first, second, ... call:
"ok", any of `faults.KINDS` (then the call has no effect), or one of
    "lost"    done, then the connection is reset before the answer
    "silent"  done, then nothing is sent until the client disconnects
    "cut"     done, then the answer breaks off in the middle
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import BodyPartReader, web

from openai_server.batches import Batch, Batches, File
from openai_server.faults import KINDS, Reply, error

if TYPE_CHECKING:
    from openai_server.server import Server

CALLS = (
    "upload",
    "files",
    "file",
    "content",
    "delete",
    "create",
    "retrieve",
    "list",
    "cancel",
)
_ENDPOINTS = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions")


class Refused(Exception):
    """A call that is answered with an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply.body))
        self.reply = reply


def refuse(status: int, message: str, param: str | None = None, code: str | None = None) -> Refused:
    return Refused(error(status, message, code, param=param))


def add_routes(router: web.UrlDispatcher, server: Server, store: Batches) -> None:
    calls = _Calls(server, store)
    for name, method, path, handler in (
        ("upload", "POST", "/v1/files", calls.upload),
        ("files", "GET", "/v1/files", calls.list_files),
        ("file", "GET", "/v1/files/{id}", calls.file),
        ("content", "GET", "/v1/files/{id}/content", calls.content),
        ("delete", "DELETE", "/v1/files/{id}", calls.delete),
        ("create", "POST", "/v1/batches", calls.create),
        ("retrieve", "GET", "/v1/batches/{id}", calls.retrieve),
        ("list", "GET", "/v1/batches", calls.list_batches),
        ("cancel", "POST", "/v1/batches/{id}/cancel", calls.cancel),
    ):
        router.add_route(method, path, calls.scripted(name, handler))


class _Calls:
    def __init__(self, server: Server, store: Batches) -> None:
        self._server = server
        self._store = store

    def scripted(
        self, name: str, handler: Callable[[web.Request], Awaitable[Any]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            server = self._server
            script = server.options.call_faults.get(name, [])
            number = server.counts.calls[name]
            server.counts.calls[name] += 1
            how = script[number] if number < len(script) else "ok"
            if how in KINDS:
                reply = KINDS[how](server.options)
                return await server.send(request, reply, reply.body)
            try:
                if not server.knows(request.headers.get("Authorization")):
                    raise Refused(KINDS["401"](server.options))
                value = await handler(request)
            except Refused as refused:
                return await server.send(request, refused.reply, refused.reply.body)
            if how == "lost":
                return server.cut_off(request, how)
            if how == "silent":
                return await server.stall(request)
            cut = 0.5 if how == "cut" else None
            kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
            return await server.send(
                request, Reply(cut=cut, reset=cut is not None, content_type=kind), value
            )

        return handle

    # Files.

    async def upload(self, request: web.Request) -> dict[str, Any]:
        fields: dict[str, str] = {}
        data, filename = None, ""
        if not request.content_type.startswith("multipart/"):
            raise refuse(400, "A file is uploaded as multipart/form-data.")
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            if part.name == "file":
                data, filename = bytes(await part.read()), part.filename or "upload"
            else:
                fields[part.name or ""] = await part.text()
        if data is None:
            raise refuse(400, "'file' is a required property", "file")
        if fields.get("purpose") not in ("batch", "fine-tune", "assistants", "user_data"):
            raise refuse(400, f"{fields.get('purpose')!r} is not one of the purposes.", "purpose")
        if fields["purpose"] == "batch" and len(data) > self._server.options.batch_max_bytes:
            most = self._server.options.batch_max_bytes
            raise refuse(413, f"A file for a batch has at most {most} bytes.", "file")
        return self._store.add_file(data, filename, fields["purpose"]).as_json()

    async def list_files(self, request: web.Request) -> dict[str, Any]:
        return _page(request, list(self._store.files.values()))

    async def file(self, request: web.Request) -> dict[str, Any]:
        return self._find_file(request).as_json()

    async def content(self, request: web.Request) -> bytes:
        return self._find_file(request).data

    async def delete(self, request: web.Request) -> dict[str, Any]:
        file = self._find_file(request)
        del self._store.files[file.id]
        return {"id": file.id, "object": "file", "deleted": True}

    def _find_file(self, request: web.Request) -> File:
        name = request.match_info["id"]
        if name not in self._store.files:
            raise refuse(404, f"No such File object: {name}", "id")
        return self._store.files[name]

    # Batches.

    async def create(self, request: web.Request) -> dict[str, Any]:
        try:
            call = json.loads(await request.read())
        except ValueError as broken:
            raise refuse(400, "We could not parse the JSON body of your request.") from broken
        for name in ("input_file_id", "endpoint", "completion_window"):
            if name not in call:
                message = f"Missing required parameter: '{name}'."
                raise refuse(400, message, name, "missing_required_parameter")
        if call["endpoint"] not in _ENDPOINTS:
            raise refuse(400, f"Invalid value: '{call['endpoint']}'.", "endpoint", "invalid_value")
        if call["completion_window"] != "24h":
            raise refuse(400, "Supported values are: '24h'.", "completion_window", "invalid_value")
        metadata = call.get("metadata") or {}
        if len(metadata) > 16 or any(
            not isinstance(value, str) or len(key) > 64 or len(value) > 512
            for key, value in metadata.items()
        ):
            message = "At most 16 pairs of strings, of 64 and 512 characters."
            raise refuse(400, message, "metadata", "invalid_value")
        file = self._store.files.get(call["input_file_id"])
        if file is None or file.purpose != "batch":
            raise refuse(400, f"No batch file {call['input_file_id']}.", "input_file_id")
        return self._store.add_batch(file, call).as_json()

    async def retrieve(self, request: web.Request) -> dict[str, Any]:
        batch = self._find_batch(request)
        self._store.poll(batch)
        return batch.as_json()

    async def list_batches(self, request: web.Request) -> dict[str, Any]:
        if not self._server.options.batch_list:
            raise refuse(404, f"Invalid URL (GET {request.path})")
        self._store.tick()
        return _page(request, list(self._store.batches.values()))

    async def cancel(self, request: web.Request) -> dict[str, Any]:
        batch = self._find_batch(request)
        if not self._store.cancel(batch):
            raise refuse(409, f"Cannot cancel a batch with status '{batch.status}'.")
        return batch.as_json()

    def _find_batch(self, request: web.Request) -> Batch:
        name = request.match_info["id"]
        if name not in self._store.batches:
            raise refuse(404, f"No batch found with id '{name}'.", "id")
        return self._store.batches[name]


def _page(request: web.Request, rows: list[Any]) -> dict[str, Any]:
    """One page of a list, the newest first: `limit` rows after the one with the id `after`."""
    rows = rows[::-1]
    limit = int(request.query.get("limit", 20))
    if not 1 <= limit <= 100:
        raise refuse(400, f"Invalid 'limit': {limit}, expected 1 to 100.", "limit")
    after = request.query.get("after")
    if after is not None:
        ids = [row.id for row in rows]
        if after not in ids:
            raise refuse(400, f"No object with id '{after}'.", "after")
        rows = rows[ids.index(after) + 1 :]
    shown = [row.as_json() for row in rows[:limit]]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(rows) > limit,
    }
