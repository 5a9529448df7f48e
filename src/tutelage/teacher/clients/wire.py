"""OpenAI's chat completions as JSON: encodes requests, and parses answers.

Servers differ. Every known variant is handled here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from tutelage.core.types import Completion, Request, Usage
from tutelage.strategies.finish_reasons import ERROR, standard_reason
from tutelage.teacher.clients.error_replies import parse_error
from tutelage.teacher.clients.values import dicts, parse_count, parse_json, storable
from tutelage.teacher.engine.failures import (
    Action,
    Fault,
    FaultKind,
    fault_kind_of,
    judge,
)

_PICO = 10**12
_MOST_DOLLARS = 1000
"""No request costs more: such a cost makes no sense, and counts as none."""


def request_body(request: Request) -> dict[str, Any]:
    """The body of a request: model, messages, and the parameters that are set."""
    return {
        "model": request.model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        **request.parameters,
    }


def merged(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """A body with further keys; objects that are in both are merged."""
    for name, value in extra.items():
        ours = body.get(name)
        both = isinstance(ours, dict) and isinstance(value, Mapping)
        body[name] = merged(dict(ours), value) if both else value  # type: ignore[arg-type]
    return body


def schema_of(response_format: object) -> Mapping[str, Any] | None:
    """The JSON schema in the parameter `response_format`."""
    form = response_format.get("json_schema") if isinstance(response_format, Mapping) else None
    return form.get("schema") if isinstance(form, Mapping) else None


def parse_stream(text: str) -> dict[str, Any] | None:
    """The completion in a stream of server-sent events, which some servers send unasked.

    None where it has no event that can be read.
    """
    rows = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    events = [event for event in map(parse_json, rows) if isinstance(event, dict)]
    whole: dict[str, Any] = {}
    message: dict[str, Any] = {}
    choice: dict[str, Any] = {"message": message}
    for event in events:
        whole |= {name: value for name, value in event.items() if value and name != "choices"}
        for part in list(dicts(event.get("choices")))[:1]:
            choice |= {n: v for n, v in part.items() if v and n not in ("delta", "message")}
            delta = part.get("delta") or part.get("message")
            for name, value in delta.items() if isinstance(delta, dict) else ():
                joins = isinstance(value, str) and name != "role"
                if joins and isinstance(message.get(name, ""), str):
                    message[name] = message.get(name, "") + value
            whole["choices"] = [choice]
    complete = "[DONE]" in rows or "finish_reason" in choice
    if "choices" in whole and not complete and not whole.get("error"):
        return None  # it broke off
    return whole or None


_REASONING_BY_RANK = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "thoughts",
    "reasoning_details",
)
"""Keys of a message that hold its reasoning; the first that is not empty is taken."""
_REASONING = frozenset(_REASONING_BY_RANK)


def parse_completion(answer: dict[str, Any]) -> Completion:
    """The first choice of a chat completion.

    Raises a transient Fault where it has none, and where the choice says that it failed.
    """
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if isinstance(choice, dict) and choice.get("error"):
        raise _failed_choice(choice["error"])
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise Fault(Action.RETRY, "an answer without choices", kind=FaultKind.GARBLED)
    said = choice.get("finish_reason")
    reason = standard_reason(said) if isinstance(said, str) else None
    if reason == ERROR:
        said = str(said)[:80]
        raise Fault(Action.RETRY, f"an answer that ended with {said!r}", kind=FaultKind.SERVER)
    text, thoughts = parse_content(message.get("content"))
    for name in () if _REASONING.isdisjoint(message) else _REASONING_BY_RANK:
        if message.get(name) and not thoughts:
            thoughts = _text_in(message[name])
    refusal = message.get("refusal") or _refusal_in(message.get("content"))
    if not text and isinstance(refusal, str) and refusal:
        text, reason = storable(refusal), "content_filter"
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    served = answer.get("model")
    return Completion(
        text,
        reason,
        _parse_usage(counts, wrote=bool(text or thoughts)),
        pico=stated_cost(counts),
        reasoning=thoughts,
        served=without_folder(storable(served))[:200] or None if isinstance(served, str) else None,
    )


def without_folder(name: str) -> str:
    """A model's name. llama.cpp's server names a path on its machine: the file's name is enough."""
    return PurePath(name).name if name.startswith(("/", ".", "~")) or "\\" in name else name


def _failed_choice(error: object) -> Fault:
    found = parse_error(200, {"error": error}, "")
    ruling = judge(found.status, found.codes, found.message)
    action = ruling.action if ruling.action is not Action.JUDGE else Action.RETRY
    return Fault(
        action, f"an error in the answer: {found.message[:300]}", kind=fault_kind_of(found.status)
    )


def _parse_usage(counts: dict[str, Any], *, wrote: bool) -> Usage:
    """The tokens counted. Some servers count hidden reasoning only in the total: the total less the
    prompt is then the output.

    No prompt has zero tokens, and no text has: a server that says so does not count.
    """
    prompt = parse_count(counts.get("prompt_tokens")) or None
    written = parse_count(counts.get("completion_tokens"))
    total = parse_count(counts.get("total_tokens"))
    if prompt is not None and written is not None and total is not None:
        written = max(written, total - prompt)
    if wrote:
        written = written or None
    details = counts.get("prompt_tokens_details")
    cached = parse_count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Usage(prompt, written, cached)


def stated_cost(counts: dict[str, Any]) -> int | None:
    """What the server says that the request cost (`usage.cost`, in US dollars), in pico-dollars.

    None where it says nothing, and for zero: that a request was free is for the recipe to say.
    """
    if "cost" not in counts and "cost_details" not in counts:
        return None
    cost = counts.get("cost")
    details = counts.get("cost_details")
    if isinstance(details, dict) and counts.get("is_byok") is True:
        upstream = details.get("upstream_inference_cost")
        cost = (_dollars(cost) or 0.0) + (_dollars(upstream) or 0.0)
    dollars = _dollars(cost)
    return -int(-dollars * _PICO // 1) if dollars else None


def _dollars(value: object) -> float | None:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if plain and 0 <= value <= _MOST_DOLLARS else None  # type: ignore[operator,arg-type]


def _refusal_in(content: object) -> object:
    if isinstance(content, str):
        return None
    parts = [part for part in dicts(content) if part.get("type") == "refusal"]
    return parts[0].get("refusal") if parts else None


_ANSWER_PARTS = (None, "text", "output_text")
"""The types of the parts of a message that are the answer. All others are reasoning or the like."""


def parse_content(content: object) -> tuple[str, str]:
    """The answer and the reasoning in a message's content."""
    if isinstance(content, str):
        return storable(content), ""
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return "", ""
    # Some servers send the answer in parts.
    parts = [part for part in content if isinstance(part, (dict, str))]
    answer = [p for p in parts if isinstance(p, str) or p.get("type") in _ANSWER_PARTS]
    thoughts = [p for p in parts if isinstance(p, dict) and p.get("type") not in _ANSWER_PARTS]
    texts = [p if isinstance(p, str) else p.get("text") for p in answer]
    text = "".join(part for part in texts if isinstance(part, str))
    return storable(text), _text_in(thoughts)


def _text_in(value: object) -> str:
    """All texts of reasoning in a value of any shape, one after the other."""
    return storable("\n".join(_texts(value, 5)).strip())


def _texts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth:
        for part in value:
            yield from _texts(part, depth - 1)
    elif isinstance(value, dict) and depth:
        for name in ("thinking", "reasoning", "text", "summary", "content"):
            yield from _texts(value.get(name), depth - 1)
