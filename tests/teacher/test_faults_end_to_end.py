"""A run against a server that fails in every way it knows: it ends, and the books are right."""

from __future__ import annotations

import json
from pathlib import Path

from faulty_run import faulty_run, faulty_server
from ledger_worker import Life

from tutelage.teacher.ledger.charges import charged
from tutelage.teacher.ledger.store import Ledger

ROWS = 1500


def test_a_third_of_all_answers_is_faulty_and_the_run_ends_with_every_row_accounted_for(
    tmp_path: Path,
) -> None:
    with faulty_server(seed=5) as server:
        spec = faulty_run(server, tmp_path, ROWS)
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
