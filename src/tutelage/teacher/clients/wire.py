"""OpenAI's chat completions as JSON: encodes requests, and parses answers and errors.

Servers differ. Every known variant is handled here and nowhere else.
"""

from __future__ import annotations

import json
from typing import Any

from tutelage.core.types import Completion, Request, Usage
from tutelage.teacher.engine.failures import Action, Fault, FaultKind


def request_body(request: Request) -> dict[str, Any]:
    """The body of a request: model, messages, and the parameters that are set."""
    return {
        "model": request.model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        **request.parameters,
    }


def parse_json(text: str) -> Any:
    """The value, or None for text that is not JSON (`null` is not an answer either)."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def parse_completion(answer: dict[str, Any]) -> Completion:
    """The first choice of a chat completion. Raises a transient Fault where it has none."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise Fault(Action.RETRY, "an answer without choices", kind=FaultKind.GARBLED)
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    reason = choice.get("finish_reason")
    text = _parse_content(message.get("content"))
    if not text and isinstance(message.get("refusal"), str) and message["refusal"]:
        text, reason = message["refusal"], "content_filter"
    return Completion(text, reason if isinstance(reason, str) else None, _parse_usage(counts))


def _parse_usage(counts: dict[str, Any]) -> Usage:
    """The tokens counted. Some servers count hidden reasoning only in the total: the total less the
    prompt is then the output."""
    prompt = _count(counts.get("prompt_tokens"))
    written = _count(counts.get("completion_tokens"))
    total = _count(counts.get("total_tokens"))
    if prompt is not None and written is not None and total is not None:
        written = max(written, total - prompt)
    details = counts.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Usage(prompt, written, cached)


def _parse_content(content: object) -> str:
    if isinstance(content, list):  # some servers send the answer in parts
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str):
        return ""
    return content.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be stored


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None


def parse_error(status: int, answer: Any, text: str) -> tuple[int, str, str]:
    """Status, code and message of an error, in any of the shapes that servers send.

    An error inside a 200 has its status in its code, or else counts as a server error (500).
    """
    if isinstance(answer, list) and answer:
        answer = answer[0]
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        error = {"message": error if isinstance(error, str) else text}
    code = error.get("code")
    if status == 200:
        status = code if isinstance(code, int) and code >= 400 else 500
    message = error.get("message") or error.get("detail") or text
    named = code if isinstance(code, str) else error.get("type")
    return status, named if isinstance(named, str) else "", str(message).strip() or "no message"
