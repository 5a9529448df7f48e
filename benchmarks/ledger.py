"""Checks the ledger under kills, faults and budgets, against the test server's own counts.

    python benchmarks/ledger.py                      everything; about ten minutes
    python benchmarks/ledger.py once --kills 10 --rows 300
    python benchmarks/ledger.py faults --fault-rows 2000
    python benchmarks/ledger.py budget --budget-runs 20

once:   one run is killed (SIGKILL) many times at random moments. No answer that has reached the
        ledger is lost or requested again, and the server counts at most one request per row, and
        one more for each request that was in flight at a kill.
faults: three in ten requests meet a fault, of every kind that the test server has, under limits of
        requests and tokens per minute. The run ends by itself, with every row answered or failed
        with a reason. No limit is exceeded, and no retry comes before the server's Retry-After.
budget: many small runs with random prices, lengths, concurrency, faults and caps, most of them
        stopped early (SIGKILL, SIGTERM, or Ctrl-C once or twice). The server never bills more than
        the cap; a run that stops because of its budget has less left than one more worst case.

Every annotation is a process of its own, and every kill is real. Prints the counts, and exits with
1 if any check fails. (A million rows from the ledger: see annotate.py.)
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "teacher"))
from faulty_run import REQUESTS, WINDOW_S, faulty_run, faulty_server  # noqa: E402
from ledger_worker import Spec, Worker  # noqa: E402
from openai_server.faults import ODD, ROW, TRANSIENT, spread  # noqa: E402
from openai_server.server import Server  # noqa: E402

from tutelage.teacher.cost.prices import price_of, worst_case  # noqa: E402

_POLL_S = 0.002
_SHOWN = 20  # failed checks that are printed
_QUICK_FAULTS = [kind for kind in [*TRANSIENT, *ODD, *ROW] if kind not in ("stall", "slow")]


@dataclass
class Check:
    """The checks of one section that failed, a line each."""

    name: str
    broken: list[str] = field(default_factory=list)

    def that(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(otherwise)

    def report(self) -> bool:
        """Print the failed checks; returns whether there are none."""
        for line in self.broken[:_SHOWN]:
            print(f"  BROKEN: {line}")
        if len(self.broken) > _SHOWN:
            print(f"  and {len(self.broken) - _SHOWN} more")
        print(f"{self.name}: {'BROKEN' if self.broken else 'holds'}\n", flush=True)
        return not self.broken


@dataclass(frozen=True)
class LedgerState:
    """A ledger on the disk. answers: text by key; sent: keys of the requests in flight."""

    answers: dict[str, str]
    sent: list[str]
    charged: int
    lost: int


def read_ledger(path: Path) -> LedgerState:
    """Read a ledger with SQLite alone, without the code under test."""
    if not path.exists():
        return LedgerState({}, [], 0, 0)
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:

        def rows(query: str) -> list[tuple]:
            try:
                return database.execute(query).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # killed before it had created them
                    return []
                raise

        state = LedgerState(
            {key.hex(): text for key, text in rows("SELECT key, text FROM answers")},
            [key.hex() for (key,) in rows("SELECT key FROM charges WHERE state = 'sent'")],
            sum(pico for (pico,) in rows("SELECT charged FROM budgets")),
            sum(count for (count,) in rows("SELECT count(*) FROM charges WHERE state = 'lost'")),
        )
    database.close()
    return state


class AnswerCheck:
    """Checks the answers of one run after each of its kills: see `once` above."""

    def __init__(self, prompts: dict[str, str], concurrency: int, check: Check) -> None:
        self._prompts = prompts
        self._concurrency = concurrency
        self._check = check
        self._kept: dict[str, str] = {}
        self._requested_by_then: dict[str, int] = {}
        self._in_flight: Counter[str] = Counter()
        self.gone = self.again = 0

    @property
    def in_flight(self) -> int:
        """Requests that were in flight at the kills, summed over the kills."""
        return self._in_flight.total()

    def check(self, state: LedgerState, requested: Counter[str], when: str) -> None:
        """Check after a kill, or at the end. requested: by prompt, as the server counts."""
        check = self._check
        for key, text in self._kept.items():
            gone = state.answers.get(key) != text
            self.gone += gone
            check.that(not gone, f"{when}: an answer is missing: {key}")
        for key, before in self._requested_by_then.items():
            again = requested[self._prompts[key]] != before
            self.again += again
            check.that(not again, f"{when}: requested again with its answer in the ledger: {key}")
        self._in_flight.update(state.sent)
        check.that(
            len(state.sent) <= self._concurrency,
            f"{when}: {len(state.sent)} in flight, {self._concurrency} allowed",
        )
        for key, prompt in self._prompts.items():
            most = 1 + self._in_flight[key]
            check.that(
                requested[prompt] <= most,
                f"{when}: requested {requested[prompt]} times, not {most}: {key}",
            )
        for key in state.answers.keys() - self._kept.keys():
            self._kept[key] = state.answers[key]
            self._requested_by_then[key] = requested[self._prompts[key]]


def once(kills: int, rows: int, seed: int, place: Path) -> bool:
    print(f"once: {kills} kills over one run of {rows:,d} rows")
    rng, check = random.Random(seed), Check("once")
    begun, done, useless = time.monotonic(), 0, 0
    with (
        Server(seed=seed, delay_s=0.02, delay_spread_s=0.04, record=False) as server,
        tempfile.TemporaryDirectory(dir=place) as folder,
    ):
        spec = Spec(
            base_url=server.base_url,
            ledger=Path(folder, "ledger.sqlite"),
            output=Path(folder, "out.jsonl"),
            rows=rows,
        )
        counts = server.counts
        answers = AnswerCheck(spec.prompts(), spec.concurrency, check)
        while done < kills and useless < kills:
            left = rows - len(read_ledger(spec.ledger).answers)
            # From nothing to twice an even share of the remaining rows, and then a random moment.
            share = rng.uniform(0, 2 * left / (kills - done + 1))
            before = counts.requests
            worker = Worker(spec)
            while counts.requests - before < share and not worker.ended:
                time.sleep(_POLL_S)
            time.sleep(rng.uniform(0, 0.06))
            if not worker.kill():
                useless += 1  # it had ended already
                continue
            done += 1
            server.wait_idle()
            answers.check(read_ledger(spec.ledger), counts.asked, f"kill {done}")
        killed_at = len(read_ledger(spec.ledger).answers)
        end = Worker(spec).wait(600)
        server.wait_idle()
        state = read_ledger(spec.ledger)
        answers.check(state, counts.asked, "the end")
        written = (
            len(spec.output.read_text(encoding="utf-8").splitlines()) if spec.output.exists() else 0
        )
        left_behind = [path.name for path in Path(folder).iterdir() if path.name[0] == "."]
    check.that(done == kills, f"{done} of {kills} kills met a running process")
    check.that(end.get("counts", {}).get("ok") == rows, f"the last run returned {end}")
    check.that(len(state.answers) == rows, f"{len(state.answers)} answers in the ledger")
    check.that(written == rows, f"{written} rationales in the output")
    check.that(state.sent == [], f"{len(state.sent)} charges still open at the end")
    check.that(not left_behind, f"files left behind: {left_behind}")
    most = rows + answers.in_flight
    check.that(counts.requests <= most, f"{counts.requests} requests, at most {most}")
    print(
        f"  kills {done}, answers after the last of them {killed_at:,d}\n"
        f"  in flight at the kills, in total {answers.in_flight:,d}\n"
        f"  requests counted by the server {counts.requests:,d} <= {rows:,d} + "
        f"{answers.in_flight:,d} (repeated "
        f"{sum(times - 1 for times in counts.asked.values()):,d})\n"
        f"  answers lost {answers.gone}, repeated with an answer in the ledger {answers.again}\n"
        f"  {time.monotonic() - begun:.0f} s"
    )
    return check.report()


def faults(rows: int, seed: int, place: Path) -> bool:
    print(f"faults: {rows:,d} rows, 30% of answers faulty")
    check, begun = Check("faults"), time.monotonic()
    with faulty_server(seed) as server, tempfile.TemporaryDirectory(dir=place) as folder:
        spec = faulty_run(server, Path(folder), rows)
        end = Worker(spec).wait(60 + rows / 10)
        server.wait_idle()
        counts, state = server.counts, read_ledger(spec.ledger)
        if end["end"] != "done":
            check.that(False, f"the run ended with {end}")
            return check.report()
        written = [
            json.loads(line) for line in spec.output.read_text(encoding="utf-8").splitlines()
        ]
    statuses = Counter(row["status"] for row in written)
    silent = sum(1 for row in written if row["status"] == "failed" and not row["detail"])
    check.that(len(written) == rows, f"{len(written)} rows in the output")
    check.that(dict(statuses) == {k: n for k, n in end["counts"].items() if n}, f"{end} {statuses}")
    check.that(silent == 0, f"{silent} rows failed without a reason")
    check.that(len(state.answers) + statuses["failed"] == rows, f"{len(state.answers)} answers")
    check.that(
        end["attempts"] == counts.requests, f"sent {end['attempts']}, server {counts.requests}"
    )
    check.that(counts.rate_violations == 0, f"{counts.rate_violations} above a limit")
    check.that(counts.retried_early == 0, f"{counts.retried_early} before their Retry-After")
    check.that(
        counts.billed_pico <= state.charged, f"billed {counts.billed_pico}, charged {state.charged}"
    )
    took = time.monotonic() - begun
    print(
        f"  rows by status {dict(statuses)}\n"
        f"  requests counted by the server {counts.requests:,d}, by response "
        f"{dict(counts.statuses)}\n"
        f"  above a limit {counts.rate_violations}, before their Retry-After "
        f"{counts.retried_early}\n"
        f"  billed {counts.billed_pico / 1e12:.4f} $ <= charged {state.charged / 1e12:.4f} $ "
        f"({state.lost:,d} requests lost)\n"
        f"  {took:.0f} s: {counts.requests / took:.0f} requests per second of at most "
        f"{REQUESTS / WINDOW_S:.0f}"
    )
    return check.report()


def _interrupt(worker: Worker, rng: random.Random) -> str:
    """Stop a run in a random way; returns how, or "ended"."""
    how = rng.choice(["kill", "kill", "Ctrl-C", "Ctrl-C twice", "SIGTERM"])
    if how == "kill":
        return how if worker.kill() else "ended"
    for _ in range(2 if how == "Ctrl-C twice" else 1):
        if worker.ended:
            return "ended"
        if how == "SIGTERM":
            worker.terminate()
        else:
            worker.interrupt()
        time.sleep(rng.uniform(0, 0.01))
    exit_code = worker.wait()["exit"]
    return how if exit_code != 0 else "ended"


def budget(runs: int, seed: int, place: Path) -> bool:
    print(f"budget: {runs:,d} runs with random caps")
    rng, check = random.Random(seed), Check("budget")
    begun, stops, ends = time.monotonic(), Counter(), Counter()
    tightest, left_most = 0.0, 0.0
    with Server(record=False) as server, tempfile.TemporaryDirectory(dir=place) as folder:
        counts = server.counts
        for number in range(runs):
            price = (1000 * rng.randint(1, 30), 1000 * rng.randint(1, 120))
            server.change(
                seed=seed + number,
                delay_s=rng.choice([0.0, 0.005]),
                delay_spread_s=rng.choice([0.0, 0.01]),
                input_price=price[0],
                output_price=price[1],
                bytes_per_token=rng.choice([1.0, 4.0]),
                reasoning=rng.choice(["none", "details", "total"]),
                cached_share=rng.choice([0.0, 0.5]),
                faults=rng.choice(
                    [
                        {},
                        spread(0.3, _QUICK_FAULTS),
                        {"no_usage": 0.3, "reset_body": 0.2},
                        {"zero_usage": 0.9},
                    ]
                ),
                retry_after_s=0.005,
            )
            spec = Spec(
                base_url=server.base_url,
                ledger=Path(folder, f"{number}.sqlite"),
                output=Path(folder, "out.jsonl"),
                rows=rng.randint(5, 60),
                topic=f"Run {number}, row",
                length=rng.choice([0, 200]),
                concurrency=rng.choice([1, 2, 4, 8, 16]),
                max_tokens=rng.choice([1, 20, 200]),
                price=price,
                wait_s=0.01,
            )
            tariff = price_of("m", override=spec.settings().price)
            worst = {key: worst_case(request, tariff) for key, request in spec.requests()}
            cap = int(rng.uniform(0, 1.1) * sum(worst.values())) // 10**6 * 10**6
            spec = replace(spec, cap=cap)
            billed_before, requests_before = counts.billed_pico, counts.requests
            for _ in range(rng.choice([0, 1, 1, 2, 3])):
                worker = Worker(spec)
                share = rng.uniform(0, spec.rows / 2)
                before = counts.requests
                patience = time.monotonic() + 2.0
                while (
                    counts.requests - before < share
                    and not worker.ended
                    and time.monotonic() < patience
                ):
                    time.sleep(_POLL_S)
                time.sleep(rng.uniform(0, 0.01))
                stops[_interrupt(worker, rng)] += 1
            end = Worker(spec).wait()
            server.wait_idle()
            state = read_ledger(spec.ledger)
            billed = counts.billed_pico - billed_before
            ends[end.get("end", "?")] += 1
            name = f"run {number} (cap {cap}, {counts.requests - requests_before} requests)"
            check.that(end.get("end") in ("done", "budget"), f"{name} ended with {end}")
            check.that(billed <= cap, f"{name}: {billed} billed")
            check.that(billed <= state.charged, f"{name}: {billed} billed, {state.charged} charged")
            check.that(state.charged <= cap, f"{name}: {state.charged} charged")
            check.that(state.sent == [], f"{name}: charges still open")
            if end.get("end") == "budget":
                more = max(pico for key, pico in worst.items() if key not in state.answers)
                check.that(
                    cap - state.charged < more,
                    f"{name}: {cap - state.charged} left, but one more costs {more} at most",
                )
                left_most = max(left_most, (cap - state.charged) / more)
            if cap:
                tightest = max(tightest, billed / cap)
            for path in Path(folder).glob(f"{number}.sqlite*"):
                if path.is_file():
                    path.unlink()
    print(
        f"  runs {runs:,d}: {dict(ends)}; stopped early: {dict(stops)}\n"
        f"  billed at most {tightest:.1%} of the cap; left at the end of the budget at most "
        f"{left_most:.1%} of one more worst case\n"
        f"  requests counted by the server {counts.requests:,d}, "
        f"billed {counts.billed_pico / 1e12:.4f} $\n"
        f"  {time.monotonic() - begun:.0f} s"
    )
    return check.report()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sections = ("once", "faults", "budget")
    parser.add_argument("sections", nargs="*", help=f"from {', '.join(sections)}; all by default")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rows", type=int, default=5000, help="of the run that is killed")
    parser.add_argument("--fault-rows", type=int, default=20_000)
    parser.add_argument("--budget-runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the temporary ledgers")
    given = parser.parse_args()
    unknown = set(given.sections) - set(sections)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    place = Path(given.folder or tempfile.gettempdir()).resolve()
    work: dict[str, Callable[[], bool]] = {
        "once": lambda: once(given.kills, given.rows, given.seed, place),
        "faults": lambda: faults(given.fault_rows, given.seed, place),
        "budget": lambda: budget(given.budget_runs, given.seed, place),
    }
    held = [work[name]() for name in given.sections or sections]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
