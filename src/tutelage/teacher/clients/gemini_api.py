"""Gemini's generateContent and batchGenerateContent, as documented at ai.google.dev/api.

POST /v1beta/models/MODEL:generateContent         x-goog-api-key
POST /v1beta/models/MODEL:batchGenerateContent    {"batch": {"displayName": …, "inputConfig": …}}
GET  /v1beta/batches/ID                           metadata.state: BATCH_STATE_PENDING, …
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.core.types import Completion, Request, Usage
from tutelage.strategies.finish_reasons import ERROR, FILTERED, STOP, standard_reason
from tutelage.teacher.clients.dialect import Result
from tutelage.teacher.clients.values import parse_count, storable
from tutelage.teacher.clients.wire import merged, schema_of
from tutelage.teacher.engine.failures import Action, Fault, FaultKind, judge

_NAMES = {"temperature": "temperature", "top_p": "topP", "max_tokens": "maxOutputTokens",
          "seed": "seed"}  # fmt: skip
_STATUSES = {1: 499, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501,
             13: 500, 14: 503, 15: 500, 16: 401}  # fmt: skip
"""The HTTP status of each code of google.rpc.Status; in a batch only the code is given."""


class GeminiDialect:
    """Gemini's own protocol."""

    scheme = "gemini"
    base_url = "https://generativelanguage.googleapis.com/v1beta"
    endpoints = (":generateContent", ":batchGenerateContent", "/models")
    models_query = {"pageSize": "1000"}  # noqa: RUF012  never changed

    def headers(self, key: str, key_header: str | None) -> dict[str, str]:
        """`x-goog-api-key`."""
        return {key_header or "x-goog-api-key": key} if key else {}

    def path(self, model: str) -> str:
        """`models/MODEL:generateContent`; a tuned model is named with its folder."""
        return f"{model if '/' in model else f'models/{model}'}:generateContent"

    def body(self, request: Request) -> dict[str, Any]:
        """Contents and `generationConfig`; system messages have a place of their own."""
        given = dict(request.parameters)
        body: dict[str, Any] = {}
        if system := [{"text": m.content} for m in request.messages if m.role == "system"]:
            body["systemInstruction"] = {"parts": system}
        body["contents"] = [
            {"role": "model" if m.role == "assistant" else "user", "parts": [{"text": m.content}]}
            for m in request.messages
            if m.role != "system"
        ]
        config: dict[str, Any] = {
            _NAMES[name]: given.pop(name) for name in tuple(given) if name in _NAMES
        }
        effort = given.pop("reasoning_effort", None)
        if effort == "none":
            config["thinkingConfig"] = {"thinkingBudget": 0}
        elif effort is not None:
            config["thinkingConfig"] = {"thinkingLevel": str(effort).upper()}
        if (schema := schema_of(given.pop("response_format", None))) is not None:
            config |= {"responseMimeType": "application/json", "responseJsonSchema": schema}
        if config:
            body["generationConfig"] = config
        return merged(body, given)

    def is_answer(self, value: Mapping[str, Any]) -> bool:
        """Whether there are candidates, or a statement about the prompt, and no error."""
        return ("candidates" in value or "promptFeedback" in value) and not value.get("error")

    def completion(self, value: dict[str, Any]) -> Completion:
        """The first candidate; parts that are thoughts are kept apart.

        A prompt that was blocked has no candidate: that is a refusal.
        """
        counts, served = value.get("usageMetadata"), value.get("modelVersion")
        counts = counts if isinstance(counts, dict) else {}
        name = storable(served)[:200] or None if isinstance(served, str) else None
        candidates = value.get("candidates")
        first = candidates[0] if isinstance(candidates, list) and candidates else None
        if not isinstance(first, dict):
            feedback = value.get("promptFeedback")
            why = feedback.get("blockReason") if isinstance(feedback, dict) else None
            if not isinstance(why, str):
                raise Fault(Action.RETRY, "an answer without candidates", kind=FaultKind.GARBLED)
            _stop_for(why, "the prompt was blocked")
            return Completion("", FILTERED, _usage(counts, wrote=False), served=name)
        said = first.get("finishReason")
        reason = standard_reason(said) if isinstance(said, str) else None
        if reason not in (None, STOP):
            _stop_for(str(said), str(first.get("finishMessage") or ""))
        if reason == ERROR:
            message = f"an answer that ended with {str(said)[:80]!r}"
            raise Fault(Action.RETRY, message, kind=FaultKind.SERVER)
        content = first.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        parts = [p for p in parts if isinstance(p, dict)] if isinstance(parts, list) else []
        text = "".join(_text(part) for part in parts if part.get("thought") is not True)
        thoughts = "\n".join(_text(part) for part in parts if part.get("thought") is True)
        return Completion(
            storable(text),
            reason,
            _usage(counts, wrote=bool(text or thoughts)),
            reasoning=storable(thoughts).strip(),
            served=name,
        )

    def limits(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Nothing: Gemini states its limits in errors alone."""
        return {}

    def batch_line(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """One of `requests`; its metadata come back with the result."""
        return {"request": body, "metadata": {"key": key}}

    def batch_result(self, value: dict[str, Any]) -> Result:
        """`{"metadata": {"key": …}, "response": …}`, or `"error"` as a google.rpc.Status."""
        metadata = value.get("metadata")
        key = metadata.get("key") if isinstance(metadata, dict) else value.get("key")
        key = key if isinstance(key, str) else None
        error, response = value.get("error"), value.get("response")
        if isinstance(error, dict) and not response:
            code = error.get("code")
            code = code if isinstance(code, int) else 13
            return Result(key, _STATUSES.get(code, code if code >= 100 else 500), {"error": error},
                          False)  # fmt: skip
        return Result(key) if not isinstance(response, dict) else Result(key, 200, response)


def _stop_for(reason: str, message: str) -> None:
    """Raise Fault where a reason is not about this answer, by the fault table."""
    ruling = judge(200, (reason,), "")
    if ruling.action in (Action.STOP_ACCOUNT, Action.STOP_KEY):
        raise Fault(ruling.action, f"{reason}: {message}".rstrip(": "), status=200)


def _text(part: Mapping[str, Any]) -> str:
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _usage(counts: Mapping[str, Any], *, wrote: bool) -> Usage:
    """The tokens counted: thoughts are output, and are not among the candidates' tokens."""
    prompt = parse_count(counts.get("promptTokenCount"))
    written = parse_count(counts.get("candidatesTokenCount"))
    thoughts = parse_count(counts.get("thoughtsTokenCount"))
    total = parse_count(counts.get("totalTokenCount"))
    counted = [count for count in (written, thoughts) if count is not None]
    if prompt is not None and total is not None:
        counted = [max(sum(counted), total - prompt, 0)]
    output = sum(counted) if counted else None
    output = output or None if wrote else output
    return Usage(prompt or None, output, parse_count(counts.get("cachedContentTokenCount")))


GEMINI = GeminiDialect()
