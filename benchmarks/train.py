"""How fast a student of T5-small's shape trains and scores, compared with the usual ways.

    make bench-train                          some twenty minutes on two cores
    python benchmarks/train.py --quick        a rehearsal: one step each, without usable ratios
    python benchmarks/train.py --only scoring one of its parts: training, scoring, agreement

All contenders get the same new weights and the same rows (ANLI R1 with ChatGPT's recorded reasoning
as target; see `train_setup.py`). Each runs in a process of its own, one after the other, on a GPU
if torch finds one:

padded       every row 600 and 400 tokens long, padding in the loss, fp32, a plain loop
trainer      transformers' Seq2SeqTrainer, dynamic padding, train_sampling_strategy group_by_length
             (its own measure of length, the input's), fp32 and bf16
tutelage     a training job of this package, without the time of evaluations
tutelage 2x  two such jobs at once, one thread each, as in a search: examples per second and memory
             of both together

generate     writes the whole target, its label first, rows sorted by source, in fp32 and in bf16;
             `padded` as the research code does: fp32, every source 600 tokens, rows in their order.
             Runs on a sample; its rows per second are converted to targets of mean length

examples/s   of rows of mean length: the work done per second divided by the work of a mean row.
             Work is the floating-point operations of the rows, without padding (each contender gets
             other rows in its few steps). `padded` has rows of one length: rows per second
GFLOP/s      the same without the division: what the rows get of the machine's work
peak GB      resident set of the whole process; on a GPU the memory that torch has allocated on it

Needs an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TARGETS = {"padded": 10.0, "trainer": 2.0, "memory": 1 / 3, "scoring": 30.0, "agreement": 0.99}
SHOWN = 30
"""Most differing rows that are listed."""

BATCHES = (1, 8, 32)
"""Batch sizes of `generate`."""

BF16_TOLERANCE = 0.05
"""Largest difference of a label's probability between bf16 and fp32."""


@dataclass(frozen=True)
class Scale:
    """How much is run. Steps are the optimiser steps that are timed.

    batch:                  rows per optimiser step, for the Trainer and for us
    padded_batch:           rows per step of the padded loop: what fits into 20 GB; the paper's 64
                            would need some 50
    tokens_per_micro_batch: for us
    """

    padded_steps: int
    trainer_steps: int
    our_steps: int
    scored: int
    generated: int
    trained_on: int
    epochs: int
    read: int
    batch: int = 32
    padded_batch: int = 16
    tokens_per_micro_batch: int = 4096


FULL = Scale(2, 3, 8, 1000, 64, 6880, 3, 1000)
QUICK = Scale(1, 1, 1, 16, 2, 320, 1, 50, batch=4, padded_batch=1)
ON_GPU = Scale(10, 10, 30, 1000, 256, 6880, 3, 1000, 64, 64, 65_536)


@dataclass(frozen=True)
class Bench:
    """Starts workers on the files that `train_setup.py` has written to `folder`.

    facts: mean lengths, the work of a mean row, the GPU's name or None
    """

    folder: Path
    threads: int
    scale: Scale
    facts: Mapping[str, Any]

    @property
    def on_gpu(self) -> bool:
        return self.facts["gpu"] is not None

    def run(
        self, script: str, name: str, *, cores: int | None = None, copies: int = 1, **options: Any
    ) -> list[dict[str, Any]]:
        """The reports of `copies` workers of `cores` threads, started at once."""
        reports = [self.folder / f"report-{copy}.json" for copy in range(copies)]
        workers = []
        for report in reports:
            report.unlink(missing_ok=True)
            workers.append(
                start(
                    script,
                    [name, self.folder, report, json.dumps(options)],
                    cores or self.threads,
                    report.with_suffix(".log"),
                )
            )
        codes = [worker.wait() for worker in workers]
        for code, report in zip(codes, reports, strict=True):
            if code or not report.exists():
                log = report.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
                raise SystemExit(f"{name} {options}: exit {code}\n{log[-3000:]}")
        return [json.loads(report.read_text(encoding="utf-8")) for report in reports]


def start(
    script: str, arguments: Sequence[object], threads: int, log: Path
) -> subprocess.Popen[bytes]:
    """A worker process with this many threads and without access to a hub."""
    with log.open("w", encoding="utf-8") as output:
        return subprocess.Popen(
            [sys.executable, str(HERE / script), *(str(part) for part in arguments)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(threads),
                "TOKENIZERS_PARALLELISM": "false",
                "HF_HUB_OFFLINE": "1",
            },
        )


@dataclass(frozen=True)
class Line:
    """One contender's figures."""

    name: str
    per_second: float
    gflops: float
    peak_gb: float

    def print(self, first: Line) -> None:
        print(
            f"{self.name:36s}  {self.per_second:10.2f}  {self.per_second / first.per_second:8.2f}x"
            f"  {self.gflops:8.0f}  {self.peak_gb:7.2f}  {self.peak_gb / first.peak_gb:8.2f}x",
            flush=True,
        )


def bench_training(bench: Bench) -> None:
    scale, row = bench.scale, bench.facts["flops"]

    def run(name: str, shown: str, **options: Any) -> Line:
        reports = bench.run("train_contenders.py", name, **options)
        # Rows of one length report no work of their own.
        rate = sum(r.get("work", r["rows"] * row) / r["seconds"] for r in reports)
        peak = sum(r["peak_bytes"] for r in reports) / 1e9
        return Line(shown, rate / row, rate / 1e9, peak)

    print(f"\n{'Training':36s}  examples/s  to padded   GFLOP/s  peak GB  to padded")
    batch = scale.padded_batch
    padded = run(
        "padded", f"padded fp32, batch {batch}", steps=scale.padded_steps, batch_size=batch
    )
    padded.print(padded)
    theirs = []
    for precision in ("fp32", "bf16"):
        theirs.append(
            run(
                "trainer",
                f"trainer {precision}, batch {scale.batch}",
                steps=scale.trainer_steps,
                batch_size=scale.batch,
                precision=precision,
            )
        )
        theirs[-1].print(padded)
    options = {
        "steps": scale.our_steps,
        "batch_size": scale.batch,
        "tokens_per_micro_batch": scale.tokens_per_micro_batch,
    }
    ours = run("ours", f"tutelage, batch {scale.batch}", threads=bench.threads, **options)
    ours.print(padded)
    if not bench.on_gpu:
        shown = f"tutelage {bench.threads}x, one thread each"
        run("ours", shown, threads=1, cores=1, copies=bench.threads, **options).print(padded)
    best = max(line.per_second for line in theirs)
    judge("tutelage to padded", ours.per_second / padded.per_second, TARGETS["padded"])
    judge("tutelage to the Trainer at its best", ours.per_second / best, TARGETS["trainer"])
    judge("tutelage's memory to padded's", ours.peak_gb / padded.peak_gb, TARGETS["memory"], False)


def bench_scoring(bench: Bench) -> None:
    scale, script = bench.scale, "train_scoring.py"

    def measure(name: str, shown: str, precision: str, **options: Any) -> float:
        (report,) = bench.run(
            script,
            name,
            precision=precision,
            rows=scale.scored,
            threads=bench.threads,
            **options,
        )
        if not options:
            return show(shown, report)
        met = f"{report['rows']} rows of {report['tokens']:.0f} tokens"
        return show(shown, report, met, report["tokens"] / report["tokens_of_all"])

    print(f"\nLabels of {scale.scored} rows            rows/s   peak GB")
    scored, generated, padded = {}, {}, {}
    for precision in ("fp32", "bf16"):
        scored[precision] = measure("score", f"score_labels {precision}", precision)
        for size in BATCHES:
            generated[precision, size] = measure(
                "generate",
                f"generate {precision}, batch {size}",
                precision,
                sample=min(scale.generated, 8 * size),
                batch_size=size,
            )
    for size in BATCHES:
        padded[size] = measure(
            "generate",
            f"generate padded, batch {size}",
            "fp32",
            sample=min(scale.generated, 8 * size),
            batch_size=size,
            padded=True,
        )
    best = max(scored.values())
    for size in BATCHES:
        judge(f"score_labels to padded, batch {size}", best / padded[size], TARGETS["scoring"])
    for size in BATCHES:
        slower = max(rate for (_, other), rate in generated.items() if other == size)
        judge(f"score_labels to generate, batch {size}", best / slower, TARGETS["scoring"])


def show(name: str, report: Mapping[str, Any], note: str = "", share: float = 1.0) -> float:
    """share: work of the timed rows, on average, as a share of a mean row's"""
    rate: float = share * report["rows"] / report["seconds"]
    print(f"{name:28s}  {rate:10.2f}  {report['peak_bytes'] / 1e9:7.2f}   {note}", flush=True)
    return rate


def bench_agreement(bench: Bench) -> None:
    scale = bench.scale
    (report,) = bench.run(
        "train_scoring.py",
        "agree",
        rows=scale.read,
        train_rows=scale.trained_on,
        epochs=scale.epochs,
    )
    print(
        f"\nA student trained on {scale.trained_on} rows of synthetic:nli for "
        f"{report['seconds']:.0f} s ({report['accuracy']:.1%} of {scale.read} test rows right)"
    )
    for row in report["differing"][:SHOWN]:
        print(
            f"  {row['uid']}: generated {row['written']}, scored {row['scored']}, "
            f"margin {row['margin']:.3f} nats"
        )
    agreeing = 1 - len(report["differing"]) / scale.read
    judge("rows with the same label generated and scored", agreeing, TARGETS["agreement"])
    margins = [row["margin"] for row in report["bf16_differing"]]
    print(
        f"  rows with another label in bf16: {len(margins)}, with margins in fp32 of at most "
        f"{max(margins, default=0.0):.3f} nats"
    )
    judge(
        "largest change of a probability, bf16 against fp32",
        report["largest_change"],
        BF16_TOLERANCE,
        False,
    )


PARTS: dict[str, Callable[[Bench], None]] = {
    "training": bench_training,
    "scoring": bench_scoring,
    "agreement": bench_agreement,
}


def judge(what: str, found: float, target: float, at_least: bool = True) -> None:
    reached = found >= target if at_least else found <= target
    bound = "at least" if at_least else "at most"
    state = "reached" if reached else "MISSED"
    print(f"  {what}: {found:.3g} ({bound} {target:.3g}: {state})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a rehearsal of a minute or two")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be repeated")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="cores to use")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if start("train_setup.py", [folder], given.threads, folder / "setup.log").wait():
            raise SystemExit((folder / "setup.log").read_text(encoding="utf-8"))
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        print(
            f"{facts['gpu'] or platform.machine()}, {given.threads} threads, torch "
            f"{facts['torch']}, transformers {facts['transformers']}, load average {load:.1f}\n"
            f"{facts['rows']:,d} rows of {facts['source']:.0f} source and {facts['target']:.0f} "
            f"target tokens on average, {facts['flops'] / 1e9:.0f} GFLOP a row"
        )
        if given.quick or load > 0.5:
            print("NOT AN IDLE MACHINE, or --quick: these figures are a rehearsal")
        scale = QUICK if given.quick else ON_GPU if facts["gpu"] else FULL
        bench = Bench(folder, given.threads, scale, facts)
        for part in given.only or PARTS:
            PARTS[part](bench)


if __name__ == "__main__":
    main()
