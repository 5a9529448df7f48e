import asyncio
import dataclasses
import time

import pytest
from scripted_server import Reply, ScriptedServer, error

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import (
    AuthenticationError,
    ModelNotServedError,
    ServerUnreachableError,
    TeacherError,
    UsageError,
)
from tutelage.core.task import NLI
from tutelage.core.types import Completion, Example, Message, Request, Usage
from tutelage.strategies.lookup import get_strategy
from tutelage.teacher.clients.http_api import ServerTeacher, normalise_url
from tutelage.teacher.clients.wire import request_body
from tutelage.teacher.cost.budget import Budget
from tutelage.teacher.cost.prices import request_bound
from tutelage.teacher.engine.engine import Engine
from tutelage.teacher.engine.failures import FaultKind, RetryPolicy
from tutelage.teacher.engine.rate_limits import FailureMonitor, RateLimiter, RateLimits
from tutelage.teacher.engine.requests import PendingRequest, RequestBuilder
from tutelage.teacher.ledger.charges import Session
from tutelage.teacher.ledger.store import Ledger, request_key
from tutelage.teacher.registry import open_teacher
from tutelage.teacher.teacher import RequestFailedError

QUICK = RetryPolicy(
    dict.fromkeys(FaultKind, 4), first_attempts=4, base_s=0.01, cap_s=0.02, max_retry_after_s=0.5
)
KEY = "sk-very-secret-000111"


def settings(base_url, **more):
    return TeacherSettings(model="openai:m", base_url=base_url, **more)


class Result:
    """A listener that keeps the result of one request."""

    completion = failure = None

    def cached(self, key, completion):
        raise AssertionError("the ledger is new")

    def answered(self, key, completion):
        self.completion = completion

    def failed(self, key, failure, *, sent):
        self.failure = failure


def ask(base_url, text="Why?", policy=QUICK, **more):
    """One request to a server, made by the engine."""
    teacher = ServerTeacher("m", settings(base_url, **more))
    request = Request(
        "m",
        (Message("user", text),),
        "s",
        Example("e", {}, "l"),
        parameters=teacher.settings.parameters,
    )
    result = Result()

    async def run():
        with Ledger(":memory:") as ledger, Session(ledger) as session:
            engine = Engine(
                teacher, session, Budget("test", None, None),
                RateLimiter(RateLimits(max_pause_s=0.5)), result,
                monitor=FailureMonitor(proven=True, max_failed=None), policy=policy,
            )  # fmt: skip
            await engine.run([PendingRequest(request_key("x", request), request)])

    asyncio.run(run())
    if result.failure is not None:
        raise RequestFailedError(result.failure.detail, transient=result.failure.transient)
    return result.completion


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_an_answer_with_its_usage():
    with ScriptedServer(lambda body, before: Reply("so", finish_reason="length")) as server:
        assert ask(server.base_url) == Completion("so", "length", Usage(7, 3), served="m")


def test_only_parameters_that_are_set_are_sent(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with ScriptedServer() as server:
        ask(server.base_url)
        ask(server.base_url, temperature=0.0, seed=0, max_tokens=9, top_p=0.5, api_key_env="MY_KEY")
    message = [{"role": "user", "content": "Why?"}]
    assert server.bodies[0] == {"model": "m", "messages": message}
    assert server.bodies[1] == {
        "model": "m", "messages": message, "temperature": 0.0, "seed": 0, "max_tokens": 9,
        "top_p": 0.5,
    }  # fmt: skip
    assert "Authorization" not in server.headers[0]
    assert server.headers[1]["Authorization"] == f"Bearer {KEY}"


GOOD = Reply("so")


@pytest.mark.parametrize(
    "fault",
    [
        error(429, "slow down"),
        error(500, "oops"),
        error(502, "oops"),
        error(408, "late"),
        error(409, "busy"),
        Reply(reset=True),
        Reply(body=b"<html>", status=200),
        Reply(body=b"<html>busy</html>", status=503),
        Reply(body={"choices": []}),
        Reply(body={"choices": [{"message": None}]}),
        Reply(body={"error": {"message": "upstream", "code": 502}}),
        Reply(delay_s=1.0),
    ],
    ids=str,
)
def test_transient_faults_are_retried(fault):
    with ScriptedServer(lambda body, before: fault if before < 2 else GOOD) as server:
        assert ask(server.base_url, timeout_s=0.3).text == "so"
    assert server.requests == 3


def test_a_request_that_keeps_failing_fails_after_its_attempts():
    with (
        ScriptedServer(lambda body, before: error(500, "oops")) as server,
        pytest.raises(RequestFailedError, match=r"HTTP 500: oops \(4 attempts\)") as caught,
    ):
        ask(server.base_url)
    assert caught.value.transient and server.requests == 4


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "0.3"}, 0.3, 0.6),
        ({"retry-after-ms": "300"}, 0.3, 0.6),
        ({"Retry-After": "soon"}, 0.0, 0.25),
    ],
)
def test_retry_after_is_honoured(headers, least, most):
    fault = dataclasses.replace(error(429, "slow down"), headers=headers)
    times = []

    def behave(body, before):
        times.append(time.monotonic())
        return GOOD if before else fault

    with ScriptedServer(behave) as server:
        ask(server.base_url)
    assert least <= times[1] - times[0] < most


def test_a_longer_retry_after_ends_the_run():
    fault = dataclasses.replace(error(429, "slow down"), headers={"Retry-After": "3600"})
    with (
        ScriptedServer(lambda body, before: fault) as server,
        pytest.raises(TeacherError, match=r"come back at .*, in 1 h 0 min"),
    ):
        ask(server.base_url)
    assert server.requests == 1


def test_a_request_that_the_server_refuses_is_not_retried():
    with (
        ScriptedServer(lambda body, before: error(400, "too long\nby far")) as server,
        pytest.raises(RequestFailedError, match="HTTP 400: too long by far") as caught,
    ):
        ask(server.base_url)
    assert not caught.value.transient and server.requests == 1


def test_a_content_filter_is_a_refusal():
    with ScriptedServer(lambda body, before: error(400, "no", "content_filter")) as server:
        assert ask(server.base_url).finish_reason == "content_filter"
    refusal = {"choices": [{"message": {"content": None, "refusal": "No."}}]}
    with ScriptedServer(lambda body, before: Reply(body=refusal)) as server:
        assert ask(server.base_url) == Completion("No.", "content_filter")


@pytest.mark.parametrize(
    "fault",
    [
        error(404, "The model `m` does not exist", "model_not_found"),
        error(404, "The model `m` has been deprecated"),
        error(400, "gone", "model_decommissioned"),
        error(400, "The model m was retired last year."),
        error(410, "gone"),
        Reply(status=404, body=b"404 page not found"),
    ],
    ids=str,
)
def test_the_error_for_a_model_that_is_not_served_lists_those_that_are(fault):
    served = ("m-2", "other", "/home/somebody/models/tiny.gguf")
    with (
        ScriptedServer(lambda body, before: fault, models=served) as server,
        pytest.raises(ModelNotServedError) as caught,
    ):
        ask(server.base_url)
    message = str(caught.value)
    assert "'m'" in message and "m-2, other" in message and "\n" not in message
    assert "tiny.gguf" in message and "somebody" not in message
    assert server.requests == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_names_its_variable_and_never_itself(status, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with (
        ScriptedServer(lambda body, before: error(status, f"bad key {KEY}")) as server,
        pytest.raises(AuthenticationError, match="refuses the key in MY_KEY") as caught,
    ):
        ask(server.base_url, api_key_env="MY_KEY")
    assert KEY not in str(caught.value) and KEY not in repr(caught.value.__cause__)
    assert server.requests == 1


def test_a_server_that_requires_a_key_is_reported():
    with (
        ScriptedServer(lambda body, before: error(401, "who are you")) as server,
        pytest.raises(AuthenticationError, match=r"requires a key.*OPENAI_API_KEY"),
    ):
        ask(server.base_url)


def test_a_missing_key_for_the_default_address_stops_before_anything_is_sent(monkeypatch):
    async def never(*_, **__):
        raise AssertionError("something was sent")

    monkeypatch.setattr("aiohttp.ClientSession._request", never)
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
        ask(None)


def test_a_key_that_an_answer_repeats_is_removed(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ScriptedServer(lambda body, before: Reply(f"your key is {KEY}")) as server:
        assert ask(server.base_url).text == "your key is [key]"


def test_an_empty_account_stops_the_run_at_once():
    fault = error(429, "You exceeded your current quota", "insufficient_quota")
    with (
        ScriptedServer(lambda body, before: fault) as server,
        pytest.raises(TeacherError, match="quota") as caught,
    ):
        ask(server.base_url)
    assert not isinstance(caught.value, RequestFailedError) and server.requests == 1


def test_a_server_that_is_down_is_named(unused_address):
    with pytest.raises(ServerUnreachableError, match="cannot connect") as caught:
        ask(unused_address)
    assert unused_address in str(caught.value)


@pytest.fixture
def unused_address():
    with ScriptedServer() as server:
        return server.base_url


def test_a_server_that_only_disconnects_is_unreachable():
    with (
        ScriptedServer(lambda body, before: Reply(reset=True)) as server,
        pytest.raises(ServerUnreachableError, match="connection broke"),
    ):
        ask(server.base_url)
    assert server.requests == 4


@pytest.mark.parametrize("name", ["temperature", "seed"])
def test_an_unsupported_parameter_stops_the_run_in_one_line(name):
    fault = error(400, f"'{name}' does not support 0.2 with this model", "unsupported_value")
    with (
        ScriptedServer(lambda body, before: fault) as server,
        pytest.raises(TeacherError, match=rf"does not support a parameter.*teacher\.{name}"),
    ):
        ask(server.base_url, **{name: 1})
    assert server.requests == 1


def test_a_model_that_requires_the_newer_name_of_max_tokens_gets_it():
    def behave(body, before):
        if "max_tokens" in body:
            return error(400, "Use 'max_completion_tokens' instead.", "unsupported_parameter")
        return Reply(str(body["max_completion_tokens"]))

    with ScriptedServer(behave) as server:
        assert ask(server.base_url, max_tokens=9).text == "9"


def test_a_key_does_not_follow_a_redirect(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ScriptedServer() as elsewhere:
        away = Reply(
            status=307, body=b"", headers={"Location": f"{elsewhere.base_url}/chat/completions"}
        )
        with (
            ScriptedServer(lambda body, before: away) as server,
            pytest.raises(ServerUnreachableError, match="HTTP 307: a redirect to"),
        ):
            ask(server.base_url)
    assert elsewhere.requests == 0


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("HTTP://LocalHost:8000/v1/", "http://localhost:8000/v1"),
        ("https://user:pw@host.example:443/v1?key=1", "https://host.example/v1"),
        ("http://[::1]:80/v1", "http://[::1]/v1"),
    ],
)
def test_addresses_are_shown_without_secrets_and_in_one_form(url, shown):
    assert normalise_url(url) == shown
    assert ServerTeacher("m", settings(url)).identity == shown
    assert ServerTeacher("m", settings(url, provider="us")).identity == "us"


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://x/v1", "http://", "http://h:port/"])
def test_an_invalid_address_is_refused(url):
    with pytest.raises(UsageError, match="base_url"):
        open_teacher(settings(url))


def test_a_schema_is_sent_with_structured_answers_if_the_strategy_has_one():
    example = Example("e", {"premise": "p", "hypothesis": "h"}, "neutral")
    for structured, name, expected in (
        (True, "information_extraction", True),
        (True, "informed_reasoning", False),
        (False, "information_extraction", False),
    ):
        teacher = ServerTeacher("m", settings("http://127.0.0.1:1/v1", structured=structured))
        request = RequestBuilder(get_strategy(name), NLI, teacher).request(example)
        assert ("response_format" in request.parameters) is expected
        plain = dataclasses.replace(request, parameters={})
        assert (request_key("x", request) != request_key("x", plain)) is expected
        assert (request_bound(request) > request_bound(plain)) is expected
        assert request_body(request).get("response_format", {}).get("type") == (
            "json_schema" if expected else None
        )
