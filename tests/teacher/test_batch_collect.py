"""Lines of output and error files, whatever they contain, and the charges that they leave."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from batch_worker import IDENTITY, PRICE, pending_requests
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.teacher.batch import table
from tutelage.teacher.batch.collect import BatchCollector, BatchCounts
from tutelage.teacher.batch.jsonl import (
    PackedRequests,
    pack_requests,
    parse_batch,
    parse_line,
    price_as_text,
    price_from_text,
)
from tutelage.teacher.cost.prices import worst_case
from tutelage.teacher.engine.failures import Action
from tutelage.teacher.ledger.charges import Claim, Session, charged, lost, mark_sent
from tutelage.teacher.ledger.store import Ledger

REQUESTS = pending_requests(6)
KEYS = [key for key, _ in REQUESTS]
WORST = worst_case(REQUESTS[0][1], PRICE.batch())


def line(key: str, status: int = 200, body: Any = None, error: Any = None) -> str:
    response = None if error else {"status_code": status, "body": body}
    return json.dumps({"custom_id": key, "response": response, "error": error})


def answer(usage: bool = True, **changes: Any) -> dict[str, Any]:
    choices = [{"message": {"content": "so"}, "finish_reason": "stop"}]
    counted = {"usage": {"prompt_tokens": 5, "completion_tokens": 7}} if usage else {}
    return {"choices": choices, **counted, **changes}


COST = 5 * 200 + 7 * 800
BODIES: list[tuple[int, Any, Any]] = [
    (200, answer(), None),
    (200, answer(usage=False), None),
    (200, {"choices": []}, None),
    (200, {"error": {"message": "upstream"}}, None),
    (200, "cut", None),
    (400, {"error": {"message": "bad", "code": "invalid_value"}}, None),
    (400, {"error": {"message": "flagged", "code": "content_filter"}}, None),
    (429, {"error": {"message": "slow", "code": "rate_limit_exceeded"}}, None),
    (500, {"error": {"message": "oops"}}, None),
    (404, {"error": {"message": "no model", "code": "model_not_found"}}, None),
    (0, None, {"code": "batch_expired", "message": "late"}),
]
lines = st.one_of(
    st.tuples(st.sampled_from([*KEYS, "f" * 64, "x"]), st.sampled_from(BODIES)).map(
        lambda drawn: line(drawn[0], *drawn[1])
    ),
    st.sampled_from(["{", "null", "[]", '{"custom_id": 3}', '{"custom_id": "' + KEYS[0] + '"}']),
)


def opened(ledger: Ledger, session: Session) -> table.BatchRow:
    """A batch of all requests that the server has accepted."""
    now = time.time()
    row = table.BatchRow(
        0, uuid.uuid4().hex, "run", IDENTITY, "m", "http://h/v1", "K", session.id,
        None, None, "building", "", 0, now, now,
    )  # fmt: skip

    def begin(connection: Any) -> int:
        price = price_as_text(PRICE.batch())
        number = table.begin(connection, row, price, pack_requests(REQUESTS))
        claims = [Claim(key, WORST) for key in KEYS]
        reservations = session.reserve(connection, claims, scope="run", cap=None, batch=number)
        mark_sent(connection, [one.charge for one in reservations])
        table.set_requests(connection, number, len(reservations))
        table.note_open(connection, number, "batch_1", "")
        return number

    found = table.row_of(ledger, ledger.transact(begin))
    assert found is not None
    return found


@settings(max_examples=150, deadline=None)
@given(
    output=st.lists(lines, max_size=12),
    errors=st.lists(lines, max_size=6),
    before=st.integers(0, 12),
    completed=st.one_of(st.none(), st.integers(0, 8)),
)
def test_every_request_has_one_result_and_every_charge_a_reason(
    output: list[str], errors: list[str], before: int, completed: int | None
) -> None:
    """Also where a first call was killed after some lines (`before`) and the next starts again."""
    with Ledger(":memory:") as ledger, Session(ledger) as session:
        row = opened(ledger, session)
        first, counts = BatchCounts(), BatchCounts()
        BatchCollector(ledger, row, first).read(output[:before], lambda: None, output=True)
        collector = BatchCollector(ledger, row, counts)
        collector.read(output, lambda: None, output=True)
        collector.read(errors, lambda: None, output=False)
        remote = {"id": "b", "status": "completed", "request_counts": {"completed": completed}}
        batch = parse_batch(remote)
        assert batch is not None
        collector.finish(batch)
        answered = first.answered + counts.answered
        refused = first.refused + counts.refused
        assert answered == len(ledger)
        assert answered + refused + sum(counts.returned.values()) + counts.lost == len(KEYS)
        assert lost(ledger, "run") == (counts.lost, counts.lost * WORST)
        with ledger.reader() as connection:
            paid = connection.execute("SELECT coalesce(sum(pico), 0) FROM answers").fetchone()[0]
            kept = connection.execute("SELECT DISTINCT pico FROM answers").fetchall()
            failed = connection.execute("SELECT count(*) FROM failures").fetchone()[0]
            held = connection.execute("SELECT count(*) FROM charges WHERE state != 'lost'")
            assert held.fetchone() == (0,)
        assert {pico for (pico,) in kept} <= {0, COST, WORST}
        assert failed == refused
        assert charged(ledger, "run") == paid + counts.lost * WORST
        # Every answer that the server reports is charged, parsed or not.
        with ledger.reader() as connection:
            query = "SELECT count(*) FROM answers WHERE finish_reason = 'stop'"
            good = connection.execute(query).fetchone()[0]
        if counts.returned["no line came back for it"]:
            assert counts.lost + good >= (completed or 0)


def test_answers_that_the_server_reports_but_that_are_missing_stay_charged() -> None:
    with Ledger(":memory:") as ledger, Session(ledger) as session:
        row, counts = opened(ledger, session), BatchCounts()
        collector = BatchCollector(ledger, row, counts)
        collector.read([line(KEYS[0], 200, answer())], lambda: None, output=True)
        remote = parse_batch(
            {"id": "b", "status": "expired", "request_counts": {"completed": 3, "total": 6}}
        )
        assert remote is not None
        collector.finish(remote)
        assert (counts.answered, counts.lost, sum(counts.returned.values())) == (1, 2, 3)
        assert charged(ledger, "run") == COST + 2 * WORST
        ended = table.row_of(ledger, row.id)
        assert ended is not None
        assert ended.detail == "expired: 1 answered, 0 refused, 3 to retry, 2 lost"


def test_an_unparsable_answer_stays_charged_even_if_its_request_is_unknown() -> None:
    with Ledger(":memory:") as ledger, Session(ledger) as session:
        row, counts = opened(ledger, session), BatchCounts()
        collector = BatchCollector(ledger, row, counts)
        collector.read(["{", line(KEYS[0], 200, answer())], lambda: None, output=True)
        collector.read(["{", "{"], lambda: None, output=False)  # errors cost nothing
        remote = parse_batch({"id": "b", "status": "completed"})
        assert remote is not None
        collector.finish(remote)
        assert (counts.answered, counts.lost, counts.broken) == (1, 1, 3)
        assert charged(ledger, "run") == COST + WORST


def test_malformed_lines() -> None:
    for text in ("{", "3", "null", '{"custom_id": 3, "response": {"status_code": 200}}'):
        assert parse_line(text).key == "" and parse_line(text).billed
    assert parse_line(line("k", 200, answer())).completion is not None
    upstream = parse_line(line("k", 200, {"error": {"message": "m", "code": 503}}))
    assert upstream.billed and upstream.fault is not None
    assert upstream.fault.action is Action.RETRY
    renamed = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    assert parse_line(line("k", 400, {"error": {"message": renamed}})).rename


def test_packed_requests_and_prices_are_restored_exactly() -> None:
    back = PackedRequests(pack_requests(REQUESTS))
    assert list(back) == KEYS
    for key, request in REQUESTS:
        got = back[key]
        assert (got.model, got.messages, got.strategy, got.sample, got.parameters) == (
            request.model, request.messages, request.strategy, request.sample, request.parameters,
        )  # fmt: skip
    assert len(PackedRequests(b"")) == 0
    batch = PRICE.batch()
    assert price_from_text(price_as_text(batch)) == batch
    assert price_from_text(price_as_text(None)) is None
