"""Annotates with workers of a local Ray cluster while they are killed, and checks what must hold.

    python benchmarks/ray_faults.py                     50,000 rows, 8 workers, some five minutes
    python benchmarks/ray_faults.py --rows 500          a quick look
    python benchmarks/ray_faults.py --curve             answers/s with 1, 2, 4 and 8 workers

A stub server in a process of its own answers each request after 500 ms; each worker has 16 in
flight. A worker is killed every 5 to 15 seconds, and once, half-way, the keeper of budget and
rates. For one row in 1,000 the strategy raises. Then this is checked:

- the output is that of the local engine, byte for byte (which asks a stub that answers at once);
- no answer that was recorded when a worker was killed was asked for again: the server has had no
  more requests beyond one for each row than the ledger has lost charges;
- of what was answered nothing was asked again: no more leases are lost than the killed workers can
  have had in flight;
- the budget holds by the server's own count of requests;
- the rows that raise are counted as failures, and no others are.

--curve gives each point a minute after its workers have begun, without kills; with it the share of
this machine's cores that was busy. Use an otherwise idle machine: a stub and eight workers need two
cores.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tutelage.config.scale_settings import ScaleSettings
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.task import NLI, Task
from tutelage.core.types import Completion, Example, Message, Rationale
from tutelage.scale import annotate_on_ray
from tutelage.scale.annotate_on_ray import asks_on_ray
from tutelage.strategies.informed_reasoning import InformedReasoning
from tutelage.teacher.annotate import Options, annotate_to_file
from tutelage.teacher.ledger.charges import charged, lost
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.summary import Summary

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "teacher"))
from openai_server.process import ServerProcess  # noqa: E402

ANSWER_S, IN_FLIGHT = 0.5, 16
PRICE = {"input": 1.0, "output": 2.0}
COST = 20 * 10**6 + 10 * 2 * 10**6
"""Pico-dollars of an answer: the stub counts 20 and 10 tokens for each."""
SCOPE = "ray faults"


class RaisesForSome(InformedReasoning):
    """Informed reasoning that raises for one row in 1,000."""

    name = "raises_for_some"

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        if int(example.uid[1:]) % 1000 == 7:
            raise ZeroDivisionError("a row that raises")
        return super().render(example, task)

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        return replace(super().parse(completion, example, task), strategy=self.name)


def rows(count: int) -> Iterator[Example]:
    """Rows whose texts differ."""
    for i in range(count):
        premise = f"The number of this row is {i}, and it is one of {count}."
        yield Example(f"r{i}", {"premise": premise, "hypothesis": f"{i} is it."}, NLI.labels[i % 3])


def annotate(count: int, output: Path, base_url: str, workers: int, disk: Path) -> Summary:
    """Annotate `count` rows. workers: 0 for the local engine"""
    settings = TeacherSettings(
        model="openai:m",
        base_url=base_url,
        provider="stub",
        concurrency=IN_FLIGHT if workers else 64,
        max_tokens=20,
        price=PRICE,
        budget_usd=count / 1000,
        max_failed="never",
    )
    ray = ScaleSettings(engine="ray", workers=max(1, workers), worker_folder=str(disk))
    with Ledger(output.with_suffix(".sqlite")) as ledger:
        return annotate_to_file(
            lambda: rows(count),
            output,
            strategy=RaisesForSome(),
            teacher=settings,
            task=NLI,
            ledger=ledger,
            options=Options(budget_name=SCOPE, on_note=lambda line: print(f"  {line}", flush=True)),
            total=count,
            ask=asks_on_ray(ray) if workers else None,
        )


@dataclass
class Killer:
    """Kills workers at random, and the keeper once, until `stop` is set.

    disk: where workers have their folders, named after their processes
    """

    disk: Path
    server: ServerProcess
    rows: int
    every_s: tuple[float, float]
    seed: int
    keeper: Any = None
    workers: int = 0
    keepers: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Have the job hand its keeper over."""
        start = annotate_on_ray.start_keeper

        def kept(*arguments: Any) -> Any:
            self.keeper = start(*arguments)
            return self.keeper

        annotate_on_ray.start_keeper = kept

    def living(self) -> list[int]:
        """The worker processes that live."""
        folders = self.disk.glob("tutelage-workers/*/*/worker-*-*")
        found = {int(folder.name.rpartition("-")[2]) for folder in folders}
        return sorted(pid for pid in found if Path(f"/proc/{pid}").exists())

    def run(self) -> None:
        """Kill."""
        import ray

        drawn = random.Random(self.seed)
        while not self.stop.wait(drawn.uniform(*self.every_s)):
            answered = self.server.stats()["answered"]
            if self.keeper is not None and not self.keepers and answered > self.rows / 2:
                os.kill(ray.get(self.keeper.ready.remote()), signal.SIGKILL)
                self.keepers += 1
                print(f"  the keeper killed at {answered:,} answers", flush=True)
            elif answered and answered < self.rows and (living := self.living()):
                os.kill(drawn.choice(living), signal.SIGKILL)
                self.workers += 1
                print(f"  a worker killed at {answered:,} answers", flush=True)


def faults(count: int, workers: int, seed: int) -> bool:
    """The run with kills. Returns whether everything holds."""
    with tempfile.TemporaryDirectory(prefix="ray-faults-") as name:
        folder = Path(name)
        local, output, disk = folder / "local.jsonl", folder / "ray.jsonl", folder / "disk"
        with ServerProcess(plain=True, delay_s=0.0) as server:
            began = time.perf_counter()
            annotate(count, local, server.base_url, 0, disk)
            print(f"local engine, answers at once: {time.perf_counter() - began:.0f} s", flush=True)
        every = (5.0, 15.0) if count >= 5000 else (3.0, 6.0)
        with ServerProcess(plain=True, delay_s=ANSWER_S) as server:
            killer = Killer(disk, server, count, every, seed)
            killer.watch()
            thread = threading.Thread(target=killer.run, daemon=True)
            thread.start()
            began = time.perf_counter()
            summary = annotate(count, output, server.base_url, workers, disk)
            seconds = time.perf_counter() - began
            killer.stop.set()
            thread.join()
        sent = int(server.final["requests"])
        with Ledger(output.with_suffix(".sqlite")) as ledger:
            recorded = len(ledger)
            total, (gone, pico) = charged(ledger, SCOPE), lost(ledger, SCOPE)
        raised = len(range(7, count, 1000))
        distinct = count - raised
        checks = {
            "the output is that of the local engine": output.read_bytes() == local.read_bytes(),
            "every answer is in the ledger": recorded == distinct,
            "no recorded answer was asked for again": 0 <= sent - distinct <= gone,
            "no more is lost than was in flight": gone <= killer.workers * IN_FLIGHT,
            "the budget holds by the server's count": sent * COST <= total <= count * 10**9,
            "what is charged is what was paid and lost": total == distinct * COST + pico,
            "the rows that raise are the failures": sum(summary.failures.values()) == raised,
            "workers and the keeper were killed": killer.workers > 0 and killer.keepers == 1,
        }
        print(
            f"{count:,} rows, {workers} workers: {seconds:.0f} s ({count / seconds:.0f} rows/s); "
            f"{killer.workers} workers and {killer.keepers} keeper killed; {sent - distinct} "
            f"requests repeated, {gone} leases lost"
        )
        for what, holds in checks.items():
            print(f"  {'yes' if holds else 'NO '}  {what}")
        return all(checks.values())


def busy_seconds() -> tuple[float, float]:
    """Seconds that all cores of this machine have been busy, and have been there."""
    said = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    numbers = [int(number) for number in said.split()[1:]]
    return (sum(numbers) - numbers[3] - numbers[4]) / 100, sum(numbers) / 100


def measured(server: ServerProcess, workers: int, seconds: float) -> str:
    """The cells of one point, from when all workers have as much in flight as they may."""
    deadline = time.monotonic() + 120
    while server.stats()["in_flight"] < 0.9 * workers * IN_FLIGHT and time.monotonic() < deadline:
        time.sleep(0.5)
    first, began, (busy, there) = server.stats(), time.monotonic(), busy_seconds()
    time.sleep(seconds)
    last, took, (busy_2, there_2) = server.stats(), time.monotonic(), busy_seconds()
    rate = (last["answered"] - first["answered"]) / (took - began)
    cores = (busy_2 - busy) / (there_2 - there) * (os.cpu_count() or 1)
    return f"{rate:.0f} | {rate * ANSWER_S / (workers * IN_FLIGHT):.0%} | {cores:.1f}"


def curve(numbers: Sequence[int], seconds: float) -> None:
    """Answers a second by number of workers."""
    print("| workers | answers/s | of what the server allows | cores busy |\n|---|---|---|---|")
    for workers in numbers:
        count = int(workers * IN_FLIGHT / ANSWER_S * (seconds + 30))
        with (
            tempfile.TemporaryDirectory(prefix="ray-curve-") as name,
            ServerProcess(plain=True, delay_s=ANSWER_S) as server,
            ThreadPoolExecutor(1) as pool,
        ):
            point = pool.submit(measured, server, workers, seconds)
            annotate(count, Path(name) / "ray.jsonl", server.base_url, workers, Path(name) / "disk")
            print(f"| {workers} | {point.result()} |", flush=True)


def main() -> int:
    """Run what the options say; 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--curve", action="store_true", help="measure throughput instead")
    parser.add_argument(
        "--points", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="workers of each point"
    )
    parser.add_argument("--seconds", type=float, default=60, help="of each point of the curve")
    options = parser.parse_args()
    if options.curve:
        curve(options.points, options.seconds)
        return 0
    return 0 if faults(options.rows, options.workers, options.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
