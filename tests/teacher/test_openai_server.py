"""The test server: does it produce its faults, and are its counts right?"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from openai_server import faults
from openai_server.faults import Chaos, Reply
from openai_server.limits import Window, duration
from openai_server.options import Options
from openai_server.process import ServerProcess
from openai_server.server import Server
from openai_server.stub import Stub

PRICES = {"input_price": 400_000, "output_price": 1_600_000, "cached_price": 100_000}


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 20, **more}


def ask(base_url: str, bodies: list[dict[str, Any]], timeout_s: float = 5.0) -> list[Any]:
    """(status, headers, bytes) of each, or the type of the exception; requested concurrently."""

    async def one(session: aiohttp.ClientSession, value: dict[str, Any]) -> Any:
        try:
            async with session.post(f"{base_url}/chat/completions", json=value) as response:
                return response.status, response.headers, await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error)

    async def run() -> list[Any]:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            return await asyncio.gather(*(one(session, value) for value in bodies))

    return asyncio.run(run())


def test_an_answer_has_the_documented_shape_and_is_billed_as_its_usage_says() -> None:
    from openai.types.chat import ChatCompletion

    with Server(**PRICES, cached_share=0.25, reasoning="details") as server:
        got = [json.loads(data) for _, _, data in ask(server.base_url, [body("why? " * 9)] * 30)]
    for answer in got:
        ChatCompletion.model_validate(answer, strict=True)
        assert answer["choices"][0]["message"]["content"] == "Because of " + "why? " * 9
    spent = 0
    for usage in (answer["usage"] for answer in got):
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        spent += (usage["prompt_tokens"] - cached) * 400_000 + cached * 100_000
        spent += usage["completion_tokens"] * 1_600_000
        assert 1 <= usage["completion_tokens"] <= 20
        assert usage["completion_tokens_details"]["reasoning_tokens"] <= usage["completion_tokens"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert server.counts.billed_pico == spent
    assert len({answer["usage"]["completion_tokens"] for answer in got}) > 5
    assert server.counts.asked["why? " * 9] == server.counts.answered == 30


@pytest.mark.parametrize("text", ["", "a", "ﷺ" * 50, "x" * 999])
def test_a_prompt_never_has_more_tokens_than_bytes_plus_16_a_message_plus_32(
    text: str,
) -> None:
    for density in (1.0, 1.5, 4.0):
        with Server(bytes_per_token=density) as server:
            [(_, _, data)] = ask(server.base_url, [body(text)])
        assert json.loads(data)["usage"]["prompt_tokens"] < len(text.encode()) + 16 + 32


def test_reasoning_can_be_counted_in_the_total_alone() -> None:
    with Server(**PRICES, reasoning="total") as server:
        got = ask(server.base_url, [body("q", max_tokens=500)] * 20)
    usages = [json.loads(data)["usage"] for _, _, data in got]
    assert any(u["total_tokens"] > u["prompt_tokens"] + u["completion_tokens"] for u in usages)
    output = [u["total_tokens"] - u["prompt_tokens"] for u in usages]
    spent = sum(u["prompt_tokens"] * 400_000 for u in usages) + sum(output) * 1_600_000
    assert server.counts.billed_pico == spent


def no_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return True
    return False


# kind -> what the client sees: an exception, or a status and a test of the bytes.
SEEN: dict[str, tuple[Any, Callable[[bytes], bool] | None]] = {
    "429": (429, lambda data: json.loads(data)["error"]["code"] == "rate_limit_exceeded"),
    "429_retry_after": (429, None),
    "429_headers": (429, None),
    "500": (500, None),
    "502": (502, no_json),
    "503": (503, None),
    "stall": (asyncio.TimeoutError, None),
    "reset": (aiohttp.ServerDisconnectedError, None),
    "reset_body": (aiohttp.ClientPayloadError, None),
    "short_body": (aiohttp.ClientPayloadError, None),
    "truncated": (200, no_json),
    "invalid_json": (200, no_json),
    "html": (200, no_json),
    "empty_choices": (200, lambda data: json.loads(data)["choices"] == []),
    "twice": (200, no_json),
    "error_in_200": (200, lambda data: "error" in json.loads(data)),
    "slow": (200, lambda data: bool(json.loads(data)["choices"])),
    "length": (200, lambda data: json.loads(data)["choices"][0]["finish_reason"] == "length"),
    "content_filter": (
        200,
        lambda data: json.loads(data)["choices"][0]["finish_reason"] == "content_filter",
    ),
    "refusal": (200, lambda data: bool(json.loads(data)["choices"][0]["message"]["refusal"])),
    "refusal_text": (200, lambda data: b"I can't assist" in data),
    "no_usage": (200, lambda data: "usage" not in json.loads(data)),
    "zero_usage": (200, lambda data: json.loads(data)["usage"]["completion_tokens"] == 0),
    "reasoning_in_text": (200, lambda data: b"<think>" in data),
    "finish_error": (
        200,
        lambda data: json.loads(data)["choices"][0]["finish_reason"] == "error",
    ),
    "choice_error": (200, lambda data: "error" in json.loads(data)["choices"][0]),
    "403_moderated": (403, None),
    "422_unknown": (422, None),
    "400_account": (400, lambda data: b"credit" in data),
    "two_choices": (200, lambda data: len(json.loads(data)["choices"]) == 2),
    "context_length": (400, lambda data: b'"context_length_exceeded"' in data),
    "400_filter": (400, lambda data: b'"content_filter"' in data),
    "400": (400, None),
    "401": (401, lambda data: b'"invalid_api_key"' in data),
    "404_model": (404, lambda data: b'"model_not_found"' in data),
    "400_parameter": (400, lambda data: b'"unknown_parameter"' in data),
    "insufficient_quota": (429, lambda data: b'"insufficient_quota"' in data),
}


def test_every_fault_of_a_live_request_has_its_test() -> None:
    assert SEEN.keys() | faults.LINE.keys() == faults.KINDS.keys()


@pytest.mark.parametrize("kind", SEEN)
def test_a_client_sees_the_fault_and_only_answers_and_disconnections_are_billed(kind: str) -> None:
    expected, check = SEEN[kind]
    with Server(faults={kind: 1.0}, **PRICES, slow_s=0.05) as server:
        [got] = ask(server.base_url, [body("q")], 0.3 if kind == "stall" else 5.0)
        server.wait_idle()
    if isinstance(expected, int):
        status, headers, data = got
        assert status == expected
        assert check is None or check(data)
        assert ("Retry-After" in headers) == (kind == "429_retry_after")
        assert ("x-ratelimit-reset-requests" in headers) == (kind == "429_headers")
        assert ("html" in headers["Content-Type"]) == (kind in ("html", "502"))
    elif kind == "reset":
        assert issubclass(got, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))
    else:
        assert issubclass(got, expected)
    unbilled = isinstance(expected, int) and expected != 200 and kind != "502"
    assert (server.counts.billed_pico == 0) == (unbilled or kind == "error_in_200")
    assert server.counts.answered == (kind in faults.ODD)


def test_faults_have_their_probabilities_and_a_prompt_keeps_its_own() -> None:
    shares = faults.spread(0.3, [*faults.TRANSIENT, *faults.ROW])
    options = Options(seed=3)
    chaos = Chaos(options, shares)
    rows = [f"prompt {i}" for i in range(6000)]
    first = [chaos.draw(row, 0) for row in rows]
    faulty = sum(reply != Reply() for reply in first)
    assert abs(faulty / 6000 - 0.3) < 0.03
    assert [chaos.draw(row, 0) for row in rows] == first
    own = [r for r, reply in zip(rows, first, strict=True) if 400 <= reply.status < 429]
    assert len(own) > 50
    assert all(chaos.draw(row, 7).status < 429 for row in own)
    assert sum(chaos.draw(row, 1) != reply for row, reply in zip(rows, first, strict=True)) > 1000
    with pytest.raises(KeyError):
        Chaos(options, {"no such kind": 0.1})


def test_behave_decides_by_body_and_number_of_attempts() -> None:
    def behave(value: dict[str, Any], before: int) -> Reply | None:
        return faults.KINDS["503"](Options()) if before == 0 else None

    with Server(behave, text="fine") as server:
        statuses = [ask(server.base_url, [body("q")])[0][0] for _ in range(2)]
    assert statuses == [503, 200]
    assert server.prompts == ["q", "q"]


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        ("max_tokens", "unsupported_parameter"),
        ("temperature", "unsupported_value"),
        ("seed", "unsupported_parameter"),
    ],
)
def test_a_model_refuses_a_parameter_as_openai_documents_it(refused: str, code: str) -> None:
    given = body("q", temperature=0.2, seed=1)
    other = {"max_completion_tokens": 5, **{k: v for k, v in given.items() if k != refused}}
    with Server(refuses=(refused,)) as server:
        [(status, _, data), (again, _, _)] = ask(server.base_url, [given, other])
    error = json.loads(data)["error"]
    assert (status, again) == (400, 200)
    assert (error["type"], error["code"], error["param"]) == (
        "invalid_request_error",
        code,
        refused,
    )


def test_structured_output_follows_the_schema_where_the_model_supports_one() -> None:
    who = {"type": "string"}
    schema = {"type": "object", "properties": {"who": who, "why": who}, "required": ["who", "why"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "five", "schema": schema}}
    with Server() as server:
        [(_, _, data)] = ask(server.base_url, [body("q", response_format=wanted)])
        server.change(refuses=("response_format",))
        [(status, _, refusal)] = ask(server.base_url, [body("q", response_format=wanted)])
    answer = json.loads(json.loads(data)["choices"][0]["message"]["content"])
    assert answer.keys() == {"who", "why"}
    assert (status, json.loads(refusal)["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.012, "12ms"), (1, "1s"), (6.5, "6.5s"), (360, "6m0s"), (3600, "1h0m0s"), (0, "0ms")],
)
def test_times_are_shown_as_in_openais_headers(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_window_never_admits_more_than_its_limit() -> None:
    draw = random.Random(1)
    window, now, taken = Window(10, 1.0), 0.0, []
    for _ in range(3000):
        now += draw.random() * 0.2
        amount = draw.randint(1, 4)
        wait = window.wait(amount, now)
        if wait:
            assert window.wait(amount, now + wait * 0.99) > 0
            now += wait + 1e-9
            assert window.wait(amount, now) == 0
        window.take(amount, now)
        taken.append((now, amount))
    for start, _ in taken:
        assert sum(a for t, a in taken if start <= t < start + 1.0 - 1e-6) <= 10


def test_too_many_requests_are_refused_and_counted_with_a_retry_after() -> None:
    limits = {"requests_per_window": 5, "window_s": 0.4, "rate_headers": True}
    with Server(**limits) as server:
        got = ask(server.base_url, [body(f"q{i}") for i in range(8)])
        refused = [headers for status, headers, _ in got if status == 429]
        assert len(refused) == server.counts.rate_violations == 3
        wait = max(float(headers["Retry-After"]) for headers in refused)
        assert 0 < wait <= 0.4
        served = [headers for status, headers, _ in got if status == 200]
        assert {headers["x-ratelimit-limit-requests"] for headers in served} == {"750"}
        assert min(int(h["x-ratelimit-remaining-requests"]) for h in served) == 0
        time.sleep(wait + 0.01)
        assert ask(server.base_url, [body("q0")])[0][0] == 200
        server.change(tokens_per_window=30, requests_per_window=None)
        statuses = [ask(server.base_url, [body("q")])[0][0] for _ in range(2)]
    assert statuses == [200, 429]


def test_a_retry_before_its_retry_after_is_counted() -> None:
    with Server(faults={"429_retry_after": 1.0}, retry_after_s=0.2) as server:
        ask(server.base_url, [body("a")])
        ask(server.base_url, [body("a")])
        assert server.counts.retried_early == 1
        time.sleep(0.21)
        ask(server.base_url, [body("a")])
    assert server.counts.retried_early == 1


CLIENT = """
import json, sys, http.client
host = sys.argv[1].removeprefix("http://").removesuffix("/v1")
body = {"model": "m", "messages": [{"role": "user", "content": "killed"}], "max_tokens": 9}
connection = http.client.HTTPConnection(host)
connection.request("POST", "/v1/chat/completions", json.dumps(body))
print("sent", flush=True)
connection.getresponse()
"""


def test_a_server_process_survives_a_killed_client_and_bills_its_request() -> None:
    with ServerProcess(delay_s=0.3, **PRICES) as server:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, server.base_url], stdout=subprocess.PIPE, text=True
        )
        assert client.stdout is not None
        assert client.stdout.readline() == "sent\n"
        while server.stats()["in_flight"] == 0:
            time.sleep(0.01)
        client.send_signal(signal.SIGKILL)
        client.wait()
        client.stdout.close()
        while server.stats()["in_flight"]:
            time.sleep(0.02)
        assert server.stats(prompts=True)["asked"] == {"killed": 1}
        server.change(delay_s=0.0)
        assert ask(server.base_url, [body("next")])[0][0] == 200
    assert server.final["requests"] == 2
    assert (server.final["answered"], server.final["abandoned"]) == (1, 1)
    assert server.final["billed_requests"] == 2
    assert server.final["billed_pico"] > 0


def test_the_stub_answers_late_keeps_connections_and_counts() -> None:
    from openai.types.chat import ChatCompletion

    with Stub(delay_s=0.05) as stub:
        started = time.monotonic()
        got = ask(stub.base_url, [body(f"q{i}" + "x" * i * 40) for i in range(200)])
        took = time.monotonic() - started
    assert took > 0.05
    assert {status for status, _, _ in got} == {200}
    ChatCompletion.model_validate(json.loads(got[0][2]), strict=True)
    assert (stub.requests, stub.answered, stub.in_flight) == (200, 200, 0)
    assert stub.most_in_flight > 20


def test_the_stub_accepts_requests_in_pieces_and_lists_its_model() -> None:
    async def talk(port: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = b'POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 6\r\n\r\n{"a":1GET /stats'
        for at in range(0, len(data), 7):
            writer.write(data[at : at + 7])
            await asyncio.sleep(0.001)
        first = await reader.readuntil(b'"total_tokens": 30}}')
        writer.write(b" HTTP/1.1\r\nHost: h\r\n\r\nGET /v1/models HTTP/1.1\r\n\r\n")
        counts = await reader.readuntil(b"}")
        models = await reader.readuntil(b"]}")
        writer.close()
        return [first, counts, models]

    with Stub(delay_s=0.01) as stub:
        port = int(stub.base_url.removesuffix("/v1").rsplit(":", 1)[1])
        first, counts, models = asyncio.run(asyncio.wait_for(talk(port), 5))
    assert first.startswith(b"HTTP/1.1 200 OK")
    assert b'"requests": 1' in counts
    assert b'"id": "m"' in models
