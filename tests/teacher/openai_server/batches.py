"""Files and batches as OpenAI stores them, and the states of a batch.

validating -> in_progress -> finalizing -> completed; `failed` after validating, `expired` after
in_progress, `cancelling` and `cancelled` after any state that is not final. A batch enters its next
state after `batch_polls` polls, or every `batch_step_s` seconds. It processes `batch_done_share` of
its requests when it enters in_progress and the rest when it leaves it, so that an expiry or a
cancellation comes in the middle. The HTTP calls are in `calls`.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openai_server.answers import prompt_of, prompt_tokens
from openai_server.faults import Reply

if TYPE_CHECKING:
    from openai_server.server import Server

_STAMPED = (  # the time of validating is created_at
    *("in_progress", "finalizing", "completed"),
    *("failed", "expired", "cancelling", "cancelled"),
)
OVER = ("completed", "failed", "expired", "cancelled")
_LEFT_OUT = {
    "expired": ("batch_expired", "The completion window ended before this request was executed."),
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was executed."),
}


@dataclass
class File:
    id: str
    data: bytes
    filename: str
    purpose: str
    created_at: int

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.data),
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "expires_at": None,
            "status_details": None,
        }


@dataclass
class Batch:
    id: str
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    end: str  # "completed", "failed", "expired", or "stuck": in_progress for ever
    data: bytes
    created_at: int
    since: float  # when it entered its state, on the monotonic clock
    status: str = "validating"
    polls: int = 0
    stamps: dict[str, int] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0  # of `requests`, the first ones
    tokens: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    output: list[bytes] = field(default_factory=list)
    failures: list[bytes] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None

    @property
    def over(self) -> bool:
        return self.status in OVER

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.requests[0]["body"]["model"] if self.requests else None,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.created_at + 86_400,
            **{f"{state}_at": self.stamps.get(state) for state in _STAMPED},
            "request_counts": {
                "total": len(self.requests),
                "completed": self.counts["completed"],
                "failed": self.counts["failed"],
            },
            "usage": {
                "input_tokens": self.tokens["input"],
                "input_tokens_details": {"cached_tokens": self.tokens["cached"]},
                "output_tokens": self.tokens["output"],
                "output_tokens_details": {"reasoning_tokens": self.tokens["reasoning"]},
                "total_tokens": self.tokens["input"] + self.tokens["output"],
            },
            "metadata": self.metadata,
        }


class Batches:
    """All files and batches of one server, the oldest first."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._numbers = 0
        self.files: dict[str, File] = {}
        self.batches: dict[str, Batch] = {}

    def add_file(self, data: bytes, filename: str, purpose: str) -> File:
        file = File(self._new_id("file-"), data, filename, purpose, int(time.time()))
        self.files[file.id] = file
        return file

    def add_batch(self, file: File, call: dict[str, Any]) -> Batch:
        ends = self._server.options.batch_ends
        number = len(self.batches)
        batch = Batch(
            id=self._new_id("batch_"),
            input_file_id=file.id,
            endpoint=call["endpoint"],
            completion_window=call["completion_window"],
            metadata=call.get("metadata"),
            end=ends[number] if number < len(ends) else "completed",
            data=file.data,
            created_at=int(time.time()),
            since=time.monotonic(),
        )
        self.batches[batch.id] = batch
        return batch

    def poll(self, batch: Batch) -> None:
        """Count one poll, and enter the next state if it was due after this one."""
        self.tick()
        options = self._server.options
        if options.batch_step_s is None and batch.polls >= options.batch_polls:
            self._step(batch)
        batch.polls += 1

    def tick(self) -> None:
        """Bring all batches to the states that are due by now."""
        step_s = self._server.options.batch_step_s
        if step_s is None:
            return
        now = time.monotonic()
        for batch in self.batches.values():
            while not self._stays(batch) and now >= batch.since + step_s:
                since = batch.since + step_s
                self._step(batch)
                batch.since = since

    def cancel(self, batch: Batch) -> bool:
        """Cancel a batch; returns False where it is too late."""
        self.tick()
        if batch.over:
            return False
        if batch.status != "cancelling":
            self._enter(batch, "cancelling")
        return True

    def _new_id(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}{self._numbers:06d}"

    def _stays(self, batch: Batch) -> bool:
        return batch.over or (batch.end == "stuck" and batch.status == "in_progress")

    def _enter(self, batch: Batch, status: str) -> None:
        batch.status = status
        batch.polls = 0
        batch.since = time.monotonic()
        batch.stamps[status] = int(time.time())

    def _step(self, batch: Batch) -> None:
        if self._stays(batch):
            return
        total = len(batch.requests)
        if batch.status == "validating":
            batch.errors = list(self._validate(batch))[:20]
            if batch.errors:
                batch.requests = []
                self._enter(batch, "failed")
                return
            share = self._server.options.batch_done_share
            self._enter(batch, "in_progress")
            self._process(batch, int(len(batch.requests) * share))
        elif batch.status == "in_progress" and batch.end == "expired":
            self._end(batch, "expired")
        elif batch.status == "in_progress":
            self._process(batch, total)
            self._enter(batch, "finalizing")
        elif batch.status == "finalizing":
            self._end(batch, "completed")
        elif batch.status == "cancelling":
            self._end(batch, "cancelled")

    def _end(self, batch: Batch, status: str) -> None:
        for request in batch.requests[batch.done :]:
            code, message = _LEFT_OUT[status]
            batch.failures.append(_line(self._new_id, request, None, code, message))
        shuffle = random.Random(f"{self._server.options.seed}:{batch.id}").shuffle
        shuffle(batch.output)  # the order of lines has no meaning
        shuffle(batch.failures)
        if batch.output:
            name = f"{batch.id}_output.jsonl"
            batch.output_file_id = self.add_file(b"".join(batch.output), name, "batch_output").id
        if batch.failures:
            name = f"{batch.id}_error.jsonl"
            batch.error_file_id = self.add_file(b"".join(batch.failures), name, "batch_output").id
        self._enter(batch, status)

    def _validate(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """The problems of the input file; also fills `batch.requests`."""
        options = self._server.options
        seen: set[str] = set()
        lines = batch.data.splitlines()
        if batch.end == "failed":
            yield _problem("invalid_request", "The batch could not be processed.")
        if not lines:
            yield _problem("empty_file", "The batch input file is empty.")
        if len(lines) > options.batch_max_requests:
            most = options.batch_max_requests
            yield _problem("too_many_tasks", f"A batch has at most {most} requests.")
            return
        for number, text in enumerate(lines, start=1):
            try:
                request = json.loads(text)
            except ValueError:
                yield _problem("invalid_json_line", "This line is not valid JSON.", number)
                continue
            problem = _problem_of(request, batch.endpoint, seen)
            if problem is not None:
                yield _problem(*problem, number)
                continue
            model = request["body"]["model"]
            batch.requests.append(request)
            if model not in options.models:
                yield _problem("model_not_found", f"No model {model!r}.", number, "body.model")
            elif model != batch.requests[0]["body"]["model"]:
                yield _problem("model_mismatch", "One model per batch.", number, "body.model")
        if options.batch_max_tokens is not None:
            opened = [other for other in self.batches.values() if not other.over]
            held = sum(prompt_tokens(r["body"], options) for b in opened for r in b.requests)
            if held > options.batch_max_tokens:
                yield _problem(
                    "token_limit_exceeded",
                    f"Enqueued token limit reached. Limit: {options.batch_max_tokens} enqueued "
                    "tokens. Please try again once some in_progress batches have been completed.",
                )

    def _process(self, batch: Batch, end: int) -> None:
        """Process the requests before index `end`, with the same behaviour as live ones."""
        server = self._server
        for request in batch.requests[batch.done : end]:
            body, text = request["body"], prompt_of(request["body"])
            before = server.counts.asked[text]
            server.counts.asked[text] += 1
            server.counts.batch_requests += 1
            reply = server.decide_line(body, before)
            if reply.reset or reply.stall:
                batch.counts["failed"] += 1
                batch.failures.append(
                    _line(self._new_id, request, None, "request_timeout", "It took too long.")
                )
                continue
            payload, tokens = server.settle(body, reply, before, batch=True)
            if tokens is not None:
                batch.tokens.update(
                    input=tokens.prompt,
                    cached=tokens.cached,
                    output=tokens.output,
                    reasoning=tokens.reasoning,
                )
            self._write(batch, request, reply, payload)
            if reply.is_answer:
                server.counts.batch_answered += 1
                server.counts.answers[text] += 1
        batch.done = max(batch.done, end)

    def _write(self, batch: Batch, request: dict[str, Any], reply: Reply, payload: Any) -> None:
        response = {
            "status_code": reply.status,
            "request_id": self._new_id("req_"),
            "body": payload.decode() if isinstance(payload, bytes) else payload,
        }
        line = _line(self._new_id, request, response)
        if reply.keep < 1:
            line = line[: int(len(line) * reply.keep)] + b"\n"
        good = reply.status == 200
        batch.counts["completed" if good else "failed"] += 1
        (batch.output if good else batch.failures).extend([line] * reply.lines)


def _line(
    new_id: Any,
    request: dict[str, Any],
    response: dict[str, Any] | None,
    code: str | None = None,
    message: str = "",
) -> bytes:
    value = {
        "id": new_id("batch_req_"),
        "custom_id": request["custom_id"],
        "response": response,
        "error": None if code is None else {"code": code, "message": message},
    }
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _problem(
    code: str, message: str, line: int | None = None, param: str | None = None
) -> dict[str, Any]:
    return {"code": code, "line": line, "message": message, "param": param}


def _problem_of(request: Any, endpoint: str, seen: set[str]) -> tuple[str, str] | None:
    """Code and message of the problem of one line, or None for a valid request."""
    if not isinstance(request, dict) or not isinstance(request.get("custom_id"), str):
        return "missing_required_parameter", "Missing required parameter: 'custom_id'."
    if request["custom_id"] in seen:
        return "duplicate_custom_id", f"The custom_id {request['custom_id']!r} is used twice."
    seen.add(request["custom_id"])
    if request.get("method") != "POST":
        return "invalid_method", "The method of a request is POST."
    if request.get("url") != endpoint:
        return "url_mismatch", f"This batch is for {endpoint}."
    body = request.get("body")
    if not isinstance(body, dict) or "model" not in body or not body.get("messages"):
        return "invalid_request", "A body has a model and messages."
    return None
