"""A run against a server that fails in every way it knows: it ends, and the books are right."""

from __future__ import annotations

import json
from pathlib import Path

from ledger_worker import Life, Spec
from openai_server.faults import ODD, ROW, TRANSIENT, spread
from openai_server.server import Server

from tutelage.teacher.accounts import charged
from tutelage.teacher.ledger import Ledger

ROWS = 1500
WINDOW_S = 0.25
REQUESTS, TOKENS = 52, 11_500  # a window; either alone would be exceeded if it were not kept to


def test_a_third_of_all_answers_is_faulty_and_the_run_ends_with_every_row_accounted_for(
    tmp_path: Path,
) -> None:
    with Server(
        seed=5,
        record=False,
        delay_s=0.002,
        delay_spread_s=0.01,
        faults=spread(0.3, [*TRANSIENT, *ODD, *ROW]),
        retry_after_s=0.03,
        slow_s=0.1,
        requests_per_window=REQUESTS,
        tokens_per_window=TOKENS,
        window_s=WINDOW_S,
        bytes_per_token=1.0,
        input_price=1000,
        output_price=4000,
    ) as server:
        spec = Spec(
            base_url=server.base_url,
            ledger=tmp_path / "l.sqlite",
            output=tmp_path / "out.jsonl",
            rows=ROWS,
            concurrency=32,
            timeout_s=0.4,
            price=(1000, 4000),
            requests_per_minute=REQUESTS,
            tokens_per_minute=TOKENS,
            minute_s=WINDOW_S,
            wait_s=0.1,
        )
        end = Life(spec).wait(120)
        server.wait_idle()
        counts = server.counts
    assert end["end"] == "done", end
    # Every row ends answered, or failed with a reason.
    rows = [json.loads(line) for line in spec.output.read_text().splitlines()]
    assert [row["uid"] for row in rows] == [f"r{number}" for number in range(ROWS)]
    failed = [row for row in rows if row["status"] == "failed"]
    assert all(row["text"] for row in rows if row["status"] in ("ok", "truncated"))
    assert all(row["detail"] for row in failed)
    assert sum(end["failures"].values()) == len(failed) == end["counts"]["failed"]
    assert sum(end["counts"].values()) == ROWS and end["counts"]["ok"] > 0.8 * ROWS
    # Every kind of fault was met, and the count of what was sent is the server's.
    assert {"200", "400", "429", "500", "502", "503", "stall", "reset"} <= set(counts.statuses)
    assert end["sent"] == counts.requests > 1.1 * ROWS
    # No limit was ever exceeded, nobody came back too early.
    assert (counts.rate_violations, counts.retried_early) == (0, 0)
    # What the ledger has charged covers what the server bills.
    with Ledger(spec.ledger) as ledger:
        assert 0 < counts.billed_pico <= charged(ledger, "run")
        assert len(ledger) == ROWS - len(failed)
