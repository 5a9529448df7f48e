"""Anthropic's Messages API and Message Batches, as documented at platform.claude.com/docs/en/api.

POST /v1/messages                        x-api-key, anthropic-version
POST /v1/messages/batches                {"requests": [{"custom_id": …, "params": …}, …]}
GET  /v1/messages/batches/ID             processing_status: in_progress, canceling, ended
GET  /v1/messages/batches/ID/results     one line per request: succeeded, errored, canceled,
                                         expired; only the first is charged
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.core.types import Completion, Request, Usage
from tutelage.strategies.finish_reasons import standard_reason
from tutelage.teacher.clients.dialect import Result
from tutelage.teacher.clients.values import parse_count, storable
from tutelage.teacher.clients.wire import merged, parse_content, schema_of, stated_cost
from tutelage.teacher.engine.failures import Action, Fault, FaultKind

_VERSION = "2023-06-01"
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status of each documented type of error; in a batch only the type is given."""
_UNITS = ("tokens", "input-tokens", "output-tokens")


class AnthropicDialect:
    """Anthropic's own protocol."""

    scheme = "anthropic"
    base_url = "https://api.anthropic.com/v1"
    endpoints = ("/messages", "/messages/batches")
    models_query = {"limit": "1000"}  # noqa: RUF012  never changed

    def headers(self, key: str, key_header: str | None) -> dict[str, str]:
        """`x-api-key` and the version of the protocol."""
        return {"anthropic-version": _VERSION} | ({key_header or "x-api-key": key} if key else {})

    def path(self, model: str) -> str:
        """`messages`, whatever the model."""
        return "messages"

    def body(self, request: Request) -> dict[str, Any]:
        """Model, messages and parameters; what a system message says has a place of its own."""
        given = dict(request.parameters)
        body: dict[str, Any] = {"model": request.model}
        if system := "\n\n".join(m.content for m in request.messages if m.role == "system"):
            body["system"] = system
        body["messages"] = [
            {"role": m.role, "content": m.content} for m in request.messages if m.role != "system"
        ]
        effort = given.pop("reasoning_effort", None)
        if effort == "none":
            body["thinking"] = {"type": "disabled"}
        elif effort is not None:
            body["thinking"] = {"type": "adaptive"}
            body["output_config"] = {"effort": effort}
        if (schema := schema_of(given.pop("response_format", None))) is not None:
            form = {"format": {"type": "json_schema", "schema": schema}}
            body["output_config"] = body.get("output_config", {}) | form
        return merged(body, given)

    def is_answer(self, value: Mapping[str, Any]) -> bool:
        """Whether it is a message and no error."""
        return isinstance(value.get("content"), list) and not value.get("error")

    def completion(self, value: dict[str, Any]) -> Completion:
        """The text blocks; `thinking` blocks are kept apart."""
        content = value.get("content")
        if not isinstance(content, list):
            raise Fault(Action.RETRY, "an answer without content", kind=FaultKind.GARBLED)
        text, thoughts = parse_content(content)
        said, served = value.get("stop_reason"), value.get("model")
        counts = value.get("usage")
        counts = counts if isinstance(counts, dict) else {}
        return Completion(
            text,
            standard_reason(said) if isinstance(said, str) else None,
            _usage(counts, wrote=bool(text or thoughts)),
            pico=stated_cost(counts),
            reasoning=thoughts,
            served=storable(served)[:200] or None if isinstance(served, str) else None,
        )

    def limits(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """`anthropic-ratelimit-*` under OpenAI's names.

        Input and output have limits of their own, which together bound the tokens of a minute;
        whichever is exhausted pauses the run until its own reset.
        """
        found: dict[str, str] = {}
        for kind in ("limit", "remaining", "reset"):
            value = headers.get(f"anthropic-ratelimit-requests-{kind}")
            if value is not None:
                found[f"x-ratelimit-{kind}-requests"] = value
        limits = [parse_count(_whole(headers, unit, "limit")) for unit in _UNITS]
        whole = limits[0] if limits[1] is None or limits[2] is None else limits[1] + limits[2]
        if whole:
            found["x-ratelimit-limit-tokens"] = str(whole)
        for unit in _UNITS:
            reset = headers.get(f"anthropic-ratelimit-{unit}-reset")
            if _whole(headers, unit, "remaining") == 0 and reset is not None:
                found |= {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": reset}
        return found

    def batch_line(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """One of `requests`."""
        return {"custom_id": key, "params": body}

    def batch_result(self, value: dict[str, Any]) -> Result:
        """`{"custom_id": …, "result": {"type": "succeeded", "message": …}}`"""
        key, result = value.get("custom_id"), value.get("result")
        key = key if isinstance(key, str) else None
        if not isinstance(result, dict):
            return Result(key)
        how = result.get("type")
        if how == "succeeded":
            return Result(key, 200, result.get("message"))
        if how == "errored":
            error = result.get("error")
            inner = error.get("error", error) if isinstance(error, dict) else {}
            kind = inner.get("type") if isinstance(inner, dict) else None
            return Result(key, _STATUSES.get(str(kind), 500), {"error": inner}, False)
        if how in ("canceled", "expired"):
            code = {"canceled": "batch_cancelled", "expired": "batch_expired"}[how]
            return Result(key, 500, {"error": {"code": code, "message": how}}, False)
        return Result(key)


def _whole(headers: Mapping[str, str], unit: str, kind: str) -> int | None:
    value = headers.get(f"anthropic-ratelimit-{unit}-{kind}", "")
    return int(value) if value.isdecimal() else None


def _usage(counts: Mapping[str, Any], *, wrote: bool) -> Usage:
    """The tokens counted. `input_tokens` are only those that no cache was involved with.

    What is written to a cache costs up to twice as much as other input, and counts twice.
    """
    plain = parse_count(counts.get("input_tokens"))
    cached = parse_count(counts.get("cache_read_input_tokens"))
    stored = parse_count(counts.get("cache_creation_input_tokens"))
    written = parse_count(counts.get("output_tokens"))
    prompt = None if plain is None else plain + (cached or 0) + 2 * (stored or 0)
    return Usage(prompt or None, written or None if wrote else written, cached)


ANTHROPIC = AnthropicDialect()
