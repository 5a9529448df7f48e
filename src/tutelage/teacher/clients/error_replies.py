"""Errors in all the shapes in which servers send them, and what each calls for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.teacher.clients.values import dicts, parse_json
from tutelage.teacher.engine.failures import Ruling, judge, parse_moment


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
    for text in (message, _upstream(error)):
        inner = parse_json(text) if text.startswith("{") else None
        if isinstance(inner, dict):  # an error of another server, as text
            found = parse_error(status, inner, text)
            codes += found.codes
            params += [found.param] if found.param else []
            message = found.message if text is message else f"{message}: {found.message}"
        elif text is not message and text:
            message = f"{message}: {text}"
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


def _upstream(error: Mapping[str, Any]) -> str:
    """What the server behind a router said (OpenRouter's `metadata.raw`)."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return raw.strip() if isinstance(raw, str) else ""


def _wait_s(error: Mapping[str, Any]) -> float | None:
    """The wait in an error object: google.rpc.RetryInfo, or a field of the error's own."""
    for part in (error, error.get("metadata"), *dicts(error.get("details"))):
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
    for name in ("code", "type", "__type", "status", "reason", "error_code", "status_code"):
        value = error.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            yield str(value)
    inner = error.get("innererror")
    if isinstance(inner, dict):
        yield from _codes(inner)
    details = error.get("details")
    if isinstance(details, dict):
        yield from _codes(details)
    for detail in dicts(details):
        if isinstance(detail.get("reason"), str):
            yield detail["reason"]
        for violation in dicts(detail.get("violations")):  # the quota that is exhausted
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
        if isinstance(value, list) and (parts := list(dicts(value))):
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
