"""Anthropic and Gemini in their own protocols: live, in batches, with budgets, faults and kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from native_server import Native, NativeServer, fault
from small_rows import rows

from tutelage.config.teacher_settings import PriceOverride, TeacherSettings
from tutelage.core.errors import (
    AuthenticationError,
    BudgetError,
    ModelNotServedError,
    TeacherError,
    UsageError,
)
from tutelage.core.task import NLI
from tutelage.core.types import Example, Message, Rationale, Request
from tutelage.planning.teacher_check import _batches, _server
from tutelage.teacher.annotate import Annotation, Options, annotate
from tutelage.teacher.batch.jsonl import BatchLimits
from tutelage.teacher.batch.server import CallFault
from tutelage.teacher.batch.submit import BatchSubmitter
from tutelage.teacher.clients.anthropic_api import ANTHROPIC
from tutelage.teacher.clients.gemini_api import GEMINI
from tutelage.teacher.cost.budget import budget_for, price_for
from tutelage.teacher.engine.failures import FaultKind, RetryPolicy
from tutelage.teacher.engine.rate_limits import RateLimiter, RateLimits
from tutelage.teacher.ledger.charges import charged
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.registry import open_teacher

QUICK = RetryPolicy(dict.fromkeys(FaultKind, 4), first_attempts=4, base_s=0.01, cap_s=0.02)
FAST = BatchLimits(poll_s=0.01, poll_cap_s=0.02, settle_s=0.01)
PRICE = PriceOverride(input=1, output=4, cached_input=0.1)
PICO = 10**12
ANSWER = "It is so because of the rain."
BOTH = pytest.mark.parametrize("scheme", ["anthropic", "gemini"])
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS.values():
        monkeypatch.setenv(name, "the-secret-key")


def settings(server: NativeServer, **more: Any) -> TeacherSettings:
    values = {"concurrency": 4, "base_url": server.base_url, "max_tokens": 50, "price": PRICE}
    return TeacherSettings(model=f"{server.scheme}:m", **{**values, **more})


def ask(server: NativeServer, ledger: Ledger, examples: list[Example], **more: Any) -> Annotation:
    options = {name: more.pop(name) for name in ("on_note",) if name in more}
    return annotate(
        examples,
        strategy=more.pop("strategy", "informed_reasoning"),
        teacher=settings(server, **more),
        task=NLI,
        ledger=ledger,
        options=Options(budget_name="run", policy=QUICK, batch_limits=FAST, **options),
    )


def one(scheme: str, reply: Native, ledger: Ledger, **more: Any) -> Rationale:
    with NativeServer(scheme, lambda prompt, before: reply) as server:
        return ask(server, ledger, rows(1), **more).rationales[0]


# What is sent, and what an answer is.


@BOTH
def test_an_answer_with_its_tokens_its_price_and_its_reasoning_apart(
    scheme: str, ledger: Ledger
) -> None:
    reply = Native(thoughts="Perhaps.", tokens=(100, 60, 20))
    rationale = one(scheme, reply, ledger)
    assert (rationale.status, rationale.text, rationale.reasoning) == ("ok", ANSWER, "Perhaps.")
    usage = rationale.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (100, 20, 60)
    assert rationale.cost_usd == pytest.approx(reply.pico / PICO, abs=0)
    with ledger.reader() as connection:
        assert connection.execute("SELECT served FROM answers").fetchall() == [("m-1",)]


SYSTEM = (Message("system", "Be brief."), Message("user", "Why?"))
PARAMETERS = {
    "temperature": 0.2,
    "top_p": 0.9,
    "max_tokens": 7,
    "reasoning_effort": "none",
    "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
}


def test_anthropic_is_asked_as_it_documents() -> None:
    request = Request("m", SYSTEM, "s", rows(1)[0], {**PARAMETERS, "output_config": {"x": 1}})
    assert ANTHROPIC.body(request) == {
        "model": "m",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Why?"}],
        "temperature": 0.2,
        "top_p": 0.9,
        "max_tokens": 7,
        "thinking": {"type": "disabled"},
        "output_config": {
            "format": {"type": "json_schema", "schema": {"type": "object"}},
            "x": 1,
        },
    }
    low = Request("m", SYSTEM, "s", rows(1)[0], {"reasoning_effort": "low"})
    assert ANTHROPIC.body(low)["output_config"] == {"effort": "low"}
    assert ANTHROPIC.body(low)["thinking"] == {"type": "adaptive"}


def test_gemini_is_asked_as_it_documents() -> None:
    extra = {"seed": 1, "generationConfig": {"topK": 3}, "safetySettings": []}
    request = Request("m", SYSTEM, "s", rows(1)[0], {**PARAMETERS, **extra})
    assert GEMINI.body(request) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "Why?"}]}],
        "generationConfig": {
            "temperature": 0.2,
            "topP": 0.9,
            "maxOutputTokens": 7,
            "seed": 1,
            "thinkingConfig": {"thinkingBudget": 0},
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
            "topK": 3,
        },
        "safetySettings": [],
    }
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    body = GEMINI.body(Request("m", turns, "s", rows(1)[0], {"reasoning_effort": "low"}))
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]
    assert body["generationConfig"] == {"thinkingConfig": {"thinkingLevel": "LOW"}}


@pytest.mark.parametrize(
    ("model", "path"),
    [("m", "models/m"), ("models/m", "models/m"), ("tunedModels/t", "tunedModels/t")],
)
def test_geminis_models_by_any_of_their_names(model: str, path: str) -> None:
    assert GEMINI.path(model) == f"{path}:generateContent"


@BOTH
@pytest.mark.parametrize("path", ["", "/wrong"])
def test_a_wrong_address_is_corrected(scheme: str, path: str, ledger: Ledger) -> None:
    with NativeServer(scheme) as server:
        right = server.base_url
        server.base_url = right.removesuffix("/v1") + path
        with pytest.raises(TeacherError, match=rf"set teacher.base_url to '{right}'"):
            ask(server, ledger, rows(2))


@BOTH
@pytest.mark.parametrize(
    ("status", "replies"),
    [
        ("truncated", {"anthropic": ["max_tokens", "model_context_window_exceeded", "pause_turn"],
                       "gemini": ["MAX_TOKENS", "CONTINUATION", "OTHER"]}),
        ("refused", {"anthropic": ["refusal"],
                     "gemini": ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII",
                                "LANGUAGE", "ESCALATION", "MODEL_ARMOR", "blocked SAFETY",
                                "blocked OTHER", "blocked JAILBREAK"]}),
        ("ok", {"anthropic": ["end_turn", "stop_sequence"], "gemini": ["STOP"]}),
    ],
)  # fmt: skip
def test_why_it_stopped(
    scheme: str, status: str, replies: dict[str, list[str]], tmp_path: Path
) -> None:
    for number, reason in enumerate(replies[scheme]):
        with Ledger(tmp_path / f"{number}.sqlite") as ledger:
            assert one(scheme, Native(reason=reason), ledger).status == status, reason


def test_a_malformed_response_is_asked_again(ledger: Ledger) -> None:
    bad = Native(reason="MALFORMED_RESPONSE")
    with NativeServer("gemini", lambda prompt, before: Native() if before else bad) as server:
        assert ask(server, ledger, rows(1)).rationales[0].text == ANSWER


@BOTH
def test_thoughts_alone_are_an_empty_answer(scheme: str, ledger: Ledger) -> None:
    assert one(scheme, Native(text=None, thoughts="Perhaps."), ledger).status == "empty"


@BOTH
@pytest.mark.parametrize("tokens", [(0, 0, 0), (20, 0, 0)])
def test_no_count_is_charged_at_the_worst_case(
    scheme: str, tokens: tuple[int, int, int], ledger: Ledger
) -> None:
    cost = one(scheme, Native(tokens=tokens), ledger).cost_usd
    assert cost is not None and cost > 50 * 4e-6  # all of max_tokens, and the prompt


# Faults, in the words of each server.

QUOTA = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure",
          "violations": [{"quotaId": "GenerateRequestsPerMinutePerProject"}]},
         {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.02s"}]  # fmt: skip
DAILY = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure",
          "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},
         {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]  # fmt: skip
TRANSIENT = {
    "anthropic": [
        fault("anthropic", 529, "overloaded_error", "Overloaded"),
        fault("anthropic", 500, "api_error", "Internal server error"),
        fault("anthropic", 504, "timeout_error", "Request timed out"),
        fault("anthropic", 429, "rate_limit_error", "This request would exceed your rate limit",
              headers={"retry-after": "0.02"}),
        Native(status=200, body={"type": "error", "error": {"type": "overloaded_error",
                                                            "message": "Overloaded"}}),
    ],
    "gemini": [
        fault("gemini", 503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
        fault("gemini", 500, "INTERNAL", "An internal error has occurred."),
        fault("gemini", 429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check "
              "your plan and billing details. Please retry in 0.02s.", details=QUOTA),
        Native(cut=True),
    ],
}  # fmt: skip


@BOTH
def test_transient_faults_are_asked_again(scheme: str, ledger: Ledger) -> None:
    faults = TRANSIENT[scheme]

    def behave(prompt: str, before: int) -> Native:
        number = int(prompt.split("Premise ")[1].split(".")[0])
        return faults[number % len(faults)] if number and before == 0 else Native()

    with NativeServer(scheme, behave) as server:
        done = ask(server, ledger, rows(10))
        assert {r.text for r in done.rationales} == {ANSWER} and server.answered == 10


STOPS = [
    ("anthropic", fault("anthropic", 404, "not_found_error", "model: m"), ModelNotServedError,
     "serves m, n"),
    ("anthropic", fault("anthropic", 400, "invalid_request_error", "Your credit balance is too low "
     "to access the Anthropic API."), TeacherError, "credit balance"),
    ("anthropic", fault("anthropic", 402, "billing_error", "payment"), TeacherError, "payment"),
    ("anthropic", fault("anthropic", 429, "rate_limit_error", "Monthly usage reached.",
     details={"error_code": "enforced_spend_limit_reached"}), TeacherError, "Monthly usage"),
    ("anthropic", fault("anthropic", 400, "invalid_request_error", "`temperature` is deprecated "
     "for this model."), TeacherError, "remove teacher.temperature"),
    ("anthropic", fault("anthropic", 400, "invalid_request_error", "max_tokens: 50 > 40, which is "
     "the maximum allowed number of output tokens for m"), TeacherError, "teacher.max_tokens"),
    ("anthropic", fault("anthropic", 429, "rate_limit_error", "rate limit",
     headers={"retry-after": "7200"}), TeacherError, "come back at"),
    ("gemini", fault("gemini", 404, "NOT_FOUND", "models/m is not found for API version v1beta, or "
     "is not supported for generateContent."), ModelNotServedError, "serves m, n"),
    ("gemini", fault("gemini", 429, "RESOURCE_EXHAUSTED", "You exceeded your current quota. Please "
     "retry in 34s.", details=DAILY), TeacherError, "come back at"),
    ("gemini", fault("gemini", 400, "FAILED_PRECONDITION", "User location is not supported for the "
     "API use."), TeacherError, "location"),
    ("gemini", fault("gemini", 400, "INVALID_ARGUMENT", "Invalid value at "
     "'generation_config.max_output_tokens'"), TeacherError, "teacher.max_tokens"),
    ("gemini", Native(reason="PUP_LIMITED_DISABLED"), TeacherError, "PUP_LIMITED_DISABLED"),
]  # fmt: skip


@pytest.mark.parametrize(("scheme", "reply", "error", "says"), STOPS, ids=str)
def test_what_concerns_all_rows_stops_in_one_line_and_holds_nothing_against_them(
    scheme: str, reply: Native, error: type[TeacherError], says: str, ledger: Ledger
) -> None:
    replies = [reply]
    with NativeServer(scheme, lambda prompt, before: replies[0]) as server:
        with pytest.raises(error) as caught:
            ask(server, ledger, rows(8), temperature=0.5)
        assert says in str(caught.value) and "\n" not in str(caught.value)
        assert len(server.bodies) <= 2
        replies[0] = Native()
        assert {r.status for r in ask(server, ledger, rows(8), temperature=0.5).rationales} == {
            "ok"
        }


@BOTH
def test_a_wrong_key_and_no_key(
    scheme: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEYS[scheme], "another-key")
    with NativeServer(scheme) as server, pytest.raises(AuthenticationError, match=KEYS[scheme]):
        ask(server, ledger, rows(3))
    monkeypatch.delenv(KEYS[scheme])
    own = TeacherSettings(model=f"{scheme}:m", max_tokens=5)
    with pytest.raises(AuthenticationError, match=f"no key.*{KEYS[scheme]}"):
        annotate(rows(1), strategy="informed_reasoning", teacher=own, task=NLI, ledger=ledger)


def test_one_row_too_long_and_one_filtered_do_not_stop_the_rest(ledger: Ledger) -> None:
    bad = {
        "Premise 3.": fault("anthropic", 400, "invalid_request_error",
                            "prompt is too long: 210000 tokens > 200000 maximum"),
        "Premise 5.": fault("anthropic", 400, "invalid_request_error",
                            "Output blocked by content filtering policy"),
        "Premise 7.": fault("anthropic", 413, "request_too_large", "Request exceeds the limit"),
    }  # fmt: skip

    def behave(prompt: str, before: int) -> Native:
        return next((reply for words, reply in bad.items() if words in prompt), Native())

    with NativeServer("anthropic", behave) as server:
        statuses = [r.status for r in ask(server, ledger, rows(10)).rationales]
    assert [statuses[i] for i in (3, 5, 7)] == ["failed", "refused", "failed"]
    assert statuses.count("ok") == 7


def test_anthropics_limits_are_kept() -> None:
    limiter = RateLimiter(RateLimits())
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 20))
    limits = ANTHROPIC.limits(
        {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": soon,
            "anthropic-ratelimit-input-tokens-limit": "30000",
            "anthropic-ratelimit-input-tokens-remaining": "0",
            "anthropic-ratelimit-input-tokens-reset": soon,
            "anthropic-ratelimit-output-tokens-limit": "8000",
            "anthropic-ratelimit-output-tokens-remaining": "7000",
            "anthropic-ratelimit-output-tokens-reset": soon,
            "anthropic-ratelimit-tokens-limit": "30000",
        }
    )
    limiter.apply_headers(limits)
    assert limiter._requests is not None and limiter._requests.limit == 50
    assert limiter._tokens is not None and limiter._tokens.limit == 38_000
    assert 15 < limiter._delay(1, time.monotonic()) <= 20
    assert ANTHROPIC.limits({"Content-Type": "application/json"}) == {}


# Costs and budgets.


@BOTH
def test_the_cap_holds_by_the_servers_own_count(scheme: str, tmp_path: Path) -> None:
    draw = random.Random(7)
    odd = [*TRANSIENT[scheme], Native(tokens=(0, 0, 0)), Native(cut=True), Native(counted=False)]
    for run in range(6):
        pick = random.Random(run)

        def behave(prompt: str, before: int, pick: random.Random = pick) -> Native:
            if pick.random() < 0.3:
                return pick.choice(odd)
            prompt_tokens = pick.randint(1, len(prompt))
            return Native(tokens=(prompt_tokens, prompt_tokens // 3, pick.randint(1, 50)))

        cap = draw.uniform(0.001, 0.006)
        with NativeServer(scheme, behave) as server, Ledger(tmp_path / f"{run}.sqlite") as ledger:
            try:
                ask(server, ledger, rows(20), budget_usd=cap)
            except BudgetError:
                assert charged(ledger, "run") > 0
            assert server.billed_pico <= charged(ledger, "run") <= cap * PICO


def test_published_prices_are_found_and_no_cache_is_written_unasked() -> None:
    sonnet = TeacherSettings(model="anthropic:claude-sonnet-4-5", max_tokens=9)
    plain, asked = (
        price_for("claude-sonnet-4-5", sonnet),
        price_for(
            "claude-sonnet-4-5", sonnet.replace(extra_body={"cache_control": {"type": "ephemeral"}})
        ),
    )
    assert plain is not None and asked is not None
    assert plain.rates[0].input < asked.rates[0].input and plain.rates[0].cached > 0
    flash = TeacherSettings(model="gemini:gemini-2.5-flash")
    assert price_for("gemini-2.5-flash", flash) == price_for("models/gemini-2.5-flash", flash)
    counts = {"input_tokens": 5, "cache_creation_input_tokens": 100, "output_tokens": 2}
    stored = ANTHROPIC.completion({"content": [], "usage": counts}).usage
    assert stored.prompt_tokens == 205  # written to a cache: up to twice the price


@pytest.mark.parametrize(
    "extra",
    [{"speed": "fast"}, {"inference_geo": "us"}, {"service_tier": "auto"},
     {"cache_control": {"type": "ephemeral", "ttl": "1h"}}],
)  # fmt: skip
def test_a_budget_refuses_what_may_cost_more_than_published(extra: dict[str, Any]) -> None:
    given = TeacherSettings(
        model="anthropic:claude-sonnet-4-5", max_tokens=9, budget_usd=1, extra_body=extra
    )
    with pytest.raises(UsageError, match=next(iter(extra))):
        budget_for(open_teacher(given), "run")


@pytest.mark.parametrize(
    ("more", "says"),
    [({}, "needs max_tokens"), ({"max_tokens": 5, "seed": 1}, "takes no seed")],
)
def test_what_anthropic_cannot_take_is_refused_when_the_recipe_is_read(
    more: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        TeacherSettings(model="anthropic:m", **more)


def test_answers_of_two_protocols_at_one_address_are_two(ledger: Ledger) -> None:
    url = "https://api.anthropic.com/v1"
    own = open_teacher(TeacherSettings(model="anthropic:m", max_tokens=5))
    other = open_teacher(TeacherSettings(model="openai:m", base_url=url))
    assert own.identity == f"anthropic:{url}" and other.identity == url


# Kill and resume.

WORKER = """
from pathlib import Path
from tutelage.config.teacher_settings import PriceOverride, TeacherSettings
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.teacher.annotate import Options, annotate
from tutelage.teacher.ledger.store import Ledger
def row(i):
    fields = {{"premise": f"Premise {{i}}.", "hypothesis": f"Claim {{i}}."}}
    return Example(f"r{{i}}", fields, NLI.labels[i % 3])
with Ledger(Path({ledger!r})) as ledger:
    annotate(
        [row(i) for i in range(40)], strategy="informed_reasoning", task=NLI, ledger=ledger,
        teacher=TeacherSettings(
            model="{scheme}:m", base_url={url!r}, max_tokens=50, concurrency=8, mode={mode!r},
            price=PriceOverride(input=1, output=4, cached_input=0.1),
        ),
        options=Options(budget_name="run"),
    )
"""


@pytest.mark.parametrize(
    ("scheme", "mode"), [("anthropic", "live"), ("gemini", "live"), ("anthropic", "batch")]
)
def test_a_killed_run_continues_and_pays_for_nothing_twice(
    scheme: str, mode: str, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.sqlite"
    with NativeServer(scheme, lambda prompt, before: Native(delay_s=0.02)) as server:
        server.polls = 10**9
        code = WORKER.format(ledger=str(path), scheme=scheme, url=server.base_url,
                             mode=mode)  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        worker = subprocess.Popen([sys.executable, "-c", code], env=environment)
        deadline = time.monotonic() + 60
        while server.answered < 12 and not server.batches and time.monotonic() < deadline:
            time.sleep(0.005)
        assert server.answered >= 12 or server.batches  # it was killed in the middle
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        time.sleep(0.1)
        server.polls = 1
        with Ledger(path) as ledger:
            done = ask(server, ledger, rows(40), mode=mode)
            assert {r.text for r in done.rationales} == {ANSWER}
            assert server.billed_pico <= charged(ledger, "run")
        twice = sum(count - 1 for count in server.asked.values())
        assert len(server.asked) == 40 and twice <= (8 if mode == "live" else 0)
        assert server.calls["create"] == (mode == "batch")


# Batches.


@BOTH
def test_a_batch_at_half_the_price(scheme: str, ledger: Ledger) -> None:
    reply = Native(thoughts="Perhaps.", tokens=(100, 0, 20))
    with NativeServer(scheme, lambda prompt, before: reply) as server:
        done = ask(server, ledger, rows(7), mode="batch", budget_usd=1)
        assert [r.text for r in done.rationales] == [ANSWER] * 7
        assert server.billed_pico == charged(ledger, "run") == 7 * reply.pico // 2
        assert server.answered == 0 and server.calls["create"] == 1
        assert ask(server, ledger, rows(7)).rationales == done.rationales  # live: all are there


@BOTH
def test_lines_without_an_answer_go_into_another_batch_and_bad_rows_fail(
    scheme: str, ledger: Ledger
) -> None:
    invalid = {"anthropic": "invalid_request_error", "gemini": "INVALID_ARGUMENT"}[scheme]
    server_fault = {"anthropic": "api_error", "gemini": "INTERNAL"}[scheme]

    def behave(prompt: str, before: int) -> Native:
        if "Premise 2." in prompt:
            return fault(scheme, 400, invalid, "prompt is too long: 9 tokens > 8 maximum")
        if "Premise 3." in prompt and before == 0:
            return fault(scheme, 500, server_fault, "oops")
        return Native(expired="Premise 4." in prompt and before == 0)

    with NativeServer(scheme, behave) as server:
        done = ask(server, ledger, rows(6), mode="batch")
        assert [r.status for r in done.rationales] == ["ok", "ok", "failed", "ok", "ok", "ok"]
        assert server.calls["create"] == 2 and server.answered == 0
        assert server.billed_pico == charged(ledger, "run")  # errors and expired cost nothing


@BOTH
def test_a_batch_whose_creation_was_not_confirmed_is_found_again(
    scheme: str, ledger: Ledger
) -> None:
    with NativeServer(scheme) as server:
        # Batches of others, of other sizes, on several pages.
        for count in (1, 2, 4, 5):
            ask(server, ledger, rows(count, start=100 * count), mode="batch")
        server.lose_creations = 1
        done = ask(server, ledger, rows(3), mode="batch")
        assert {r.text for r in done.rationales} == {ANSWER}
        assert server.calls["create"] == 5 and set(server.asked.values()) == {1}


@BOTH
def test_a_process_that_dies_in_the_middle_of_creation_is_reconciled(
    scheme: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(self: BatchSubmitter, row: Any, remote: Any) -> None:
        raise KeyboardInterrupt

    with NativeServer(scheme) as server:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(BatchSubmitter, "adopt", dies)
            ask(server, ledger, rows(3), mode="batch")
        assert {r.text for r in ask(server, ledger, rows(3), mode="batch").rationales} == {ANSWER}
        assert server.calls["create"] == 1 and set(server.asked.values()) == {1}


def test_two_batches_that_look_alike_are_not_guessed_between(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(self: BatchSubmitter, row: Any, remote: Any) -> None:
        raise KeyboardInterrupt

    with NativeServer("anthropic") as server:
        with Ledger(tmp_path / "other.sqlite") as other:  # another computer's
            ask(server, other, rows(3, start=50), mode="batch")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(BatchSubmitter, "adopt", dies)
            ask(server, ledger, rows(3), mode="batch")
        with pytest.raises(TeacherError, match=r"several batches of 3 requests.*--adopt"):
            ask(server, ledger, rows(3), mode="batch")
        assert server.calls["create"] == 2


def test_a_batch_that_failed_stops_with_its_reason(ledger: Ledger) -> None:
    with NativeServer("gemini") as server:
        server.batch_end = "BATCH_STATE_FAILED"
        with pytest.raises(TeacherError, match="billing is disabled"):
            ask(server, ledger, rows(3), mode="batch")
        assert charged(ledger, "run") == 0 and server.answered == 0


@BOTH
def test_cancel_and_list(scheme: str, ledger: Ledger) -> None:
    from tutelage.teacher.batch.native_servers import batch_server

    with NativeServer(scheme) as server:
        for count in (1, 2, 3):
            ask(server, ledger, rows(count, start=10 * count), mode="batch")
        remote = batch_server(settings(server), QUICK)
        try:
            assert len(list(remote.batches())) == 3
            name = next(iter(server.batches))
            assert remote.cancel(name) and server.batches[name]["cancelled"]
            with pytest.raises((CallFault, TeacherError)):
                remote.retrieve("msgbatch_9" if scheme == "anthropic" else "batches/b9")
        finally:
            remote.close()
        assert "lists 3 batches" in _batches(settings(server))


# doctor and plan.


@BOTH
def test_doctor_lists_models_and_ends(scheme: str) -> None:
    with NativeServer(scheme) as server:
        found = [finding.found for finding in _server(settings(server, mode="batch"), {})]
    assert "lists 2 models, this one among them" in found[0]
    if scheme == "anthropic":
        assert "shut down since 2020-01-01" in found[1]
    assert "lists 0 batches" in found[-1]
