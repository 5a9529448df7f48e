"""Measures `tutelage predict` on a file with many rows, killed twice and resumed.

    python benchmarks/predict_rows.py                1,000,000 rows
    python benchmarks/predict_rows.py 50000          fewer
    python benchmarks/predict_rows.py --workers 2    in two processes

The rows are messages of six words and a number (benchmarks/rows.py); the student is a new one of
0.2 million weights, trained on 400 of them. The command runs once undisturbed: time, rows a second,
and the peak memory of all its processes together. Then it runs again, is killed (SIGKILL, with all
its processes) at two random places, and resumed with --resume each time. `skipped` is the time from
the start of a resumed command to its first new rows, start-up included. Exits with 1 where the two
files differ, or where the memory exceeds 1 GB. Use an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from rows import QUEUES, write

LIMIT_MB = 1000
_POLL_S = 0.1


@dataclass
class Measured:
    """One call of the command. first_s: until the part of the output grew; -1 where it never did"""

    seconds: float
    peak_mb: float
    first_s: float
    killed: bool


def train(folder: Path) -> Path:
    """Train a tiny student on some rows; returns its checkpoint."""
    from tutelage.config.training_settings import TrainSettings
    from tutelage.core.task import Task
    from tutelage.data.load import load_examples
    from tutelage.student.encoding.targets import build_training_examples
    from tutelage.student.jobs.jobs import TrainingJob, run_job
    from tutelage.student.model.scratch import tokenizer_for

    data = folder / "train.csv"
    write(data, 400, ids=False)
    # Words of one token: a label of several makes the decoder run again.
    words = dict(zip(QUEUES, ("password", "invoice", "printer", "parcel"), strict=True))
    task = Task("messages", ("text",), QUEUES, verbalizers=words)
    rows = list(load_examples(str(data), task, columns={"label": "queue"}))
    settings = TrainSettings(objective="label", learning_rate=5e-3, epochs=1, precision="fp32")
    learnt = build_training_examples(rows, task, None, settings.objective)
    tokenizer = tokenizer_for(learnt, folder / "tokenizer")
    place = folder / "seed-0"
    run_job(TrainingJob("scratch:t5-tiny", tokenizer, learnt, rows[:100], task, settings, place))
    return place / "model"


def memory_mb(process: psutil.Process) -> float:
    """The memory of a process and all that it started, pages that several share counted once; 0
    where it has ended."""
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0
    for one in family:
        try:
            total += one.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def measure(command: list[str], part: Path, stop: Callable[[], bool] | None = None) -> Measured:
    """Run a command in a process group of its own, and kill the group as soon as `stop` says so."""
    begun, before, peak, first = time.perf_counter(), size_of(part), 0.0, -1.0
    said = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
    child = subprocess.Popen(command, start_new_session=True, stdout=said, stderr=said)
    process, killed = psutil.Process(child.pid), False
    try:
        while child.poll() is None:
            peak = max(peak, memory_mb(process))
            if first < 0 and size_of(part) > before:
                first = time.perf_counter() - begun
            if stop is not None and stop():
                os.killpg(child.pid, signal.SIGKILL)
                killed = child.wait() == -signal.SIGKILL
                break
            time.sleep(_POLL_S)
    finally:
        if child.poll() is None:  # this script was interrupted
            os.killpg(child.pid, signal.SIGKILL)
    if child.returncode != 0 and not killed:
        said.seek(0)
        sys.exit(f"the command ended with {child.returncode}: {said.read().decode()[-2000:]}")
    said.close()
    return Measured(time.perf_counter() - begun, peak, first, killed)


def size_of(part: Path) -> int:
    """The bytes of a file; 0 where there is none."""
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def main() -> None:
    """Measure, compare the files, and print."""
    from tutelage.core.model_files import file_sha256

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the places of the kills")
    options = parser.parse_args()
    count, rng = options.rows, random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model, data = train(folder), folder / "rows.csv"
        write(data, count, ids=False)
        command = [sys.executable, "-c", "from tutelage.cli.main import main; main()", "predict"]
        command += [str(model), str(data), "--columns", "{label: queue}"]
        command += ["--workers", str(options.workers)]

        def into(name: str) -> tuple[list[str], Path]:
            return [*command, "--output", str(folder / name)], folder / f".{name}.part"

        whole = measure(*into("whole.jsonl"))
        print(
            f"{count:,} rows undisturbed: {whole.seconds:.1f} s, {count / whole.seconds:,.0f} "
            f"rows/s, first rows after {whole.first_s:.1f} s; at most {whole.peak_mb:,.0f} MB",
            flush=True,
        )
        peak, again = whole.peak_mb, folder / "again.jsonl"
        call, part = into(again.name)
        ends = sorted(rng.uniform(0.1, 0.9) for _ in range(2))
        for end in [*ends, None]:
            resumed, before = bool(size_of(part)), size_of(part)
            size = (folder / "whole.jsonl").stat().st_size
            stop = None if end is None else lambda most=end * size: size_of(part) > most
            found = measure([*call, "--resume"] if resumed else call, part, stop)
            peak = max(peak, found.peak_mb)
            if end is not None and not found.killed:
                sys.exit("the command ended before it was killed: use more rows")
            said = f"killed at {size_of(part) / size:.0%}" if found.killed else "ended"
            skipped = f", skipped {before / size:.0%} in {found.first_s:.1f} s" if resumed else ""
            print(f"{said} after {found.seconds:.1f} s{skipped}", flush=True)
        same = file_sha256(folder / "whole.jsonl") == file_sha256(again)
        print(f"the files are {'equal' if same else 'NOT EQUAL'}; at most {peak:,.0f} MB")
        sys.exit(0 if same and peak <= LIMIT_MB else 1)


if __name__ == "__main__":
    main()
