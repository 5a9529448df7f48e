"""The formats of the batch API: the lines of input, output and error files, and batch objects.

OpenAI documents the limits of a file, custom ids, output in any order, a separate error file, and
batches that expire before all requests are done.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.types import Completion, Example, Message, Request
from tutelage.teacher.clients.dialect import Dialect, Result
from tutelage.teacher.clients.error_replies import parse_error, ruling_of
from tutelage.teacher.clients.openai_api import OPENAI
from tutelage.teacher.clients.values import parse_json
from tutelage.teacher.cost.prices import Price, Rates
from tutelage.teacher.engine.failures import Action, Fault, FaultKind

WINDOW: Final = "24h"
"""The only completion window that the protocol has."""
TAG: Final = "tutelage"
"""The name of our tag in a batch's metadata."""

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_UNDONE = frozenset({"batch_expired", "batch_cancelled"})
"""Error codes of requests that were never processed."""
_NEW_NAME = "max_completion_tokens"
_SENT: Mapping[str, Any] = dict.fromkeys(
    ("temperature", "top_p", "max_tokens", "seed", "reasoning_effort"), ""
)
"""Parameters that a line may have set, by which an error may name them."""
_MESSAGE_LIMIT = 300
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """The size of batches, and the times of polling.

    max_requests, max_bytes: of one file, as documented by OpenAI
    poll_s, poll_cap_s:      seconds between two polls of a batch: at first, and at most
    settle_s:                seconds until an accepted batch appears in the server's list
    give_up_s:               seconds without an answer of the server after which waiting ends
    """

    max_requests: int = 50_000
    max_bytes: int = 200_000_000
    poll_s: float = 5.0
    poll_cap_s: float = 60.0
    settle_s: float = 10.0
    give_up_s: float = 1800.0


def limits_of(settings: TeacherSettings) -> BatchLimits:
    """The limits of a teacher's server. Gemini takes 20 MB in one call, Anthropic 256 MB, all of
    which is in memory."""
    most = {"anthropic": 64_000_000, "gemini": 18_000_000}.get(settings.scheme)
    return BatchLimits() if most is None else BatchLimits(max_bytes=most)


def request_line(key: str, request: Request, *, renamed: bool, dialect: Dialect = OPENAI) -> bytes:
    """One line of an input file, with the request's key as its id.

    renamed: whether the model requires the newer name of `max_tokens`
    """
    body = dialect.body(request)
    if renamed and "max_tokens" in body:
        body[_NEW_NAME] = body.pop("max_tokens")
    line = dialect.batch_line(key, body)
    # ASCII only: some characters outside it count as line ends in some programs.
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def pack_requests(requests: Iterable[tuple[str, Request]]) -> bytes:
    """Compress requests for the ledger, which stores them with their batch until it has ended."""
    packer = zlib.compressobj(6)
    parts = []
    for key, request in requests:
        value = [
            key,
            request.model,
            request.strategy,
            request.sample,
            [[message.role, message.content] for message in request.messages],
            dict(request.parameters),
        ]
        parts.append(packer.compress(json.dumps(value, separators=(",", ":")).encode() + b"\n"))
    return b"".join([*parts, packer.flush()])


class PackedRequests(Mapping[str, Request]):
    """The requests that `pack_requests` packed, by key; each is parsed when it is accessed."""

    def __init__(self, packed: bytes) -> None:
        unpacker = zlib.decompressobj()
        self._lines: dict[str, bytes] = {}
        rest = b""
        for start in range(0, len(packed), _BLOCK):
            *lines, rest = (rest + unpacker.decompress(packed[start : start + _BLOCK])).split(b"\n")
            for line in lines:
                self._lines[line[2:66].decode()] = line

    def __getitem__(self, key: str) -> Request:
        _, model, strategy, sample, messages, parameters = json.loads(self._lines[key])
        return Request(
            model=model,
            messages=tuple(Message(role, content) for role, content in messages),
            strategy=strategy,
            example=Example("", {}, ""),
            parameters=parameters,
            sample=sample,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an output or error file, with either a completion or a fault.

    key:    its custom_id; empty where the line cannot be parsed
    billed: whether the server may charge for it
    rename: whether it failed only because of the name of `max_tokens`
    """

    key: str
    completion: Completion | None = None
    fault: Fault | None = None
    billed: bool = False
    rename: bool = False


def result_lines(file: IO[bytes]) -> Iterator[str]:
    """The non-empty lines of a file. Only a line feed ends a line: JSON may contain other line
    separators."""
    file.seek(0)
    for line in file:
        if line.strip():
            yield line.decode("utf-8", "replace")


def parse_line(line: str, dialect: Dialect = OPENAI) -> Line:
    """Parse the result of one request."""
    value = parse_json(line)
    found = dialect.batch_result(value) if isinstance(value, dict) else Result(None)
    key, status, body, billed = found
    if key is None:
        return _unreadable("", "a line that is not JSON")
    if status is None:
        return _unreadable(key, "a line without an answer")
    if status != 200 or (isinstance(body, dict) and body.get("error")):
        text = body if isinstance(body, str) else json.dumps(body)
        owed = not 400 <= status < 500 if billed is None else billed
        return _refused(key, status, body, text, billed=owed)
    if not isinstance(body, dict):
        return _unreadable(key, "an answer that is not JSON")
    try:
        return Line(key, completion=dialect.completion(body), billed=True)
    except Fault as fault:
        return Line(key, fault=fault, billed=True)


def _unreadable(key: str, message: str) -> Line:
    return Line(key, fault=Fault(Action.RETRY, message, kind=FaultKind.GARBLED), billed=True)


def _refused(key: str, status: int, answer: Any, text: str, *, billed: bool) -> Line:
    error = parse_error(status, answer, text)
    undone = _UNDONE.intersection(error.codes)
    # A line's own text is not here: what it may repeat of a prompt is judged with the rest.
    ruling = ruling_of(error, _SENT)
    action = Action.RETRY if undone else ruling.action
    if undone:
        shown = min(undone)
    elif error.status in (200, 500) and error.code:
        shown = f"{error.code}: {error.message}"
    else:
        shown = f"{error.shown}: {error.message}"
    shown = " ".join(shown.split())
    if len(shown) > _MESSAGE_LIMIT:
        shown = shown[: _MESSAGE_LIMIT - 1] + "…"
    rename = action is not Action.RETRY and _NEW_NAME in error.message
    fault = Fault(action, shown, unpaid=not billed, status=error.status, inferred=ruling.inferred)
    return Line(key, fault=fault, billed=billed, rename=rename)


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch as the server reports it.

    completed, failed, total: numbers of requests; None where the server does not count them
    errors: why the batch failed as a whole, one line each; codes: the codes of these errors
    created: seconds since 1970; None where it is not needed, because there is a tag
    """

    id: str
    status: str
    tag: str | None
    input_file: str | None
    output_file: str | None
    error_file: str | None
    completed: int | None
    failed: int | None
    total: int | None
    errors: tuple[str, ...] = ()
    codes: frozenset[str] = frozenset()
    created: float | None = None

    @property
    def ended(self) -> bool:
        """Whether its state is final."""
        return self.status in _ENDED


def parse_batch(value: Mapping[str, Any]) -> RemoteBatch | None:
    """Parse a batch object; None where it is not one."""
    found, status = value.get("id"), value.get("status")
    if not isinstance(found, str) or not isinstance(status, str):
        return None
    counts = value.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    metadata = value.get("metadata")
    tag = metadata.get(TAG) if isinstance(metadata, dict) else None
    errors = value.get("errors")
    rows = errors.get("data") if isinstance(errors, dict) else errors
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return RemoteBatch(
        id=found,
        status=status,
        tag=tag if isinstance(tag, str) else None,
        input_file=_text(value.get("input_file_id")),
        output_file=_text(value.get("output_file_id")),
        error_file=_text(value.get("error_file_id")),
        completed=_count(counts.get("completed")),
        failed=_count(counts.get("failed")),
        total=_count(counts.get("total")),
        errors=tuple(_error(row) for row in rows),
        codes=frozenset(str(row.get("code")) for row in rows),
    )


def _error(row: Mapping[str, Any]) -> str:
    line = row.get("line")
    where = "" if line is None else f"line {line}: "
    message = " ".join(str(row.get("message") or row.get("code") or "no message").split())
    return f"{where}{message[:_MESSAGE_LIMIT]}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if whole else None  # type: ignore[return-value]


def price_as_text(price: Price | None) -> str | None:
    """A price as the ledger stores it: a batch is charged at the price when it was sent."""
    if price is None:
        return None
    rates = [[rate.above, rate.input, rate.cached, rate.output] for rate in price.rates]
    return json.dumps([rates, price.per_request, price.source])


def price_from_text(text: str | None) -> Price | None:
    """Parse what `price_as_text` returns."""
    if text is None:
        return None
    rates: Sequence[Sequence[int]]
    rates, per_request, source = json.loads(text)
    return Price(tuple(Rates(*rate) for rate in rates), per_request, source)
