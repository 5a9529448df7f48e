"""The table of faults, line by line: what each line says is what the client and the engine do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Reply, ScriptedServer

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import TeacherError
from tutelage.core.types import Example, Message, Request
from tutelage.teacher.clients.http_api import ServerTeacher
from tutelage.teacher.engine.failures import Fault, judge
from tutelage.teacher.engine.fault_kinds import Action, FaultLine, markdown
from tutelage.teacher.engine.fault_kinds import Example as Seen
from tutelage.teacher.engine.fault_table import TABLE

CASES = [(line, seen) for line in TABLE for seen in line.examples]


def asked(seen: Seen) -> Fault:
    """The fault of one request to a server that answers like this."""
    error: Any = {"message": seen.message, "code": seen.code or None}
    body: Any = {"error": error} if seen.message or seen.code else b""
    settings = {"max_tokens": 400, **seen.parameters}

    async def run(base_url: str) -> Fault:
        teacher = ServerTeacher(
            "m", TeacherSettings(model="openai:m", base_url=base_url, **settings)
        )
        request = Request(
            "m", (Message("user", "Why?"),), "s", Example("e", {}, "l"),
            parameters=teacher.settings.parameters,
        )  # fmt: skip
        async with teacher:
            with pytest.raises(Fault) as caught:
                await teacher.complete(request)
        return caught.value

    with ScriptedServer(lambda b, before: Reply(status=seen.status, body=body)) as server:
        return asyncio.run(run(server.base_url))


@pytest.mark.parametrize(("line", "seen"), CASES, ids=lambda case: str(case)[:60])
def test_each_example_is_judged_by_its_own_line(line: FaultLine, seen: Seen) -> None:
    ruling = judge(seen.status, [seen.code] if seen.code else [], seen.message, seen.parameters)
    assert ruling.line is line
    assert ruling.action is line.action
    if line.parameter:
        assert ruling.parameter in seen.parameters


@pytest.mark.parametrize(("line", "seen"), CASES, ids=lambda case: str(case)[:60])
def test_the_client_sees_it_in_a_servers_reply_and_charges_no_refusal(
    line: FaultLine, seen: Seen
) -> None:
    fault = asked(seen)
    assert fault.action is line.action
    assert fault.unpaid is (300 <= seen.status < 500)


def test_every_line_has_examples_and_a_source() -> None:
    assert len({line.name for line in TABLE}) == len(TABLE)
    for line in TABLE:
        assert line.examples, line.name
        assert line.source.startswith("https://") or line.action is Action.JUDGE, line.name
    assert {line.action for line in TABLE} == set(Action)


def test_the_documentation_shows_the_table() -> None:
    docs = Path(__file__).parents[2] / "docs" / "teacher.md"
    assert markdown(TABLE) in docs.read_text(encoding="utf-8")


# Examples that the table does not have: the same kinds, in other words.
OTHERS = [
    (400, "", "You have insufficient funds to make this request.", {}, Action.STOP_ACCOUNT),
    (403, "", "Your account has been suspended.", {}, Action.STOP_ACCOUNT),
    (400, "billing_not_active", "", {}, Action.STOP_ACCOUNT),
    (429, "", "Your credits are exhausted.", {}, Action.STOP_ACCOUNT),
    (402, "", "This request requires more credits, or fewer max_tokens.", {"max_tokens": 9},
     Action.STOP_ACCOUNT),
    (400, "", "Missing API key", {}, Action.STOP_KEY),
    (400, "", "The api key you provided is expired", {}, Action.STOP_KEY),
    (403, "", "Invalid authentication token", {}, Action.STOP_KEY),
    (403, "", "This request was flagged? The prompt was blocked.", {}, Action.KEEP_REFUSAL),
    (400, "sensitive_words_detected", "no", {}, Action.KEEP_REFUSAL),
    (451, "", "Content policy", {}, Action.KEEP_REFUSAL),
    (429, "", "You have reached your daily quota of 50 requests", {}, Action.STOP_LATER),
    (429, "", "Limit: 1000 requests a day", {}, Action.STOP_LATER),
    (429, "tokens", "Rate limit reached on tokens per min (TPM): Limit 60000", {}, Action.RETRY),
    (400, "", "Your request is too long for this model's context window", {}, Action.FAIL_REQUEST),
    (422, "", "reasoning_effort: unknown field", {"reasoning_effort": "none"},
     Action.STOP_PARAMETER),
    (400, "", "`top_p` must be between 0 and 1 exclusive", {"top_p": 1.0}, Action.STOP_PARAMETER),
    (400, "", "thinking is not supported by this model", {"thinking": {}}, Action.STOP_PARAMETER),
    (400, "", "max_completion_tokens is too large", {"max_tokens": 10**6}, Action.STOP_PARAMETER),
    (400, "", "the seed of doubt", {"seed": 1}, Action.JUDGE),
    (400, "", "temperature is not supported", {"seed": 1}, Action.JUDGE),
    (403, "", "no", {}, Action.JUDGE),
    (418, "", "teapot", {}, Action.JUDGE),
    (308, "", "", {}, Action.STOP_SERVER),
    (404, "", "model \"m\" not found", {}, Action.STOP_MODEL),
    (400, "", "Model gpt-4.1-mini does not exist", {}, Action.STOP_MODEL),
    (529, "overloaded_error", "Overloaded", {}, Action.RETRY),
    (200, "", "", {}, Action.RETRY),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "message", "parameters", "action"), OTHERS, ids=str)
def test_other_words_of_the_same_kinds(
    status: int, code: str, message: str, parameters: dict[str, Any], action: Action
) -> None:
    assert judge(status, [code] if code else [], message, parameters).action is action


def test_what_a_server_repeats_of_the_prompt_is_no_reason() -> None:
    text = "He had insufficient funds to make the payment, and his account was suspended."
    said = f"Cannot process: {text}"

    async def run(base_url: str) -> Fault:
        teacher = ServerTeacher("m", TeacherSettings(model="openai:m", base_url=base_url))
        async with teacher:
            with pytest.raises(Fault) as caught:
                await teacher.complete(
                    Request("m", (Message("user", f"Why? {text}"),), "s", Example("e", {}, "l"))
                )
        return caught.value

    reply = Reply(status=400, body={"error": {"message": said}})
    with ScriptedServer(lambda body, before: reply) as server:
        assert asyncio.run(run(server.base_url)).action is Action.JUDGE


def test_the_error_that_ends_a_run_is_one_line_for_every_action() -> None:
    async def run(base_url: str, action: Action) -> TeacherError:
        teacher = ServerTeacher("m", TeacherSettings(model="openai:m", base_url=base_url, seed=1))
        async with teacher:
            return await teacher.explain(Fault(action, "HTTP 400: so", status=400))

    with ScriptedServer() as server:
        for action in Action:
            error = asyncio.run(run(server.base_url, action))
            assert isinstance(error, TeacherError) and "\n" not in str(error)
            assert "HTTP 400: so" in str(error)
