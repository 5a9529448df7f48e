"""The batches of Anthropic and Gemini, through their own HTTP interfaces, over httpx.

Both take the requests in the call that creates the batch, so there is nothing to upload. Gemini
keeps our tag as the batch's `displayName`. Anthropic keeps none: a batch that was accepted without
our knowledge is found by its time and its number of requests.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import replace
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import UsageError
from tutelage.teacher.batch.jsonl import RemoteBatch
from tutelage.teacher.batch.server import BatchServer, CallFault, garbled
from tutelage.teacher.clients.access import is_loopback
from tutelage.teacher.clients.values import parse_json
from tutelage.teacher.engine.failures import Action, FaultKind, RetryPolicy

if TYPE_CHECKING:
    import httpx2

_BLOCK = 1 << 20


def batch_server(settings: TeacherSettings, policy: RetryPolicy) -> BatchServer:
    """The batch API of a teacher's server, in its dialect."""
    kinds: dict[str, type[BatchServer]] = {
        "anthropic": AnthropicBatchServer,
        "gemini": GeminiBatchServer,
    }
    return kinds.get(settings.scheme, BatchServer)(settings, policy)


class NativeBatchServer(BatchServer, ABC):
    """What the two have in common: the calls over HTTP, and requests inside of the first one."""

    _cancels: str
    """What is added to a batch's address to cancel it."""
    _http: httpx2.Client | None = None

    def close(self) -> None:
        """Close its connections."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _connect(self) -> httpx2.Client:
        if self._http is None:
            import httpx2

            self._access.open()
            self._http = httpx2.Client(
                headers=self._access.headers,
                timeout=self._settings.timeout_s,
                trust_env=not is_loopback(self.address),
                verify=self._access.certificates(),
            )
        return self._http

    def _send(
        self, method: str, path: str, body: bytes | None = None, into: IO[bytes] | None = None
    ) -> Any:
        """The JSON value that a call returns; with `into`, its bytes are written there instead."""
        import httpx2

        url = self._access.endpoint(path)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            with self._connect().stream(method, url, content=body, headers=headers) as response:
                if response.status_code != 200:
                    response.read()
                    raise self._fault(response.status_code, response)
                if into is not None:
                    for block in response.iter_bytes(_BLOCK):
                        into.write(block)
                    return None
                text = response.read().decode("utf-8", "replace")
        except httpx2.TimeoutException as error:
            message = f"no answer within {self._settings.timeout_s:g} s"
            raise CallFault(Action.RETRY, message, kind=FaultKind.TIMEOUT) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = self._line(str(error) or type(error).__name__)
            message = f"the connection failed: {reason}"
            raise CallFault(Action.RETRY, message, kind=FaultKind.CONNECTION) from error
        value = parse_json(self.clean(text))
        if not isinstance(value, dict):
            raise garbled("an answer that is not a JSON object")
        return value

    def upload(self, file: IO[bytes], name: str) -> str:
        """Nothing: the requests are part of `create`."""
        return f"{self.dialect.scheme}:{name}"

    def create(self, file_id: str, tag: str, file: IO[bytes]) -> RemoteBatch:
        """Create a batch with the requests in `file`, in one attempt."""
        file.seek(0)
        requests = b",".join(line.rstrip() for line in file)
        path, before, after = self._creation(tag)
        return self._batch(self._send("POST", path, before + requests + after))

    def retrieve(self, batch_id: str) -> RemoteBatch:
        """The current state of a batch."""
        return self._repeated(lambda: self._batch(self._send("GET", self._place(batch_id))))

    def cancel(self, batch_id: str) -> bool:
        """Cancel a batch; returns False where it has ended."""
        try:
            self._repeated(lambda: self._send("POST", self._place(batch_id) + self._cancels))
        except CallFault as fault:
            if fault.status in (400, 409):
                return False
            raise
        return True

    @abstractmethod
    def _creation(self, tag: str) -> tuple[str, bytes, bytes]:
        """Where a batch is created, and what stands before and after its requests."""

    @abstractmethod
    def _place(self, batch_id: str) -> str:
        """The address of a batch."""

    @abstractmethod
    def _batch(self, value: dict[str, Any]) -> RemoteBatch:
        """The batch that an answer describes."""


class AnthropicBatchServer(NativeBatchServer):
    """Message Batches."""

    _cancels = "/cancel"

    def _creation(self, tag: str) -> tuple[str, bytes, bytes]:
        return "messages/batches", b'{"requests":[', b"]}"

    def _place(self, batch_id: str) -> str:
        return f"messages/batches/{quote(batch_id, safe='')}"

    def _list(self, after: str | None) -> tuple[list[RemoteBatch], str | None]:
        query = {"limit": str(self._page_size)} | ({} if after is None else {"after_id": after})
        answer = self._send("GET", f"messages/batches?{urlencode(query)}")
        rows = answer.get("data")
        if not isinstance(rows, list):
            raise garbled("a list of batches without data")
        found = [self._batch(row) for row in rows if isinstance(row, dict)]
        last = answer.get("last_id") or (found[-1].id if found else None)
        return found, last if answer.get("has_more") else None

    def download(self, file_id: str, into: IO[bytes]) -> None:
        """Write the results of a batch to `into`."""

        def call() -> None:
            into.seek(0)
            into.truncate()
            self._send("GET", f"{self._place(file_id)}/results", into=into)

        self._repeated(call)

    def _batch(self, value: dict[str, Any]) -> RemoteBatch:
        found, status = value.get("id"), value.get("processing_status")
        if not isinstance(found, str) or not isinstance(status, str):
            raise garbled("an answer that is not a batch")
        counts = value.get("request_counts")
        numbers = {
            name: count
            for name, count in (counts.items() if isinstance(counts, dict) else ())
            if isinstance(count, int)
        }
        ended = status == "ended"
        return RemoteBatch(
            id=found,
            status="completed" if ended else status,
            tag=None,
            input_file=None,
            output_file=found if ended else None,
            error_file=None,
            completed=numbers.get("succeeded"),
            failed=sum(numbers.get(name, 0) for name in ("errored", "canceled", "expired")),
            total=sum(numbers.values()),
            created=_seconds(value.get("created_at")),
        )


class GeminiBatchServer(NativeBatchServer):
    """batchGenerateContent, with the requests in the call."""

    _cancels = ":cancel"

    def __init__(self, settings: TeacherSettings, policy: RetryPolicy) -> None:
        super().__init__(settings, policy)
        name = settings.model.partition(":")[2].strip()
        self._path = self.dialect.path(name).replace(":generateContent", ":batchGenerateContent")

    def _creation(self, tag: str) -> tuple[str, bytes, bytes]:
        name = json.dumps(tag).encode()
        before = b'{"batch":{"displayName":' + name + b',"inputConfig":{"requests":{"requests":['
        return self._path, before, b"]}}}}"

    def _place(self, batch_id: str) -> str:
        if not batch_id.startswith("batches/"):
            raise UsageError(f"batch {batch_id!r}: expected an id like 'batches/abc123'")
        return quote(batch_id)

    def _list(self, after: str | None) -> tuple[list[RemoteBatch], str | None]:
        query = {"pageSize": str(self._page_size)} | ({} if after is None else {"pageToken": after})
        answer = self._send("GET", f"batches?{urlencode(query)}")
        rows = answer.get("operations") or answer.get("batches") or []
        found = [self._batch(row) for row in rows if isinstance(row, dict)]
        token = answer.get("nextPageToken")
        return found, token if isinstance(token, str) and token else None

    def download(self, file_id: str, into: IO[bytes]) -> None:
        """Write the results that came with the batch to `into`, a line each."""
        value = self._repeated(lambda: self._send("GET", self._place(file_id)))
        into.seek(0)
        into.truncate()
        for result in _inlined(value):
            into.write(json.dumps(result).encode() + b"\n")

    def _batch(self, value: dict[str, Any]) -> RemoteBatch:
        found, metadata = value.get("name"), value.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else value
        state = metadata.get("state")
        if not isinstance(found, str) or not isinstance(state, str):
            raise garbled("an answer that is not a batch")
        plain = state.rpartition("STATE_")[2].lower()
        status = {"succeeded": "completed", "partially_succeeded": "completed"}.get(plain, plain)
        tag, error = metadata.get("displayName"), value.get("error")
        errors = [error] if isinstance(error, dict) else []
        counts = metadata.get("batchStats")
        counts = counts if isinstance(counts, dict) else {}
        batch = RemoteBatch(
            id=found,
            status=status,
            tag=tag if isinstance(tag, str) else None,
            input_file=None,
            output_file=None,
            error_file=None,
            completed=_number(counts.get("successfulRequestCount")),
            failed=_number(counts.get("failedRequestCount")),
            total=_number(counts.get("requestCount")),
            errors=tuple(str(e.get("message") or e.get("code"))[:300] for e in errors),
            codes=frozenset(str(e.get("status") or e.get("code")) for e in errors),
        )
        return replace(batch, output_file=found) if batch.ended else batch


def _inlined(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The results inside of a batch."""
    for part in (value.get("response"), value.get("metadata")):
        output = part.get("output", part) if isinstance(part, dict) else None
        found = output.get("inlinedResponses") if isinstance(output, dict) else None
        rows = found.get("inlinedResponses") if isinstance(found, dict) else found
        if isinstance(rows, list):
            return [row for row in rows if isinstance(row, dict)]
    return []


def _number(value: object) -> int | None:
    """A count: whole numbers of 64 bits come as text."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(value: object) -> float | None:
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return None
