import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

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
from tutelage.core.types import Completion, Example, Usage
from tutelage.teacher.annotate import Options, annotate
from tutelage.teacher.clients.http_api import ServerTeacher
from tutelage.teacher.engine.failures import FaultKind, RetryPolicy
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.teacher import RequestFailedError

QUICK = RetryPolicy(dict.fromkeys(FaultKind, 2), first_attempts=2, base_s=0.01, cap_s=0.02)
WORKER = Path(__file__).with_name("annotate_worker.py")


def rows(count, premises=None):
    return [
        Example(
            f"r{i}",
            {"premise": f"Premise {i % (premises or count)}.", "hypothesis": f"Claim {i}."},
            NLI.labels[i % 3],
        )
        for i in range(count)
    ]


def teacher(server, concurrency=4, **more):
    settings = TeacherSettings(
        model="openai:m", base_url=server.base_url, concurrency=concurrency, **more
    )
    return ServerTeacher("m", settings)


def reason(examples, server, ledger, **more):
    return annotate(
        examples,
        strategy="informed_reasoning",
        teacher=teacher(server, **more),
        task=NLI,
        ledger=ledger,
        options=Options(policy=QUICK),
    )


def test_one_rationale_for_each_example_in_their_order(ledger):
    examples = rows(40)
    # Later rows are answered sooner.
    with ScriptedServer(
        lambda body, before: Reply(
            "as " + body["messages"][0]["content"], delay_s=0.05 / (1 + len(body))
        )
    ) as server:
        annotation = reason(examples, server, ledger)
    assert [r.uid for r in annotation.rationales] == [e.uid for e in examples]
    for rationale, example in zip(annotation.rationales, examples, strict=True):
        assert example.fields["hypothesis"] in rationale.text and rationale.status == "ok"
    assert (annotation.requests, annotation.cached) == (40, 0) == (server.requests, 0)
    assert annotation.tokens == Usage(7 * 40, 3 * 40) and len(ledger) == 40


def test_a_second_run_makes_no_request_and_needs_no_server(ledger):
    examples = rows(10)
    with ScriptedServer() as server:
        first = reason(examples, server, ledger)
    second = reason(examples, server, ledger)  # the server has stopped
    assert second.rationales == first.rationales and second.tokens == first.tokens
    assert (second.requests, second.cached) == (0, 10)


def test_another_parameter_is_another_request(ledger):
    with ScriptedServer() as server:
        reason(rows(3), server, ledger)
        assert reason(rows(3), server, ledger, temperature=0.5).requests == 3
        assert reason(rows(4), server, ledger).requests == 1


def test_a_shared_prompt_is_requested_once_and_its_tokens_count_once(ledger):
    examples = rows(60, premises=7)

    def behave(body, before):
        number = body["messages"][0]["content"].split("Premise ")[1].split(".")[0]
        return Reply(f"Who: number {number}", delay_s=0.02)

    with ScriptedServer(behave) as server:
        annotation = annotate(
            examples,
            strategy="information_extraction",
            teacher=teacher(server, concurrency=30),
            task=NLI,
            ledger=ledger,
        )
    assert server.requests == annotation.requests == len(ledger) == 7
    assert max(Counter(server.prompts).values()) == 1
    assert [r.text for r in annotation.rationales] == [f"Who: number {i % 7}" for i in range(60)]
    assert (
        sum(r.usage.prompt_tokens for r in annotation.rationales) == annotation.tokens.prompt_tokens
    )
    assert annotation.tokens.prompt_tokens == 7 * 7


def test_as_many_requests_are_in_flight_as_allowed(ledger):
    with ScriptedServer(lambda body, before: Reply("so", delay_s=0.03)) as server:
        reason(rows(60), server, ledger, concurrency=5)
    assert server.most_in_flight == 5


def test_every_status_is_counted_and_nothing_disappears(ledger):
    replies = {
        "Claim 0.": Reply("because"),
        "Claim 1.": Reply("I'm sorry, but I cannot help with that."),
        "Claim 2.": Reply("because the", finish_reason="length"),
        "Claim 3.": Reply("  "),
        "Claim 4.": error(400, "too long"),
        "Claim 5.": error(500, "oops"),
        "Claim 6.": Reply("x", finish_reason="content_filter"),
    }

    def behave(body, before):
        return next(
            reply for claim, reply in replies.items() if claim in body["messages"][0]["content"]
        )

    with ScriptedServer(behave) as server:
        annotation = reason(rows(7), server, ledger)
        assert annotation.counts == {"ok": 1, "refused": 2, "truncated": 1, "empty": 1, "failed": 2}
        assert sum(annotation.counts.values()) == 7
        assert "too long" in annotation.rationales[4].detail
        assert "HTTP 500" in annotation.rationales[5].detail
        assert len(ledger) == 5  # failed requests have no answer
        again = reason(rows(7), server, ledger)
    # Permanent failures are remembered, transient ones are retried.
    assert (again.cached, again.requests) == (5, 1) and again.rationales == annotation.rationales


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (error(401, "no"), AuthenticationError),
        (error(404, "no such model", "model_not_found"), ModelNotServedError),
    ],
)
def test_a_wrong_key_or_model_costs_one_request(fault, kind, ledger):
    with ScriptedServer(lambda body, before: fault) as server, pytest.raises(kind):
        reason(rows(50), server, ledger, concurrency=20)
    assert server.requests == 1


def test_an_error_that_stops_the_run_keeps_what_was_answered(ledger):
    def behave(body, before):
        if "Claim 12." in body["messages"][0]["content"] and not before:
            return error(429, "pay first", "insufficient_quota")
        return Reply("because", delay_s=0.05)

    with ScriptedServer(behave) as server:
        with pytest.raises(TeacherError, match="pay first"):
            reason(rows(40), server, ledger)
        # Requests in flight when the run stopped were paid for: their answers are kept as well.
        assert len(ledger) == server.answered == server.requests - 1 < 40
        annotation = reason(rows(40), server, ledger)
    assert annotation.counts["ok"] == 40 and annotation.requests == 40 - annotation.cached
    assert server.answered == 40


def test_a_server_that_goes_down_stops_the_run_and_loses_nothing(ledger):
    with ScriptedServer() as server:
        reason(rows(5), server, ledger)
    begun = time.monotonic()
    with pytest.raises(ServerUnreachableError, match="does not answer"):
        reason(rows(500), server, ledger)
    assert time.monotonic() - begun < 5 and len(ledger) == 5


def test_a_server_that_only_fails_is_given_up(ledger):
    with (
        ScriptedServer(lambda body, before: error(500, "oops")) as server,
        pytest.raises(ServerUnreachableError, match="oops"),
    ):
        reason(rows(500), server, ledger)
    assert server.requests < 40


def test_max_failed_stops_the_run(ledger):
    def behave(body, before):
        odd = int(body["messages"][0]["content"].split("Claim ")[1].split(".")[0]) % 2
        return error(400, "no") if odd else Reply("yes")

    with ScriptedServer(behave) as server:
        with pytest.raises(TeacherError, match="max_failed: 3"):
            reason(rows(200), server, ledger, max_failed=3)
        assert server.requests < 40
        assert len(ledger) == server.answered


def test_progress_counts_up_to_the_end(ledger):
    seen = []
    examples = rows(12, premises=4)
    with ScriptedServer() as server:
        reason(examples[:3], server, ledger)
        annotate(
            examples,
            strategy="informed_reasoning",
            teacher=teacher(server),
            task=NLI,
            ledger=ledger,
            options=Options(on_progress=seen.append),
        )
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    last = seen[-1]
    assert (last.done, last.total, last.cached, last.failed, last.requests) == (12, 12, 3, 0, 9)


def test_it_works_inside_a_running_loop(ledger):
    async def notebook():
        return reason(rows(6), server, ledger)

    with ScriptedServer() as server:
        assert asyncio.run(notebook()).counts["ok"] == 6


def test_no_examples():
    annotation = annotate([], strategy="human", teacher=None, task=NLI)
    assert annotation.rationales == () and sum(annotation.counts.values()) == 0


def test_human_needs_no_teacher():
    examples = [Example("a", {"premise": "p", "hypothesis": "h"}, "neutral", reason="since")]
    annotation = annotate(examples, strategy="human", teacher=None, task=NLI)
    assert annotation.rationales[0].text == "since" and annotation.requests == 0
    with pytest.raises(UsageError, match="none is given"):
        annotate(examples, strategy="informed_reasoning", teacher=None, task=NLI)


def test_recorded_strategy_needs_a_recorded_teacher(ledger):
    with pytest.raises(UsageError, match="recorded:FILE#KEY"):
        annotate(
            rows(1),
            strategy="recorded",
            teacher=TeacherSettings(model="openai:m", base_url="http://127.0.0.1:1/v1"),
            task=NLI,
            ledger=ledger,
        )


def test_the_default_ledger_keeps_paid_answers_and_only_those(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / "l.sqlite"))
    looked_up = [
        Example("a", {"premise": "p", "hypothesis": "h"}, "neutral", references={"human-like": "x"})
    ]
    annotate(
        looked_up,
        strategy="informed_reasoning",
        teacher=TeacherSettings(model="scripted"),
        task=NLI,
    )
    assert not (tmp_path / "l.sqlite").exists()
    with ScriptedServer() as server:
        assert reason(rows(2), server, None).requests == 2
        assert reason(rows(2), server, None).cached == 2
    assert (tmp_path / "l.sqlite").exists()


def test_no_key_is_in_the_ledger(tmp_path, monkeypatch):
    key = "sk-very-secret-000111"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    path = tmp_path / "l.sqlite"
    with ScriptedServer(lambda body, before: Reply(f"got {key}")) as server, Ledger(path) as kept:
        reason(rows(3), server, kept)
        assert server.headers[0]["Authorization"].endswith(key)
        for file in tmp_path.glob("l.sqlite*"):
            if file.is_dir():
                continue
            assert key.encode() not in file.read_bytes()


class Stalling:
    """A teacher that answers five requests and then never again."""

    identity = "stalling"
    model = "m"
    paid = True

    def __init__(self):
        self.settings = TeacherSettings(model="openai:m", concurrency=3)
        self.answered = 0
        self.closed = False
        self.stalled = threading.Event()

    async def complete(self, request):
        if self.answered == 5:
            self.stalled.set()
            await asyncio.sleep(60)
        self.answered += 1
        return Completion("because")

    async def explain(self, fault):
        return TeacherError(str(fault))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.closed = True


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_an_interrupt_waits_for_requests_in_flight_and_a_second_one_does_not(ledger, in_a_loop):
    stalling = Stalling()
    notes = []
    noted, ended = threading.Event(), threading.Event()
    pressed = []

    def note(line):
        notes.append(line)
        noted.set()

    def interrupt():
        # Each only while the work waits for it: elsewhere it would end the process of the tests,
        # and pytest-xdist does not say why.
        for waits in (stalling.stalled, noted):
            waits.wait(60)
            # A signal just before asyncio waits would only be noticed at the next event.
            if not ended.wait(0.4) and waits.is_set():
                pressed.append(time.monotonic())
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def run():
        try:
            annotate(
                rows(20),
                strategy="informed_reasoning",
                teacher=stalling,
                task=NLI,
                ledger=ledger,
                options=Options(on_note=note),
            )
        finally:
            ended.set()

    async def notebook():
        run()

    presses = threading.Thread(target=interrupt)
    presses.start()
    with pytest.raises(KeyboardInterrupt):
        if in_a_loop:
            # A notebook's own loop leaves SIGINT to Python, as this one does.
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(notebook())
            finally:
                loop.close()
        else:
            run()
    done = time.monotonic()
    presses.join()
    assert len(pressed) == 2 and done - pressed[-1] < 10
    assert len(ledger) == stalling.answered == 5 and stalling.closed
    assert len(notes) == 1 and "Ctrl-C again" in notes[0]


def test_one_interrupt_lets_requests_in_flight_complete(ledger):
    pressed = []

    def interrupt(body, before):
        if server.requests == 10 and not pressed:
            pressed.append(True)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return Reply("because", delay_s=0.3)

    with ScriptedServer(interrupt) as server:
        with pytest.raises(KeyboardInterrupt):
            reason(rows(60), server, ledger)
        assert 10 <= len(ledger) == server.answered == server.requests < 20
        kept = len(ledger)
        assert reason(rows(60), server, ledger).cached == kept
    assert server.requests == 60


def test_any_teacher_gets_as_many_requests_at_once_as_its_settings_allow(ledger):
    class Counting(Stalling):
        now = most = 0

        async def complete(self, request):
            self.now += 1
            self.most = max(self.most, self.now)
            for _ in range(400):  # on a busy machine the next one may come late
                await asyncio.sleep(0.005)
                if self.most >= self.settings.concurrency:
                    break
            self.now -= 1
            return Completion("because")

    counting = Counting()
    annotate(rows(30), strategy="informed_reasoning", teacher=counting, task=NLI, ledger=ledger)
    assert counting.most == counting.settings.concurrency == 3


def test_an_unexpected_exception_is_not_a_failed_row(ledger):
    class Broken(Stalling):
        async def complete(self, request):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        annotate(rows(3), strategy="informed_reasoning", teacher=Broken(), task=NLI, ledger=ledger)


def test_all_failed_rows_of_one_request_have_the_reason(ledger):
    class Failing(Stalling):
        async def complete(self, request):
            raise RequestFailedError("no such luck", transient=False)

    annotation = annotate(
        rows(6, premises=2), strategy="information_extraction", teacher=Failing(), task=NLI,
        ledger=ledger,
    )  # fmt: skip
    assert annotation.counts["failed"] == 6 and annotation.requests == 2
    assert {r.detail for r in annotation.rationales} == {"no such luck"}


def test_a_killed_run_resumes_with_what_is_missing(tmp_path):
    path, count = tmp_path / "ledger.sqlite", 60

    with ScriptedServer(lambda body, before: Reply("because", delay_s=0.02)) as server:
        command = [sys.executable, str(WORKER), server.base_url, str(path), str(count)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        reported = 0
        for line in worker.stdout:
            reported = int(line)
            if reported >= count // 3:
                worker.kill()  # SIGKILL: no handler, no clean-up
                break
        worker.wait(10)
        assert worker.returncode == -signal.SIGKILL
        with sqlite3.connect(path) as database:
            kept = database.execute("SELECT count(*) FROM answers").fetchone()[0]
        assert count > kept >= reported  # everything that was reported is there
        time.sleep(0.1)  # the server answers the requests in flight
        before = server.requests

        resumed = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert resumed.stdout.splitlines()[-1] == f"end {count - kept} {kept} {count}"
        assert server.requests - before == count - kept
        # No stored answer was requested again; only requests in flight may have been.
        assert sum(n - 1 for n in Counter(server.prompts).values()) <= 4

        again = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert again.stdout.splitlines()[-1] == f"end 0 {count} {count}"
        assert server.requests - before == count - kept
