"""The batch API, against a server that stores files and batches, and that can fail."""

from __future__ import annotations

import dataclasses
import multiprocessing
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from batch_worker import (
    IDENTITY,
    PRICE,
    QUICK,
    batches,
    killed,
    limits,
    pending,
    pending_requests,
    run,
)
from openai_server.faults import KINDS, Reply
from openai_server.server import Server

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import (
    AuthenticationError,
    ServerUnreachableError,
    TeacherError,
    UsageError,
)
from tutelage.teacher.batch import server as batch_server
from tutelage.teacher.batch.batches import forget, held_among, open_keys, rows_of
from tutelage.teacher.batch.jsonl import RemoteBatch, parse_batch
from tutelage.teacher.cost.prices import worst_case
from tutelage.teacher.engine.requests import PendingRequest
from tutelage.teacher.ledger.charges import (
    Claim,
    ReservationStatus,
    Session,
    charged,
    final_failures,
    lost,
)
from tutelage.teacher.ledger.store import Ledger


def serve(behave: Any = None, **options: Any) -> Server:
    """A server with prices, whose batches enter their next state at every poll."""
    return Server(behave, batch_polls=0, input_price=400, output_price=1600, **options)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture
def session(ledger: Ledger) -> Iterator[Session]:
    with Session(ledger) as opened:
        yield opened


def nothing_is_open(ledger: Ledger) -> bool:
    with ledger.reader() as connection:
        held = connection.execute("SELECT count(*) FROM charges WHERE state != 'lost'").fetchone()
        kept = connection.execute(
            "SELECT count(*) FROM batches WHERE state != 'ended' OR questions IS NOT NULL"
        ).fetchone()
    return held == (0,) and kept == (0,)


def test_every_request_is_answered_once_at_half_the_price(ledger: Ledger, session: Session) -> None:
    requests = pending_requests(7)
    with serve() as server, batches(session, server.base_url) as ours:
        submitted = ours.submit(iter(requests))
        assert (submitted.requests, submitted.batches, submitted.over_budget) == (7, 4, None)
        assert held_among(ledger, [key for key, _ in requests]) == set(open_keys(ledger))
        with ledger.reader() as connection:
            states = connection.execute("SELECT DISTINCT state FROM charges").fetchall()
        assert states == [("sent",)]  # if the process dies now they stay charged
        collected = ours.collect(wait=True)
        assert (collected.answered, collected.open, sum(collected.returned.values())) == (7, (), 0)
        assert ours.submit(requests).cached == 7
        assert set(server.counts.asked.values()) == {1}
        assert charged(ledger, "run") == server.counts.billed_pico > 0
    assert nothing_is_open(ledger)
    for key, request in requests:
        answer = ledger.get(key)
        assert answer is not None and answer.text == f"Because of {request.messages[0].content}"


def test_answers_are_stored_as_those_of_live_requests_are(ledger: Ledger, session: Session) -> None:
    key, request = pending("Warum „so“?\u2028é", sample=3, parameters={"max_tokens": 9, "seed": 1})
    with (
        serve(text="so\u2028und\u0085so, {prompt}") as server,
        batches(session, server.base_url) as ours,
    ):
        ours.submit([PendingRequest(key, request)])
        ours.collect(wait=True)
    with Ledger(":memory:") as other:
        answer = ledger.get(key)
        assert answer is not None and "\u2028und\u0085" in answer.text
        other.put(key, request, answer, identity=IDENTITY)
        columns = "key, identity, model, strategy, messages, parameters, sample, text"
        rows = []
        for book in (ledger, other):
            with book.reader() as connection:
                rows.append(connection.execute(f"SELECT {columns} FROM answers").fetchall())
    assert rows[0] == rows[1]


def test_files_keep_to_the_byte_limit(session: Session) -> None:
    requests = [pending(f"{number} " + "x" * 50 * (number % 7)) for number in range(30)]
    with serve(batch_max_bytes=1500) as server:
        with batches(session, server.base_url, limits=limits(max_bytes=1500)) as ours:
            assert ours.submit(requests).batches > 5
            assert ours.collect(wait=True).answered == 30
        assert server.counts.statuses["413"] == 0


FATES = {
    "400": ("refused", 0),
    "context_length": ("refused", 0),
    "400_filter": ("filtered", 0),
    "length": ("answered", None),
    "refusal": ("answered", None),
    "no_usage": ("answered", "worst"),
    "line_twice": ("answered", None),
    "429": ("returned", 0),
    "stall": ("returned", 0),
    "502": ("lost", "worst"),
    "empty_choices": ("lost", "worst"),
    "line_mangled": ("lost", "worst"),
    "line_missing": ("lost", "worst"),
}


@pytest.mark.parametrize("kind", FATES)
def test_the_result_of_each_kind_of_line(kind: str, ledger: Ledger, session: Session) -> None:
    fate, cost = FATES[kind]
    odd = pending("odd")

    def behave(body: dict[str, Any], before: int) -> Reply | None:
        return KINDS[kind](server.options) if body["messages"][0]["content"] == "odd" else None

    with serve(behave) as server:
        with batches(session, server.base_url, limits=limits()) as ours:
            ours.submit([odd, *pending_requests(3)])
            before = charged(ledger, "run")
            assert before == sum(
                worst_case(r, PRICE.batch()) for _, r in [odd, *pending_requests(3)]
            )
            got = ours.collect(wait=True)
        billed = server.counts.billed_pico
    results = {
        "refused": got.refused,
        "returned": sum(got.returned.values()),
        "lost": got.lost,
        "answered": got.answered - 3,
        "filtered": got.answered - 3,
    }
    assert results[fate] == 1 and got.answered + got.refused + got.lost + results["returned"] == 4
    answer = ledger.get(odd[0])
    assert (answer is not None) == (fate in ("answered", "filtered"))
    if fate == "filtered":
        assert answer is not None and (answer.text, answer.finish_reason) == ("", "content_filter")
    with ledger.reader() as connection:
        failures = final_failures(connection, [odd[0]])
    assert bool(failures) == (fate == "refused")
    others = charged(ledger, "run") - (worst_case(odd[1], PRICE.batch()) if cost == "worst" else 0)
    assert charged(ledger, "run") >= billed
    if cost != "worst":
        assert charged(ledger, "run") == billed
    else:
        assert 0 < others <= billed
    assert got.duplicates == (kind == "line_twice")
    assert nothing_is_open(ledger)


def test_a_fault_that_concerns_all_requests_is_reported_as_a_problem(
    ledger: Ledger, session: Session
) -> None:
    with serve(refuses=("seed",)) as server, batches(session, server.base_url) as ours:
        ours.submit([pending("a", parameters={"seed": 1}), pending("b", parameters={})])
        got = ours.collect(wait=True)
    assert got.answered == 1 and sum(got.returned.values()) == 1
    (problem,) = got.problems
    assert "'seed'" in problem and server.base_url.split("/v1")[0] in problem


def test_a_model_that_requires_the_newer_name_of_max_tokens_gets_it(
    ledger: Ledger, session: Session
) -> None:
    with serve(refuses=("max_tokens",)) as server, batches(session, server.base_url) as ours:
        ours.submit(pending_requests(3))
        first = ours.collect(wait=True)
        assert (first.answered, first.problems) == (0, ()) and sum(first.returned.values()) == 3
        ours.submit(pending_requests(3))
        assert ours.collect(wait=True).answered == 3
    with ledger.reader() as connection:
        kept = connection.execute("SELECT DISTINCT parameters FROM answers").fetchall()
    assert kept == [('{"max_tokens": 20}',)]


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_the_answers_of_a_batch_that_ended_early_are_kept(
    end: str, ledger: Ledger, session: Session
) -> None:
    ends = ("expired",) if end == "expired" else ("stuck",)
    with serve(batch_ends=ends) as server:
        with batches(session, server.base_url, limits=limits()) as ours:
            ours.submit(pending_requests(8))
            if end == "cancelled":
                got = ours.collect(wait=False)  # now it is in progress, and half of it is done
                assert len(got.open) == 1 and got.open[0].detail.startswith("in_progress")
                assert ours.cancel() == 1
            got = ours.collect(wait=True)
            assert got.answered == 4 and dict(got.returned) == {f"batch_{end}": 4}
            assert charged(ledger, "run") == server.counts.billed_pico
            assert ours.submit(pending_requests(8)).requests == 4
            assert ours.collect(wait=True).answered == 4
            assert ours.cancel() == 0
        assert set(server.counts.asked.values()) == {1}
        assert charged(ledger, "run") == server.counts.billed_pico


def test_an_invalid_batch_costs_nothing_and_reports_the_reason(
    ledger: Ledger, session: Session
) -> None:
    with (
        serve(batch_ends=("failed",)) as server,
        batches(session, server.base_url, limits=limits()) as ours,
    ):
        ours.submit(pending_requests(3))
        got = ours.collect(wait=True)
    (problem,) = got.problems
    assert "could not be processed" in problem and "3 requests" in problem
    assert "\n" not in problem
    assert sum(got.returned.values()) == 3 and charged(ledger, "run") == 0
    assert nothing_is_open(ledger)


def test_batches_become_smaller_where_the_queue_is_full(ledger: Ledger, session: Session) -> None:
    with (
        serve(batch_max_tokens=40) as server,
        batches(session, server.base_url, limits=limits()) as ours,
    ):
        for _ in range(12):
            ours.submit(pending_requests(8))
            assert ours.collect(wait=True).problems == ()
            if len(ledger) == 8:
                break
    assert len(ledger) == 8 and charged(ledger, "run") == server.counts.billed_pico


@pytest.mark.parametrize(
    "faults",
    [
        {"upload": ["500", "reset", "429_retry_after"]},
        {"retrieve": ["500", "reset", "cut", "502", "429", "html"]},
        {"content": ["cut", "500", "reset"]},
        {"create": ["429", "500", "reset"]},
        {"create": ["lost"], "list": ["500"]},
        {"create": ["cut", "lost"]},
        {"create": ["silent"]},
        {"create": ["503", "lost"]},
    ],
    ids=lambda faults: "-".join(f"{call}:{','.join(hows)}" for call, hows in faults.items()),
)
def test_no_request_is_made_twice_where_calls_or_their_answers_are_lost(
    faults: dict[str, list[str]], ledger: Ledger, session: Session
) -> None:
    # By the clock: a batch whose creation was not confirmed is processed as well.
    with serve(call_faults=faults, batch_step_s=0.0) as server:
        with batches(session, server.base_url, timeout_s=0.3) as ours:
            assert ours.submit(pending_requests(5)).requests == 5
            assert ours.collect(wait=True).answered == 5
        assert set(server.counts.asked.values()) == {1}
        assert charged(ledger, "run") == server.counts.billed_pico
    assert nothing_is_open(ledger)


@pytest.mark.parametrize("forgotten", ["tag", "input_file"])
def test_a_batch_is_recognised_by_its_tag_or_its_file(
    forgotten: str, ledger: Ledger, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget_one(value: Mapping[str, Any]) -> RemoteBatch | None:
        batch = parse_batch(value)
        return None if batch is None else dataclasses.replace(batch, **{forgotten: None})

    monkeypatch.setattr(batch_server, "parse_batch", forget_one)
    with serve(call_faults={"create": ["lost"]}, batch_step_s=0.0) as server:
        with batches(session, server.base_url) as ours:
            ours.submit(pending_requests(2))
            assert ours.collect(wait=True).answered == 2
        assert server.counts.calls["create"] == 1 and server.counts.batch_requests == 2


def test_all_pages_of_the_list_are_read(session: Session) -> None:
    with serve() as server:
        with batches(session, server.base_url, limits=limits(max_requests=1)) as ours:
            ours.submit(pending_requests(5))
        settings = TeacherSettings(model="openai:m", base_url=server.base_url)
        ours_again = batch_server.BatchServer(settings, QUICK, page=2)
        assert len({remote.id for remote in ours_again.batches()}) == 5
        assert server.counts.calls["list"] == 3
        ours_again.close()


def test_a_server_that_does_not_answer_is_given_up_after_a_while(
    ledger: Ledger, session: Session
) -> None:
    patient = limits(give_up_s=0.1)
    with serve() as server, batches(session, server.base_url, limits=patient) as ours:
        ours.submit(pending_requests(2))
    with batches(session, server.base_url, limits=patient) as ours:
        with pytest.raises(ServerUnreachableError, match="run again"):
            ours.collect(wait=True)
        with pytest.raises(ServerUnreachableError):
            ours.submit([pending("new")])
    assert len(rows_of(ledger, states=["open"])) == 1
    assert len(held_among(ledger, [key for key, _ in pending_requests(2)])) == 2
    assert held_among(ledger, [pending("new")[0]]) == set()


def test_a_server_that_cannot_list_stops_the_run_with_instructions(
    ledger: Ledger, session: Session
) -> None:
    with (
        serve(batch_list=False, call_faults={"create": ["lost", "lost"]}) as server,
        batches(session, server.base_url, timeout_s=0.3, limits=limits()) as ours,
    ):
        with pytest.raises(TeacherError, match=r"cannot list .*--adopt 1=.*--forget 1"):
            ours.submit(pending_requests(2))
        with pytest.raises(TeacherError, match="cannot list"):
            ours.reconcile()
        assert ours.submit(pending_requests(2)).held == 2  # no request is made again meanwhile
        with pytest.raises(UsageError, match="is another batch"):
            with pytest.raises(TeacherError, match="cannot list"):
                ours.submit([pending("another")])
            ours.adopt(1, "batch_000004")
        ours.adopt(1, "batch_000002")
        assert ours.collect(wait=True).answered == 2
        worst = charged(ledger, "run") - server.counts.billed_pico
        assert worst == worst_case(pending("another")[1], PRICE.batch())
        assert forget(session, 2) == 1
    assert lost(ledger, "run") == (1, worst) and nothing_is_open(ledger)
    with pytest.raises(UsageError, match="batch 2"):
        forget(session, 2)


def test_a_server_without_a_batch_api_is_reported(ledger: Ledger, session: Session) -> None:
    with (
        serve(call_faults={"upload": ["404_model"]}) as server,
        batches(session, server.base_url) as ours,
        pytest.raises(TeacherError, match=r"no batch API.*mode: live"),
    ):
        ours.submit(pending_requests(2))
    assert charged(ledger, "run") == 0 and nothing_is_open(ledger)


def test_the_budget_is_kept_and_the_first_request_above_it_is_reported(
    ledger: Ledger, session: Session
) -> None:
    requests = pending_requests(6)
    worst = worst_case(requests[0][1], PRICE.batch())
    cap = 3 * worst + worst // 2
    with serve() as server:
        with batches(session, server.base_url, cap=cap) as ours:
            submitted = ours.submit(requests)
            assert (submitted.requests, submitted.batches) == (3, 2)
            assert submitted.over_budget == Claim(requests[3][0], worst)
            assert charged(ledger, "run") <= cap
            ours.collect(wait=True)
            while (more := ours.submit(requests)).requests:
                assert charged(ledger, "run") <= cap
                ours.collect(wait=True)
        assert server.counts.billed_pico == charged(ledger, "run") <= cap
        assert more.over_budget is None or charged(ledger, "run") + worst > cap


def test_a_later_call_collects_the_batches_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with serve() as server:
        with (
            Ledger(path) as ledger,
            Session(ledger) as first,
            batches(first, server.base_url) as ours,
        ):
            ours.submit(pending_requests(3))
            got = ours.collect(wait=False)
            assert (got.answered, len(got.open)) == (0, 2)
        with Ledger(path) as ledger, Session(ledger) as second:
            key = pending_requests(1)[0][0]
            claims = [Claim(key, 1)]
            (live,) = ledger.transact(lambda c: second.reserve(c, claims, scope="other", cap=None))
            assert live.status is ReservationStatus.BATCHED
            with batches(second, server.base_url, scope="other") as ours:
                assert ours.collect(wait=True).answered == 0
                assert ours.collect(wait=True, everything=True).answered == 3
            assert charged(ledger, "run") == server.counts.billed_pico
            assert charged(ledger, "other") == 0


def test_a_batch_of_another_live_process_is_left_to_it(ledger: Ledger, session: Session) -> None:
    with (
        serve() as server,
        Session(ledger) as other,
        batches(other, server.base_url) as theirs,
        batches(session, server.base_url) as ours,
    ):
        theirs.submit(pending_requests(2))
        for _ in range(5):
            got = ours.collect(wait=False)
        assert got.answered == 0 and len(got.open) == 1
        with pytest.raises(UsageError, match="no running process handles"):
            forget(session, 1)
        assert theirs.collect(wait=True).answered == 2


def test_the_api_key_appears_nowhere(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-very-secret-key-0123456789"
    monkeypatch.setenv("OTHER_KEY", key)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-ours")
    messages: list[str] = []

    def behave(body: dict[str, Any], before: int) -> Reply | None:
        text = body["messages"][0]["content"]
        if text == "refuse":
            return Reply(status=400, body={"error": {"message": f"no, {key}", "code": "bad"}})
        return Reply(text=f"You are {key}") if text == "tell" else None

    with serve(behave, api_key=key) as server:
        with batches(session, server.base_url, api_key_env="OTHER_KEY") as ours:
            ours.submit([pending("tell"), pending("refuse")])
            assert ours.collect(wait=True).answered == 1
        monkeypatch.setenv("OTHER_KEY", key + "-wrong")
        with batches(session, server.base_url, api_key_env="OTHER_KEY") as ours:
            with pytest.raises(AuthenticationError, match="OTHER_KEY") as caught:
                ours.submit(pending_requests(1))
            messages.append(str(caught.value))
    assert key not in "".join(messages)
    for path in tmp_path.iterdir():
        if path.is_file():
            assert key.encode() not in path.read_bytes(), path
    with pytest.raises(AuthenticationError, match="NO_SUCH_KEY"):
        batches(session, "https://api.openai.com/v1", api_key_env="NO_SUCH_KEY").submit(
            pending_requests(1)
        )


class _Redirecting(BaseHTTPRequestHandler):
    """Redirects every call to another host name, and keeps the headers of both calls."""

    seen: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        host = self.headers["Host"]
        self.seen.append((host.split(":")[0], {k.lower(): v for k, v in self.headers.items()}))
        if host.startswith("127."):
            self.send_response(307)
            self.send_header("Location", f"http://localhost:{host.split(':')[1]}{self.path}")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"id": "b", "status": "in_progress"}')

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize("key", ["", "sk-0123456789"])
def test_the_key_is_sent_to_the_server_alone(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-ours")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another")
    _Redirecting.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Redirecting) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        ours = batch_server.BatchServer(
            TeacherSettings(
                model="openai:m",
                base_url=f"http://127.0.0.1:{http.server_port}/v1?api-version=7",
                api_key_env="SOME_KEY",
            ),
            QUICK,
        )
        assert ours.retrieve("b").status == "in_progress"
        ours.close()
        http.shutdown()
    (first, sent), (second, forwarded) = _Redirecting.seen
    assert (first, second) == ("127.0.0.1", "localhost")
    assert sent.get("authorization") == (f"Bearer {key}" if key else None)
    assert "authorization" not in forwarded
    assert not {"openai-organization", "openai-project"} & {*sent, *forwarded}


# Killed at every step.

_COUNT = 3
_STEPS = 24
"""Steps of a whole run of three requests in two batches; the last test counts them."""


def _killed(*arguments: Any) -> int | None:
    """The exit code of `killed` in a fork, which has everything imported."""
    process = multiprocessing.get_context("fork").Process(target=killed, args=arguments)
    process.start()
    process.join(30)
    return process.exitcode


@pytest.mark.parametrize("step", range(1, _STEPS + 1))
def test_the_next_call_continues_after_a_kill_at_any_step(step: int, tmp_path: Path) -> None:
    path, result = tmp_path / "ledger.sqlite", tmp_path / "result"
    with serve(batch_step_s=0.0) as server:
        assert _killed(path, server.base_url, _COUNT, step, result) == -9, result.read_text()
        run(path, server.base_url, _COUNT)
        counts = server.counts
    assert sum(counts.asked.values()) == len(counts.asked) == counts.batch_answered == _COUNT
    with Ledger(path) as ledger:
        assert len(ledger) == _COUNT and nothing_is_open(ledger)
        assert charged(ledger, "run") == counts.billed_pico
        assert lost(ledger, "run") == (0, 0)


def test_the_number_of_steps_above_is_complete(tmp_path: Path) -> None:
    result = tmp_path / "result"
    with serve(batch_step_s=0.0) as server:
        assert _killed(tmp_path / "ledger.sqlite", server.base_url, _COUNT, 0, result) == 0
    assert result.read_text() == str(_STEPS)
