"""A run against a server with every kind of fault: it ends, and its charges are right."""

from __future__ import annotations

import json
from pathlib import Path

from faulty_run import faulty_run, faulty_server
from ledger_worker import Worker

from tutelage.teacher.ledger.charges import charged
from tutelage.teacher.ledger.store import Ledger

ROWS = 1500


def test_a_run_with_a_third_of_faulty_answers_ends_with_a_result_for_every_row(
    tmp_path: Path,
) -> None:
    with faulty_server(seed=5) as server:
        spec = faulty_run(server, tmp_path, ROWS)
        end = Worker(spec).wait(120)
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
    # Every kind of fault occurred, and both sides count the same attempts.
    assert {"200", "400", "429", "500", "502", "503", "stall", "reset"} <= set(counts.statuses)
    assert end["attempts"] == counts.requests > 1.1 * ROWS
    # No limit was exceeded, and no retry came too early.
    assert (counts.rate_violations, counts.retried_early) == (0, 0)
    # The charges in the ledger cover what the server bills.
    with Ledger(spec.ledger) as ledger:
        assert 0 < counts.billed_pico <= charged(ledger, "run")
        assert len(ledger) == ROWS - len(failed)
