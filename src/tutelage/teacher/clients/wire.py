"""OpenAI's chat completions as JSON: encodes requests, and parses answers and errors.

Servers differ. Every known variant is handled here and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from tutelage.core.types import Completion, Request, Usage
from tutelage.strategies.finish_reasons import ERROR, standard_reason
from tutelage.teacher.engine.failures import (
    Action,
    Fault,
    FaultKind,
    Ruling,
    fault_kind_of,
    judge,
    parse_moment,
)

_PICO = 10**12
_MOST_TOKENS = 10**9
"""No request has more tokens: such a count makes no sense, and counts as none."""
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


def parse_json(text: str) -> Any:
    """The value, or None for text that is not JSON (`null` is not an answer either)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # the latter: brackets inside of brackets inside of …
        return None


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
    for name in ("reasoning_content", "reasoning", "thinking", "thoughts", "reasoning_details"):
        if message.get(name) and not thoughts:
            thoughts = _text_in(message[name])
    if not text and isinstance(message.get("refusal"), str) and message["refusal"]:
        text, reason = storable(message["refusal"]), "content_filter"
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


_ANSWER_PARTS = (None, "text", "output_text")
"""The types of the parts of a message that are the answer. All others are reasoning or the like."""


def parse_content(content: object) -> tuple[str, str]:
    """The answer and the reasoning in a message's content."""
    if isinstance(content, str):
        return storable(content), ""
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


def storable(text: str) -> str:
    """A text without halves of surrogate pairs, which cannot be stored."""
    return text.encode("utf-8", "replace").decode()


def parse_count(value: object) -> int | None:
    """A number of tokens; None for what cannot be one: negative, absurdly large, or no number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS:
        return value
    return None


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error as a server describes it.

    status:  the HTTP status; 200 for an error inside of a 200 that names no status of its own
    codes:   all codes, types and reasons in it; code: the first of them, for people
    message: never empty
    param:   the parameter that it names
    wait_s:  seconds that it asks to wait, where its body says so
    """

    status: int
    codes: tuple[str, ...]
    message: str
    param: str = ""
    wait_s: float | None = None

    @property
    def code(self) -> str:
        """The first code; empty where there is none."""
        return self.codes[0] if self.codes else ""

    @property
    def shown(self) -> str:
        """How messages begin that repeat it."""
        return "an error in an answer" if self.status == 200 else f"HTTP {self.status}"


def parse_error(status: int, answer: Any, text: str) -> ErrorReply:
    """An error in any of the shapes that servers send.

    text: of the body, which is the message where nothing else is
    """
    if isinstance(answer, list) and answer:
        answer = answer[0]
    body: dict[str, Any] = answer if isinstance(answer, dict) else {}
    error = body.get("error") or body.get("errors") or body.get("base_resp") or body
    if isinstance(error, list) and error:
        error = error[0]
    if not isinstance(error, dict):
        error = {**body, "message": error if isinstance(error, str) else text}
    codes: list[str] = list(_codes(error))
    params: list[str] = []
    message = _message(error, codes, params) or _message(body, codes, params) or _plain(text)
    inner = parse_json(message) if message.startswith("{") else None
    if isinstance(inner, dict):  # an error of another server, as text
        found = parse_error(status, inner, message)
        codes += found.codes
        params += [found.param] if found.param else []
        message = found.message
    number = error.get("code")
    if status == 200 and isinstance(number, int) and 400 <= number < 600:
        status = number
    param = error.get("param")
    params += [param] if isinstance(param, str) else []
    return ErrorReply(
        status,
        tuple(dict.fromkeys(codes)),
        message.strip() or "no message",
        "".join(params[:1]),
        _wait_s(error),
    )


def _wait_s(error: Mapping[str, Any]) -> float | None:
    """The wait in an error object: google.rpc.RetryInfo, or a field of the error's own."""
    for part in (error, error.get("metadata"), *_dicts(error.get("details"))):
        for name in ("retryDelay", "retry_after", "retry_after_seconds", "retryAfter"):
            value = part.get(name) if isinstance(part, dict) else None
            if isinstance(value, (int, float, str)) and not isinstance(value, bool):
                return parse_moment(str(value))
    return None


def ruling_of(error: ErrorReply, request_parameters: Mapping[str, Any], prompt: str = "") -> Ruling:
    """What an error calls for. prompt: text of the request, which the error may repeat"""
    message = _without_echo(error.message, prompt) if prompt else error.message
    return judge(error.status, error.codes, message, request_parameters, error.param)


_ECHO = 30
"""Characters in a row from which on a message repeats the prompt, and does not speak of it."""


def _without_echo(message: str, prompt: str) -> str:
    """A message without what it repeats of the prompt: a row's words are no reason."""
    kept, at = [], 0
    while at < len(message):
        end = at + _ECHO
        if message[at:end] in prompt and end <= len(message):
            while end < len(message) and message[at : end + 1] in prompt:
                end += 1
            kept.append("…")
            at = end
        else:
            kept.append(message[at])
            at += 1
    return "".join(kept)


def _codes(error: dict[str, Any]) -> Iterator[str]:
    for name in ("code", "type", "status", "reason", "error_code", "status_code"):
        value = error.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            yield str(value)
    inner = error.get("innererror")
    if isinstance(inner, dict):
        yield from _codes(inner)
    details = error.get("details")
    if isinstance(details, dict):
        yield from _codes(details)
    for detail in _dicts(details):
        if isinstance(detail.get("reason"), str):
            yield detail["reason"]
        for violation in _dicts(detail.get("violations")):  # the quota that is exhausted
            if isinstance(violation.get("quotaId"), str):
                yield violation["quotaId"]


def _message(error: dict[str, Any], codes: list[str], params: list[str]) -> str:
    """The message of an error object. Adds what its parts say to `codes` and `params`."""
    for name in (
        "message",
        "detail",
        "msg",
        "error_msg",
        "status_msg",
        "error_description",
        "title",
    ):
        value = error.get(name)
        if isinstance(value, dict):
            value = value.get("detail") or value.get("message") or json.dumps(value)
        if isinstance(value, list) and (parts := list(_dicts(value))):
            # As pydantic's errors: [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": …}]
            lines = []
            for part in parts:
                location = [str(place) for place in part.get("loc") or () if place != "body"]
                codes.append(str(part.get("type", "")))
                params += location[:1]
                lines.append(f"{'.'.join(location)}: {part.get('msg') or part.get('message')}")
            return "; ".join(lines)
        if isinstance(value, str) and value.strip():
            return _plain(value)
    return ""


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    yield from (part for part in value if isinstance(part, dict)) if isinstance(value, list) else ()


def is_page(text: str, content_type: str = "") -> bool:
    """Whether a body is a web page and not an API's."""
    return "text/html" in content_type or text.lstrip()[:14].lower().startswith(
        ("<!doctype html", "<html")
    )


_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def _plain(text: str) -> str:
    """A text as it is; of a web page its title."""
    if not is_page(text):
        return text
    title = _TITLE.search(text)
    said = re.sub(r"<[^>]*>|\s+", " ", title[1] if title else text)
    return f"a web page: {' '.join(said.split())[:120]}"
