"""Whatever the server does: no answer that is none, no cent that was not meant, no row lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Reply, ScriptedServer, error, prompt
from small_rows import rows

from tutelage.config.teacher_settings import PriceOverride, TeacherSettings
from tutelage.core.errors import (
    AuthenticationError,
    BudgetError,
    ModelNotServedError,
    RunFolderError,
    ServerUnreachableError,
    TeacherError,
    UsageError,
)
from tutelage.core.rationale_file import read_rationales
from tutelage.core.task import NLI
from tutelage.core.types import Completion, Example, Rationale
from tutelage.strategies.finish_reasons import standard_reason
from tutelage.strategies.lookup import get_strategy
from tutelage.strategies.reasoning import separate
from tutelage.teacher.annotate import Annotation, Options, annotate, annotate_to_file
from tutelage.teacher.clients.error_replies import parse_error
from tutelage.teacher.clients.http_api import ServerTeacher
from tutelage.teacher.clients.values import parse_json
from tutelage.teacher.clients.wire import parse_completion
from tutelage.teacher.engine.failures import FaultKind, RetryPolicy, parse_retry_after
from tutelage.teacher.engine.requests import RequestBuilder
from tutelage.teacher.hopeless import MOST
from tutelage.teacher.ledger.charges import charged, lost
from tutelage.teacher.ledger.store import Ledger

QUICK = RetryPolicy(dict.fromkeys(FaultKind, 3), first_attempts=3, base_s=0.01, cap_s=0.02)
PRICE = PriceOverride(input=1, output=4)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def number_of(body: dict[str, Any]) -> int:
    """The number of the row that a request is about."""
    return int(prompt(body).split("Premise ")[1].split(".")[0])


def ask(server: ScriptedServer, ledger: Ledger, examples: list[Example], **more: Any) -> Annotation:
    options = {
        name: more.pop(name) for name in ("on_note", "policy", "retry_failed") if name in more
    }
    strategy = more.pop("strategy", "informed_reasoning")
    values = {"concurrency": 4, "base_url": server.base_url, "provider": "test", **more}
    return annotate(
        examples,
        strategy=strategy,
        teacher=TeacherSettings(model="openai:m", **values),
        task=NLI,
        ledger=ledger,
        options=Options(**{"budget_name": "run", "policy": QUICK, **options}),
    )


def message(content: Any, reason: str | None = "stop", **more: Any) -> Reply:
    """An answer with this content. more: further fields of the message"""
    choice = {"message": {"role": "assistant", "content": content, **more}, "finish_reason": reason}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return Reply(body={"model": "m-1", "choices": [choice], "usage": usage}, billed=True)


def one(reply: Reply, ledger: Ledger, **more: Any) -> Rationale:
    with ScriptedServer(lambda body, before: reply) as server:
        return ask(server, ledger, rows(1), **more).rationales[0]


# Reasoning is no rationale.

ANSWER = "It is so because of the rain."
SHOWN = {
    "tags": f"<think>\nPerhaps.\n</think>\n\n{ANSWER}",
    "other tags": f"<thinking>Perhaps.</thinking>{ANSWER}",
    "a closing tag alone": f"Perhaps.\n</think>\n\n{ANSWER}",
    "square brackets": f"[THINK]Perhaps.[/THINK]{ANSWER}",
    "a prefix": f"<seed:think>Perhaps.</seed:think>{ANSWER}",
    "attributes": f'<reasoning effort="low">Perhaps.</reasoning>{ANSWER}',
    "triangles": f"◁think▷Perhaps.◁/think▷{ANSWER}",
    "special tokens": f"<|START_THINKING|>Perhaps.<|END_THINKING|><|START_RESPONSE|>{ANSWER}"
    "<|END_RESPONSE|>",
    "begin of thought": f"<|begin_of_thought|>Perhaps.<|end_of_thought|>"
    f"<|begin_of_solution|>{ANSWER}<|end_of_solution|>",
    "channels": "<|channel|>analysis<|message|>Perhaps.<|end|><|start|>assistant<|channel|>final"
    f"<|message|>{ANSWER}<|return|>",
    "bare channels": f"analysisPerhaps. We need one sentence.assistantfinal{ANSWER}",
    "headings": f"## Thinking\n\nPerhaps.\n\n## Final Response\n\n{ANSWER}",
    "in words": f"Here is my thought process: Perhaps.\nHere is my response: {ANSWER}",
    "twice": f"<think>Perhaps.</think><think>Or not.</think>{ANSWER}",
    "its own tag in it": f"<think>I use <think> for this. Perhaps.</think>{ANSWER}",
    "an answer's tags": f"<think>Perhaps.</think>\n<answer>\n{ANSWER}\n</answer>",
    "escaped": f"&lt;think&gt;Perhaps.&lt;/think&gt;{ANSWER}",
    "one pipe": f"<|channel>thought\nPerhaps.<channel|>{ANSWER}",
    "a constrained channel": "<|channel|>analysis<|message|>Perhaps.<|end|><|start|>assistant"
    f"<|channel|>final <|constrain|>json<|message|>{ANSWER}",
    "a box": f"<think>Perhaps.</think><|begin_of_box|>{ANSWER}<|end_of_box|>",
    "a prefix of one's own": f"<longcat_think>Perhaps.</longcat_think>{ANSWER}",
    "camel case": f"<antThinking>Perhaps.</antThinking>{ANSWER}",
    "prefix and suffix": f"<|inner_prefix|>Perhaps.<|inner_suffix|>{ANSWER}",
    "final response": "Here are my reasoning steps:\nPerhaps.\n[BEGIN FINAL RESPONSE]\n"
    f"{ANSWER}\n[END FINAL RESPONSE]",
    "only the answer's delimiter": f"<think>Perhaps.\n<answer>{ANSWER}</answer>",
    "an answer's special token": f"<|think|>Perhaps.<|end|><|begin|>assistant<|content|>{ANSWER}"
    "<|end|>",
    "a summary": f"<details><summary>Thinking</summary>Perhaps.</details>\n{ANSWER}",
    "spaces": f"< think >Perhaps.< / think >{ANSWER}",
    "full width": f"＜think＞Perhaps.＜/think＞{ANSWER}",
    "Chinese": f"<思考>Perhaps.</思考>{ANSWER}",
    "wide bars": f"<｜think｜>Perhaps.<｜/think｜>{ANSWER}",
}


@pytest.mark.parametrize("how", SHOWN)
def test_the_answer_alone_is_the_rationale_and_the_reasoning_is_kept_apart(
    how: str, ledger: Ledger
) -> None:
    rationale = one(Reply(SHOWN[how]), ledger)
    assert (rationale.status, rationale.text) == ("ok", ANSWER)
    assert "Perhaps." in rationale.reasoning


@pytest.mark.parametrize(
    "text",
    [
        "<think>Perhaps",
        "<|channel|>analysis<|message|>Perhaps",
        "analysisPerhaps we",
        "[THINK]Perhaps",
        "## Thinking\nPerhaps",
        "<think>Perhaps <think>",
    ],
)
def test_reasoning_that_does_not_end_was_cut(text: str, ledger: Ledger) -> None:
    rationale = one(Reply(text), ledger)
    assert (rationale.status, rationale.text) == ("truncated", "")
    assert "Perhaps" in rationale.reasoning and "reasoning" in rationale.detail


@pytest.mark.parametrize(
    "text",
    [
        "Analysis of the text shows that it rained.",
        "[Analysis] It rained.",
        "I think that it rained, so a < b and b > c.",
        "The tag <b>rain</b> says so.",
        "He said <s>no</s> yes.",
        "The output <output> is a tag.",
        "Reasoning: it rained.",
    ],
)
def test_an_answer_without_a_mark_up_is_unchanged(text: str, ledger: Ledger) -> None:
    assert separate(text).answer == text
    assert one(Reply(text), ledger).text == text


PARTS = {
    "parts": message([{"type": "thinking", "thinking": "Perhaps."},
                      {"type": "text", "text": ANSWER}]),
    "parts of parts": message([{"type": "thinking", "thinking": [{"type": "text",
                               "text": "Perhaps."}]}, {"type": "text", "text": ANSWER}]),
    "a part of type reasoning": message([{"type": "reasoning", "text": "Perhaps."},
                                         {"type": "output_text", "text": ANSWER}]),
    "reasoning_content": message(ANSWER, reasoning_content="Perhaps."),
    "reasoning": message(ANSWER, reasoning="Perhaps."),
    "reasoning_details": message(ANSWER, reasoning_details=[{"type": "x", "text": "Perhaps."}]),
}  # fmt: skip


@pytest.mark.parametrize("how", PARTS)
def test_reasoning_in_parts_and_fields_is_kept_apart(how: str, ledger: Ledger) -> None:
    rationale = one(PARTS[how], ledger)
    assert (rationale.text, rationale.reasoning, rationale.status) == (ANSWER, "Perhaps.", "ok")


@pytest.mark.parametrize(
    "text",
    [
        f"{ANSWER}<|im_end|>",
        f"{ANSWER}</s>",
        f"{ANSWER}<|eot_id|><|start_header_id|>user<|end_header_id|>And then?",
        f"{ANSWER}<end_of_turn>\n<start_of_turn>user\nAnd then?",
        f"{ANSWER}<｜end▁of▁sentence｜>",
        f"<response>{ANSWER}</response>",
    ],
)
def test_the_tokens_of_a_chat_template_are_no_part_of_an_answer(text: str) -> None:
    assert separate(text).answer == ANSWER and separate(text).reasoning == ""


def test_reasoning_alone_is_an_empty_answer(ledger: Ledger) -> None:
    rationale = one(message(None, reasoning_content="Perhaps."), ledger)
    assert (rationale.status, rationale.text) == ("empty", "")
    assert rationale.detail == "only reasoning, and no answer"


def test_the_five_questions_are_answered_by_the_answer_and_not_by_its_draft(
    ledger: Ledger,
) -> None:
    draft = "<think>Who: nobody\nWhat: a draft</think>\nWho: Ada\nWhat: a mill"
    rationale = one(Reply(draft), ledger, strategy="information_extraction")
    assert rationale.text == "Who: Ada What: a mill"


def test_a_mark_up_of_ones_own_parses_answers_that_were_paid_for_again(ledger: Ledger) -> None:
    with ScriptedServer(lambda body, before: Reply(f"((plan))Perhaps.((/plan)){ANSWER}")) as server:
        plain = ask(server, ledger, rows(1)).rationales[0]
        assert "((plan))" in plain.text
        own = ask(server, ledger, rows(1), reasoning_markup=["((plan))", "((/plan))"])
        assert server.requests == 1
    assert (own.rationales[0].text, own.rationales[0].reasoning) == (ANSWER, "Perhaps.")


def test_nothing_is_separated_where_the_recipe_says_so(ledger: Ledger) -> None:
    text = f"<reasoning>{ANSWER}</reasoning>"
    assert one(Reply(text), ledger, reasoning_markup="none").text == text


def test_answers_of_an_older_ledger_are_separated_too(ledger: Ledger) -> None:
    teacher = TeacherSettings(model="openai:m", base_url="http://127.0.0.1:9/v1", provider="test")
    builder = RequestBuilder(get_strategy("informed_reasoning"), NLI, ServerTeacher("m", teacher))
    key, request = builder.pending(rows(1)[0])
    ledger.put(key, request, Completion(f"<think>x</think>{ANSWER}", "MAX_TOKENS"))
    done = annotate(
        rows(1), strategy="informed_reasoning", teacher=teacher, task=NLI, ledger=ledger
    )
    assert (done.rationales[0].text, done.rationales[0].status) == (ANSWER, "truncated")


def test_a_file_of_rationales_keeps_the_reasoning(ledger: Ledger, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with ScriptedServer(lambda body, before: Reply(SHOWN["tags"])) as server:
        annotate_to_file(
            lambda: rows(2), output, strategy="informed_reasoning", task=NLI, ledger=ledger,
            teacher=TeacherSettings(model="openai:m", base_url=server.base_url),
        )  # fmt: skip
    assert {r.reasoning for r in read_rationales(output)} == {"Perhaps."}


# Why it stopped.

REASONS = {
    "truncated": ["length", "MAX_TOKENS", "max_tokens", "model_length", "MODEL_LENGTH",
                  "FINISH_REASON_MAX_TOKENS", "model_context_window_exceeded", "token_limit"],
    "refused": ["content_filter", "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII",
                "refusal", "sensitive", "guardrail_intervened", "ERROR_TOXIC", "contentFilter"],
    "ok": ["stop", "STOP", "end_turn", "eos", "eos_token", "stop_sequence", "COMPLETE", "endoftext",
           None],
}  # fmt: skip


@pytest.mark.parametrize(("status", "reason"), [(s, r) for s, found in REASONS.items()
                                                for r in found])  # fmt: skip
def test_finish_reasons_in_any_spelling(status: str, reason: str | None, ledger: Ledger) -> None:
    assert one(message(ANSWER, reason), ledger).status == status


def test_an_unknown_reason_is_not_a_regular_end(ledger: Ledger) -> None:
    rationale = one(message(ANSWER, "OTHER"), ledger)
    assert rationale.status == "truncated" and "other" in rationale.detail
    assert standard_reason("OTHER") == "other"


@pytest.mark.parametrize(
    "fault",
    [
        message(ANSWER, "error"),
        message(ANSWER, "network_error"),
        message(ANSWER, "insufficient_system_resource"),
        Reply(body={"choices": [{"message": {"content": "It is"}, "finish_reason": "stop",
                                 "error": {"code": 502, "message": "upstream"}}]}),
        Reply(body={"choices": [{"message": {"content": "It"}, "error": {"message": "gone"}}]}),
    ],
    ids=str,
)  # fmt: skip
def test_an_error_inside_a_choice_is_transient(fault: Reply, ledger: Ledger) -> None:
    with ScriptedServer(lambda body, before: fault if before == 0 else Reply(ANSWER)) as server:
        done = ask(server, ledger, rows(3))
    assert [r.text for r in done.rationales] == [ANSWER] * 3 and server.requests == 6


def test_another_model_is_kept_with_the_answer_and_a_change_is_reported(ledger: Ledger) -> None:
    def behave(body: dict[str, Any], before: int) -> Reply:
        reply = message(ANSWER)
        return Reply(body={**reply.body, "model": "m-2" if number_of(body) >= 3 else "m-1"})

    notes: list[str] = []
    with ScriptedServer(behave) as server:
        ask(server, ledger, rows(6), concurrency=1, on_note=notes.append)
    assert [note for note in notes if "'m-2'" in note and "'m-1'" in note] == notes != []
    with ledger.reader() as connection:
        served = connection.execute("SELECT served FROM answers ORDER BY id").fetchall()
    assert [name for (name,) in served] == ["m-1"] * 3 + ["m-2"] * 3


# Costs.


def usage(**counts: Any) -> Reply:
    reply = message(ANSWER)
    return Reply(body={**reply.body, "usage": counts})


@pytest.mark.parametrize(
    "counts",
    [
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": 7, "completion_tokens": 0},
        {"prompt_tokens": 0, "completion_tokens": 3},
        {"prompt_tokens": -7, "completion_tokens": 3},
        {"prompt_tokens": 10**30, "completion_tokens": 3},
        {"prompt_tokens": "many", "completion_tokens": None},
        {"prompt_tokens": float("1e300"), "completion_tokens": 3},
        {},
    ],
    ids=str,
)
def test_usage_that_makes_no_sense_is_charged_at_the_worst_case(
    counts: dict[str, Any], ledger: Ledger
) -> None:
    with ScriptedServer(lambda body, before: usage(**counts)) as server:
        with pytest.raises(BudgetError):
            ask(server, ledger, rows(100), budget_usd=0.003, price=PRICE, max_tokens=50)
        assert 3 <= server.requests < 15
        assert charged(ledger, "run") <= 0.003 * 1e12
        assert charged(ledger, "run") >= server.requests * 50 * 4 * 10**6


def test_an_empty_answer_of_zero_tokens_is_not_a_worst_case(ledger: Ledger) -> None:
    reply = message("")
    counts = {"prompt_tokens": 7, "completion_tokens": 0}
    one(Reply(body={**reply.body, "usage": counts}), ledger, price=PRICE, max_tokens=50)
    assert charged(ledger, "run") == 7 * 10**6


def test_the_cost_that_a_server_names_is_charged(ledger: Ledger) -> None:
    one(usage(prompt_tokens=7, completion_tokens=3, cost=0.00012), ledger, price=PRICE,
        max_tokens=50)  # fmt: skip
    assert charged(ledger, "run") == 120_000_000
    with ScriptedServer(
        lambda body, before: usage(prompt_tokens=7, completion_tokens=3, cost=0)
    ) as s:
        ask(s, ledger, rows(1, start=5), price=PRICE, max_tokens=50)
    assert charged(ledger, "run") == 120_000_000 + (7 + 12) * 10**6


ACCOUNT = [
    (400, {"message": "Your credit balance is too low to access the API.", "type": "invalid"}),
    (400, {"message": "Access denied, please make sure your account is in good standing.",
           "code": "Arrearage"}),
    (403, {"message": "Your balance is insufficient, please top up."}),
    (400, {"message": "Out of credits"}),
]  # fmt: skip


@pytest.mark.parametrize(("status", "said"), ACCOUNT, ids=str)
def test_an_empty_account_said_as_400_stops_the_run_and_holds_nothing_against_the_rows(
    status: int, said: dict[str, Any], ledger: Ledger
) -> None:
    paid = 10

    def behave(body: dict[str, Any], before: int) -> Reply:
        return message(ANSWER) if server.requests <= paid else Reply(
            status=status, body={"error": said}
        )  # fmt: skip

    with ScriptedServer(behave) as server:
        with pytest.raises(TeacherError, match="answers no more requests") as stop:
            ask(server, ledger, rows(60))
        assert "\n" not in str(stop.value) and server.requests <= paid + 4
        paid = 10**6
        done = ask(server, ledger, rows(60))
    assert done.counts["ok"] == 60 and done.counts["failed"] == 0


@pytest.mark.parametrize("worked_before", [False, True])
@pytest.mark.parametrize("status", [400, 403, 404, 418, 422])
def test_equal_refusals_that_nobody_knows_stop_the_run_and_hold_nothing_against_the_rows(
    status: int, worked_before: bool, ledger: Ledger
) -> None:
    fine = worked_before

    def behave(body: dict[str, Any], before: int) -> Reply:
        if fine and (number_of(body) < 8 or repaired):
            return message(ANSWER)
        return error(status, f"Nope: {number_of(body)} zorks")

    repaired = False
    with ScriptedServer(behave) as server:
        with pytest.raises(TeacherError, match="Nope") as stop:
            ask(server, ledger, rows(100))
        assert "\n" not in str(stop.value)
        assert server.requests <= (8 + 20 if worked_before else 5) + 4
        fine = repaired = True
        done = ask(server, ledger, rows(100))
    assert done.counts["ok"] == 100


@pytest.mark.parametrize("status", [400, 403, 404, 418, 422])
def test_a_refusal_of_one_row_fails_that_row_alone(status: int, ledger: Ledger) -> None:
    def behave(body: dict[str, Any], before: int) -> Reply:
        return error(status, "Nope") if number_of(body) == 7 else message(ANSWER)

    with ScriptedServer(behave) as server:
        done = ask(server, ledger, rows(40))
        assert [r.status for r in done.rationales].index("failed") == 7
        assert done.counts["ok"] == 39
        again = ask(server, ledger, rows(40))
        assert again.counts["ok"] == 39 and server.requests == 40  # remembered


def test_a_refusal_of_the_last_row_is_requested_again_by_the_next_call(ledger: Ledger) -> None:
    refuse = True

    def behave(body: dict[str, Any], before: int) -> Reply:
        return error(400, "Nope") if number_of(body) == 9 and refuse else message(ANSWER)

    with ScriptedServer(behave) as server:
        done = ask(server, ledger, rows(10), concurrency=1)
        assert (done.counts["ok"], done.counts["failed"]) == (9, 1)
        refuse = False
        assert ask(server, ledger, rows(10), concurrency=1).counts["ok"] == 10


def test_a_moderated_row_is_refused_and_the_rest_goes_on(ledger: Ledger) -> None:
    def behave(body: dict[str, Any], before: int) -> Reply:
        if number_of(body) == 4:
            return error(403, "m requires moderation. Your input was flagged for violence.")
        return message(ANSWER)

    with ScriptedServer(behave) as server:
        done = ask(server, ledger, rows(20), price=PRICE, max_tokens=50)
    assert (done.counts["ok"], done.counts["refused"]) == (19, 1)
    assert charged(ledger, "run") == 19 * (7 + 12) * 10**6


@pytest.mark.parametrize("what", ["truncated", "empty", "hidden reasoning", "unclosed"])
def test_a_hopeless_run_stops_after_twenty_answers(what: str, ledger: Ledger) -> None:
    replies = {
        "truncated": message("It is", "length"),
        "empty": usage_of_nothing(),
        "hidden reasoning": message("", "length"),
        "unclosed": message("<think>Perhaps", "stop"),
    }
    with ScriptedServer(lambda body, before: replies[what]) as server:
        with pytest.raises(TeacherError, match="of no use") as stop:
            ask(server, ledger, rows(300), max_tokens=50)
        assert MOST <= server.requests <= MOST + 4
        before = server.requests
        with pytest.raises(TeacherError, match="of no use"):
            ask(server, ledger, rows(300), max_tokens=50)
        assert server.requests <= before + 4  # it does not pay for twenty again
    assert ("hidden reasoning" in str(stop.value)) is (what in ("hidden reasoning", "unclosed"))
    assert ("max_tokens (now 50)" in str(stop.value)) is (what != "empty")


def usage_of_nothing() -> Reply:
    reply = message("")
    return Reply(body={**reply.body, "usage": {"prompt_tokens": 7, "completion_tokens": 0}})


def test_refusals_count_only_before_the_first_usable_answer(ledger: Ledger) -> None:
    refusal = message("I'm sorry, but I can't assist with that request.")

    def behave(body: dict[str, Any], before: int) -> Reply:
        return message(ANSWER) if number_of(body) == 0 or number_of(body) > 50 else refusal

    with ScriptedServer(behave) as server:
        done = ask(server, ledger, rows(60), concurrency=1)
        assert (done.counts["ok"], done.counts["refused"]) == (10, 50)
        with pytest.raises(TeacherError, match="of no use"):
            ask(server, ledger, rows(40, start=1), temperature=0.5, concurrency=1)


# Parameters, addresses, limits.

REFUSALS = [
    (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"],
                       "msg": "Extra inputs are not permitted"}]}, "seed"),
    (422, {"object": "error", "message": {"detail": [{"type": "extra_forbidden",
           "loc": ["body", "top_p"], "msg": "Extra inputs are not permitted"}]}}, "top_p"),
    (400, {"error": {"message": "temperature is not supported with this model"}}, "temperature"),
    (400, {"error": {"message": "max_tokens is too large: 100000, at most 16384"}}, "max_tokens"),
    (400, {"error": {"message": "no", "param": "reasoning_effort", "code": "unsupported_value"}},
     "reasoning_effort"),
    (400, {"error": {"message": "Unrecognized request argument supplied: enable_thinking"}},
     "extra_body.enable_thinking"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "key"), REFUSALS, ids=str)
def test_a_refused_parameter_is_named_with_its_key(
    status: int, body: dict[str, Any], key: str, ledger: Ledger
) -> None:
    with ScriptedServer(lambda asked, before: Reply(status=status, body=body)) as server:
        with pytest.raises(TeacherError, match=rf"remove teacher\.{key} from the recipe") as stop:
            ask(
                server, ledger, rows(30), seed=1, top_p=0.5, temperature=0.2, max_tokens=100000,
                reasoning_effort="none", extra_body={"enable_thinking": False},
            )  # fmt: skip
        assert server.requests == 1 and "\n" not in str(stop.value)


def test_further_keys_are_sent_and_are_part_of_the_key_and_headers_are_neither_kept(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACE", "trace-0123456789")

    def echo(body: dict[str, Any], before: int) -> Reply:
        return message(f"so {server.headers[-1].get('X-Trace')}")

    with ScriptedServer(echo) as server:
        more = {"extra_body": {"provider": {"order": ["one"]}}, "reasoning_effort": "none"}
        done = ask(server, ledger, rows(1), headers={"X-Trace": "${TRACE}"}, **more)
        assert server.bodies[0]["provider"] == {"order": ["one"]}
        assert server.bodies[0]["reasoning_effort"] == "none"
        assert server.headers[0]["X-Trace"] == "trace-0123456789"
        ask(server, ledger, rows(1), headers={"X-Trace": "another"}, **more)
        assert server.requests == 1
        ask(server, ledger, rows(1), extra_body={"provider": {"order": ["two"]}})
        assert server.requests == 2
    assert done.rationales[0].text == "so [key]"
    files = [path for path in ledger.path.parent.glob("ledger.sqlite*") if path.is_file()]
    stored = b"".join(path.read_bytes() for path in files)
    assert b"trace-0123456789" not in stored and b"X-Trace" not in stored


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (error(429, "Limit: 200 requests per day. Please try again in 7h12m0s."), "in 7 h 12 min"),
        (error(429, "Rate limit exceeded: free-models-per-day"), "does not say when"),
        (error(429, "slow down", headers={"Retry-After": "7200"}), "in 2 h 0 min"),
        (error(503, "maintenance", headers={"Retry-After": "10800"}), "in 3 h 0 min"),
    ],
    ids=str,
)
def test_a_limit_that_lasts_stops_the_run_at_once_and_says_when_to_come_back(
    fault: Reply, said: str, ledger: Ledger
) -> None:
    def behave(body: dict[str, Any], before: int) -> Reply:
        return message(ANSWER) if number_of(body) < 5 else fault

    with ScriptedServer(behave) as server:
        with pytest.raises(TeacherError, match=said) as stop:
            ask(server, ledger, rows(50))
        assert server.requests <= 5 + 4 and "\n" not in str(stop.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (lambda: {"Retry-After": str(int(time.time()) + 90)}, 90),
        (lambda: {"Retry-After": iso(time.time() + 90)},
         90),
        (lambda: {"x-ratelimit-remaining-requests": "0",
                  "x-ratelimit-reset-requests": str(time.time() + 90)}, 90),
        (lambda: {"x-ratelimit-remaining": "0",
                  "x-ratelimit-reset": str(int(1000 * (time.time() + 90)))}, 90),
        (lambda: {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30s"}, 90),
        (lambda: {"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "1m30s"}, None),
        (lambda: {"Retry-After": "1e400"}, None),
    ],
)  # fmt: skip
def test_when_a_limit_ends_is_read_in_any_form(
    headers: Callable[[], dict[str, str]], seconds: float | None
) -> None:
    found = parse_retry_after(headers())
    assert found == (None if seconds is None else pytest.approx(seconds, abs=2))


def iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def test_a_short_wait_is_shown(ledger: Ledger) -> None:
    notes: list[str] = []
    busy = error(429, "slow down", headers={"Retry-After": "5.2"})
    with ScriptedServer(lambda body, before: busy if not before else message(ANSWER)) as server:
        ask(server, ledger, rows(1), on_note=notes.append)
    assert notes == ["the server asks for a pause of 5 s"]


def test_azures_classic_endpoint(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-azure")

    def behave(body: dict[str, Any], before: int) -> Reply:
        given = server.headers[-1]
        if given.get("api-key") != "key-of-azure" or "Authorization" in given:
            return error(401, "Access denied due to missing subscription key")
        return message(ANSWER)

    with ScriptedServer(behave) as server:
        base = f"{server.base_url}?api-version=2024-10-21"
        done = ask(server, ledger, rows(2), base_url=base, api_key_header="api-key")
        assert done.counts["ok"] == 2
        with pytest.raises(AuthenticationError):
            ask(server, ledger, rows(3), base_url=base)


@pytest.mark.parametrize(
    "end", ["/chat/completions", "/completions", "/responses", "/chat/completions/"]
)
def test_an_address_with_the_endpoint_is_refused_before_anything_is_sent(
    end: str, ledger: Ledger
) -> None:
    with ScriptedServer() as server:
        with pytest.raises(UsageError, match="leave out") as stop:
            ask(server, ledger, rows(2), base_url=server.base_url + end)
        assert server.requests == 0 and repr(server.base_url) in str(stop.value)


def test_an_address_without_its_end_is_completed_in_one_line(ledger: Ledger) -> None:
    with ScriptedServer() as server:
        root = server.base_url.removesuffix("/v1")
        with pytest.raises(ModelNotServedError, match=r"set teacher\.base_url to") as stop:
            ask(server, ledger, rows(20), base_url=root)
        assert f"{root}/v1" in str(stop.value) and "\n" not in str(stop.value)


PAGE = Reply(body=b"<html><title>Sign in to WiFi</title></html>", content_type="text/html")
ADDRESSES = {
    "a sign-in page": (PAGE, 3, "sign-in page"),
    "another endpoint": (
        Reply(body={"error": "Unexpected endpoint or method. (POST /chat/completions)"}), 1,
        "base_url",
    ),
    "a redirect": (
        Reply(status=302, body=b"", headers={"Location": "https://login.example/x?user=me"}), 1,
        "a redirect to https://login.example/x",
    ),
    "a method": (Reply(status=405, body=b"Method Not Allowed"), 1, "base_url"),
    "a network that wants a login": (Reply(status=511, body=PAGE.body), 1, "Sign in to WiFi"),
}  # fmt: skip


@pytest.mark.parametrize("what", ADDRESSES)
def test_an_address_that_is_not_the_apis_is_reported_in_one_line(what: str, ledger: Ledger) -> None:
    reply, most, said = ADDRESSES[what]
    with ScriptedServer(lambda body, before: reply) as server:
        with pytest.raises(ServerUnreachableError, match=said) as stop:
            ask(server, ledger, rows(20))
        assert server.requests == most
    assert "\n" not in str(stop.value) and "user=me" not in str(stop.value)


def test_a_certificate_of_ones_own(tmp_path: Path, ledger: Ledger) -> None:
    with ScriptedServer() as server:
        with pytest.raises(UsageError, match=r"ca_file.*expected a PEM file"):
            ask(server, ledger, rows(1), ca_file=str(tmp_path / "none.pem"))
        (tmp_path / "bad.pem").write_text("no certificate", encoding="utf-8")
        with pytest.raises(UsageError, match=r"ca_file.*expected a PEM file"):
            ask(server, ledger, rows(1), ca_file=str(tmp_path / "bad.pem"))
        assert server.requests == 0


# Bodies that break parsers.

BROKEN = {
    "brackets": Reply(body=b"[" * 100_000),
    "objects": Reply(body=b'{"a":' * 100_000),
    "an error of brackets": Reply(status=400, body=b'{"error":' + b"[" * 100_000),
    "deep parts": Reply(
        body=b'{"choices":[{"message":{"content":[{"type":"thinking","thinking":'
        + b"[" * 500 + b"]" * 500 + b'},{"type":"text","text":"x"}]}}]}'
    ),
    "null": Reply(body=b"null"),
    "a number": Reply(body=b"1" * 10_000),
    "choices of another shape": Reply(body={"choices": {"0": {}}}),
    "a choice of text": Reply(body={"choices": ["text"]}),
    "content of another shape": Reply(body={"choices": [{"message": {"content": {"a": 1}}}]}),
    "usage of another shape": Reply(
        body={"choices": [{"message": {"content": "x"}}], "usage": [1], "model": 5}
    ),
    "an error of another shape": Reply(status=400, body={"error": [[1]], "detail": 7}),
    "a status in the body": Reply(body={"base_resp": {"status_code": 1008, "status_msg": "busy"}}),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_no_body_is_a_traceback(what: str, ledger: Ledger) -> None:
    with ScriptedServer(
        lambda body, before: BROKEN[what] if number_of(body) == 5 else message(ANSWER)
    ) as server:
        done = ask(server, ledger, rows(12), concurrency=1)
    assert done.counts["ok"] + done.counts["empty"] + done.counts["failed"] == 12
    assert done.counts["ok"] >= 11


def test_errors_in_every_shape_have_a_message_and_their_codes() -> None:
    shapes: list[tuple[Any, str, str]] = [
        ({"error": {"message": "m", "code": "c"}}, "m", "c"),
        ({"error": "m"}, "m", ""),
        ({"message": "m", "type": "t"}, "m", "t"),
        ([{"error": {"message": "m", "status": "INVALID", "code": 400}}], "m", "INVALID"),
        ({"detail": "m"}, "m", ""),
        ({"error": {"message": json.dumps({"error": {"message": "m", "code": "c"}})}}, "m", "c"),
        ({"errors": [{"message": "m"}]}, "m", ""),
        ({"error_code": 17, "error_msg": "m"}, "m", "17"),
        ({"error": {"message": "m", "details": [{"reason": "API_KEY_INVALID"}]}}, "m",
         "API_KEY_INVALID"),
    ]  # fmt: skip
    for body, said, code in shapes:
        found = parse_error(400, body, "raw")
        assert found.message == said
        assert code in found.codes or not code
    assert parse_json("[" * 10**5) is None


def test_a_completion_never_raises_but_a_fault() -> None:
    for usage_ in (None, 5, [], {"prompt_tokens": True}, {"cost": "x"}, {"cost": 1e300}):
        answer = {"choices": [{"message": {"content": "x"}}], "usage": usage_}
        assert parse_completion(answer).text == "x"


# Disks and signals.


def test_a_full_disk_is_one_line_and_loses_nothing(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    def write(server: ScriptedServer) -> None:
        annotate_to_file(
            lambda: rows(30), tmp_path / "out.jsonl", strategy="informed_reasoning", task=NLI,
            ledger=ledger, teacher=TeacherSettings(model="openai:m", base_url=server.base_url),
        )  # fmt: skip

    with ScriptedServer() as server:
        with monkeypatch.context() as patch:
            patch.setattr("tutelage.core.rationale_file.os.fsync", full)
            with pytest.raises(RunFolderError, match="No space left on device") as stop:
                write(server)
        assert "\n" not in str(stop.value) and not (tmp_path / "out.jsonl").exists()
        write(server)
        assert server.requests == 30 and len(read_rationales(tmp_path / "out.jsonl")) == 30
        with pytest.raises(RunFolderError, match="cannot be written"):
            annotate_to_file(
                lambda: rows(1), Path("/proc/none/out.jsonl"), strategy="informed_reasoning",
                task=NLI, ledger=ledger,
                teacher=TeacherSettings(model="openai:m", base_url=server.base_url),
            )  # fmt: skip


def test_a_file_that_grows_too_large_is_one_line(tmp_path: Path) -> None:
    """The limit of the process stands for a disk that becomes full while rows arrive."""
    code = (
        "import resource, signal\n"
        "from pathlib import Path\n"
        "from tutelage.core.errors import RunFolderError\n"
        "from tutelage.core.rationale_file import RationaleFile\n"
        "from tutelage.core.types import Rationale\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n"
        f"    with RationaleFile(Path({str(tmp_path / 'o.jsonl')!r})) as lines:\n"
        "        for n in range(5000):\n"
        "            lines.keep(n, Rationale(str(n), 's', 'x' * 1000, 'ok'))\n"
        "except RunFolderError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "" and "cannot be written" in done.stdout


def test_sigterm_waits_for_what_is_in_flight_and_loses_nothing(tmp_path: Path) -> None:
    worker = Path(__file__).with_name("annotate_worker.py")
    with ScriptedServer(lambda body, before: Reply("because", delay_s=0.3)) as server:
        call = [sys.executable, str(worker), server.base_url, str(tmp_path / "l.sqlite"), "40"]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while server.requests < 6:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode not in (0, -signal.SIGTERM)  # it ended by itself
        sent = server.requests
        with Ledger(tmp_path / "l.sqlite") as kept:
            assert len(kept) == sent == server.answered
            assert lost(kept, "annotate") == (0, 0)
