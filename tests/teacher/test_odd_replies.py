"""Replies as no document describes them, byte by byte, and what the client makes of each."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.types import Completion, Example, Message, Request
from tutelage.teacher.clients.error_replies import parse_error, ruling_of
from tutelage.teacher.clients.http_api import ServerTeacher, come_back
from tutelage.teacher.clients.values import parse_json
from tutelage.teacher.engine.failures import Action, Fault

TEXT = "It rains."
REQUEST = Request("m", (Message("user", "Why?"),), "s", Example("u", {}, "x"), {"max_tokens": 50})


def answer(**more: Any) -> dict[str, Any]:
    """A chat completion. more: fields of the message, or `usage`"""
    usage = more.pop("usage", {"prompt_tokens": 7, "completion_tokens": 3})
    message = {"role": "assistant", "content": TEXT, **more}
    return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}


def http(body: Any, status: str = "200 OK", extra: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{extra}Connection: close\r\n\r\n"
    return head.encode() + data


def events(*parts: dict[str, Any], done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(part)}\n\n" for part in parts]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


def delta(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, **more}]}


async def _replies(replies: list[bytes]) -> list[Completion | Fault]:
    found: list[Completion | Fault] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await reader.readline()).strip():
            pass
        writer.write(replies[len(found)])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = TeacherSettings(
        model="openai:m", base_url=f"http://127.0.0.1:{port}/v1", timeout_s=5
    )
    async with server, ServerTeacher("m", settings) as teacher:
        for _ in replies:
            try:
                found.append(await teacher.complete(REQUEST))
            except Fault as fault:
                found.append(fault)
    return found


def reply_to(data: bytes) -> Completion | Fault:
    return asyncio.run(_replies([data]))[0]


USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
ANSWERS = {
    "a stream": http(events(delta("It "), delta("rains.", finish_reason="stop"), USAGE)),
    "a list of parts": http(answer(content=[{"type": "text", "text": "It "}, "rains."])),
    "one part": http(answer(content={"type": "text", "text": TEXT})),
    "counts as text": http(answer(usage={"prompt_tokens": "7", "completion_tokens": "3"})),
    "a byte order mark": http(b"\xef\xbb\xbf" + json.dumps(answer()).encode()),
    "201": http(answer(), "201 Created"),
    "203": http(answer(), "203 Non-Authoritative Information"),
    "compressed": http(gzip.compress(json.dumps(answer()).encode()),
                       extra="Content-Encoding: gzip\r\n"),
    "an error that is null": http({**answer(), "error": None}),
}  # fmt: skip


@pytest.mark.parametrize("how", ANSWERS)
def test_an_answer_is_found_and_counted(how: str) -> None:
    found = reply_to(ANSWERS[how])
    assert isinstance(found, Completion), found
    assert (found.text, found.finish_reason) == (TEXT, "stop")
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (7, 3)


@pytest.mark.parametrize(
    "count", ["-7", -7, 1e30, float("nan"), float("inf"), True, None, [7], "9" * 30, "seven"]
)
def test_a_count_that_cannot_be_one_is_unknown(count: Any) -> None:
    found = reply_to(http(answer(usage={"prompt_tokens": count, "completion_tokens": 3})))
    assert isinstance(found, Completion) and found.usage.prompt_tokens is None


def test_a_refusal_without_content_is_one() -> None:
    for more in ({"content": None, "refusal": "No."},
                 {"content": [{"type": "refusal", "refusal": "No."}]}):  # fmt: skip
        found = reply_to(http(answer(**more)))
        assert isinstance(found, Completion)
        assert (found.text, found.finish_reason) == ("No.", "content_filter")


def test_a_models_own_replacement_character_is_part_of_its_text() -> None:
    data = json.dumps(answer(content="caf\ufffd"), ensure_ascii=False).encode()
    found = reply_to(http(data))
    assert isinstance(found, Completion) and found.text == "caf\ufffd"


TRANSIENT = {
    "a web page": http(b"<html><title>Sign in</title></html>"),
    "a stream that breaks off": http(events(delta("It "), done=False)),
    "not UTF-8": http(json.dumps(answer(content="café"), ensure_ascii=False).encode("latin-1")),
    "not compressed": http(answer(), extra="Content-Encoding: gzip\r\n"),
    "a broken archive": http(b"\x1f\x8b\x08garbage", extra="Content-Encoding: gzip\r\n"),
    "a cut chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{\"choices\"",
    "a broken chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n0\r\n\r\n",
    "too short": b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{}",
    "another protocol": b"SSH-2.0-OpenSSH_9\r\n",
    "nothing": b"",
    "brackets": http(b"[" * 100_000),
    "a number of thousands of digits": http(b'{"choices": [], "usage": ' + b"9" * 6000 + b"}"),
    "a list": http([answer()]),
    "no choices": http({"choices": []}),
    **{str(status): http({}, f"{status} x")
       for status in (408, 409, 425, 429, 499, 500, 520, 521, 522, 523, 524, 525, 526, 529)},
}  # fmt: skip


@pytest.mark.parametrize("how", TRANSIENT)
def test_whatever_cannot_be_an_answer_is_transient(how: str) -> None:
    found = reply_to(TRANSIENT[how])
    assert isinstance(found, Fault) and found.action is Action.RETRY
    assert found.unpaid == (how.isdecimal() and int(how) < 500)


def test_an_error_in_a_stream_is_that_error() -> None:
    found = reply_to(http(events({"error": {"message": "Incorrect API key", "code": 401}})))
    assert isinstance(found, Fault) and found.action is Action.STOP_KEY


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0.5", 0.5), ("-5", 0.0), ("nan", None), ("soon", None),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)  # fmt: skip
def test_retry_after_in_any_shape(value: str, seconds: float | None) -> None:
    found = reply_to(http({}, "429 x", f"Retry-After: {value}\r\n"))
    assert isinstance(found, Fault) and found.retry_after_s == seconds


def test_a_moment_beyond_all_calendars_is_not_said() -> None:
    found = reply_to(http({}, "429 x", "Retry-After: 99999999999999999999\r\n"))
    assert isinstance(found, Fault) and "does not say when" in come_back(found)


def test_a_redirect_is_not_followed_with_the_key() -> None:
    for where in ("Location: https://login.example/x?y=1\r\n", ""):
        found = reply_to(http(b"", "302 Found", where))
        assert isinstance(found, Fault) and found.action is Action.STOP_SERVER


ROUTED = {"message": "Provider returned error", "code": 400}
BODIES: list[tuple[int, Any, Action]] = [
    # vLLM, text-generation-inference, Ollama, LM Studio, llama.cpp
    (400, {"object": "error", "message": "This model's maximum context length is 4096 tokens. "
           "However, you requested 4500 tokens.", "type": "BadRequestError"}, Action.FAIL_REQUEST),
    (422, {"error": "Input validation error: `inputs` must have less than 4096 tokens.",
           "error_type": "validation"}, Action.FAIL_REQUEST),
    (422, {"error": "Input validation error: `temperature` must be strictly positive",
           "error_type": "validation"}, Action.STOP_PARAMETER),
    (429, {"error": "Model is overloaded", "error_type": "overloaded"}, Action.RETRY),
    (404, {"error": "model 'm' not found"}, Action.STOP_MODEL),
    (200, {"error": "Unexpected endpoint or method. (POST /v1/x)"}, Action.STOP_SERVER),
    (404, {"error": {"message": "No models loaded.", "code": "model_not_found"}},
     Action.STOP_MODEL),
    (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
     Action.RETRY),
    # Routers and gateways
    (402, {"error": {"message": "Credit limit exceeded.", "type": "credit_limit"}},
     Action.STOP_ACCOUNT),
    (400, {"error": {**ROUTED, "metadata": {"raw": json.dumps({"error": {"message":
           "'temperature' is not supported", "code": "unsupported_parameter"}})}}},
     Action.STOP_PARAMETER),
    (400, {"error": {**ROUTED, "metadata": {"raw": json.dumps({"message":
           "maximum context length is 4096 tokens"})}}}, Action.FAIL_REQUEST),
    (429, {"error": {**ROUTED, "metadata": {"raw": "m is temporarily rate-limited upstream."}}},
     Action.RETRY),
    (400, {"__type": "ThrottlingException", "message": "Too many tokens, please wait."},
     Action.RETRY),
    (403, {"message": "The security token included in the request is expired"}, Action.STOP_KEY),
    (400, {"message": "The provided model identifier is invalid."}, Action.STOP_MODEL),
    (401, {"statusCode": 401, "message": "Access token is missing or invalid."}, Action.STOP_KEY),
    (429, {"error": {"code": "429", "message": "exceeded token rate limit of your pricing tier. "
           "Please retry after 59 seconds."}}, Action.RETRY),
    (200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
     Action.STOP_ACCOUNT),
    (422, {"object": "error", "message": {"detail": [{"type": "extra_forbidden",
           "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}},
     Action.STOP_PARAMETER),
    (403, "<html><head><title>Attention Required!</title></head></html>", Action.JUDGE),
    (418, "short and stout", Action.JUDGE),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "action"), BODIES, ids=str)
def test_errors_in_the_shapes_of_many_servers(status: int, body: Any, action: Action) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    error = parse_error(status, parse_json(text), text)
    sent = {"temperature": 0.2, "max_tokens": 400, "seed": 1}
    assert ruling_of(error, sent).action is action


def test_a_limit_above_the_servers_is_the_settings_fault_and_a_long_row_the_rows() -> None:
    message = "`max_tokens` must be less than or equal to `8192`, less than the `context_window`"
    error = parse_error(400, {"error": {"message": message}}, "")
    assert ruling_of(error, {"max_tokens": 9000}).action is Action.STOP_PARAMETER
    long = "'max_tokens' is too large: 400. The context length is 4096, the input 4000 tokens."
    error = parse_error(400, {"error": {"message": long}}, "")
    assert ruling_of(error, {"max_tokens": 400}).action is Action.FAIL_REQUEST


def test_the_wait_in_an_errors_body() -> None:
    for part in ({"details": [{"retryDelay": "34s"}]}, {"metadata": {"retry_after": 34}},
                 {"retry_after_seconds": "34"}):  # fmt: skip
        assert parse_error(429, {"error": {"message": "busy", **part}}, "").wait_s == 34
