"""Measures how long files with many short rows take, and how much memory.

    python benchmarks/rows.py                      2,000,000 rows: a minute or two, 120 MB of disk
    python benchmarks/rows.py 200000 2000000       two sizes: what grows with the rows

The rows are messages of six words and a number, with one of four queues. Each figure is from a new
process: `tutelage init`; annotation, for which every row is checked and then read again;
loading for training. The seconds of the last two are without the imports; those of `init`
are of the whole command. `--ids` adds a column of ids. Use an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import csv
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.task import Task

WORDS = [
    *("account", "address", "charge", "delay", "delivery", "device", "door", "email", "error"),
    *("form", "invoice", "keyboard", "late", "lost", "number", "office", "order", "parcel"),
    *("password", "payment", "phone", "printer", "refund", "screen"),
]
QUEUES = ("access", "billing", "hardware", "shipping")
LIMITS = {"init": "3 s, 300 MB", "load": "20 s, 1,200 MB"}


def write(path: Path, count: int, *, ids: bool) -> None:
    """Write `count` rows to a CSV file."""
    rng = random.Random(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["message_id"] * ids + ["text", "queue"])
        for number in range(count):
            text = f"{' '.join(rng.choices(WORDS, k=6))} {number}"
            writer.writerow([f"M-{number}"] * ids + [text, rng.choice(QUEUES)])


def measure(what: str, path: Path, *, ids: bool) -> None:
    """Do one thing in this process and print seconds, processor seconds and peak memory in MB."""
    from tutelage.cli.main import main as command
    from tutelage.data.load import load_examples, stream_examples

    task = Task("messages", ("text",), QUEUES)
    columns = {"label": "queue", **({"uid": "message_id"} if ids else {})}
    layout = LayoutSettings(columns=columns)
    begun, cpu = time.perf_counter(), time.process_time()
    if what == "init":
        cpu = 0.0  # the command's imports are part of it
        sys.argv = ["tutelage", "init", str(path), "--output", str(path.with_suffix(".yaml"))]
        try:
            command()
        except SystemExit as ended:
            if ended.code:
                raise
    elif what == "load":
        assert len(load_examples(str(path), task, layout))
    else:
        stream = stream_examples(str(path), task, layout)
        assert sum(1 for _ in stream.open()) == stream.total
    seconds, used = time.perf_counter() - begun, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{seconds:.1f} {used:.1f} {peak:.0f}")


def main() -> None:
    """Measure every size in processes of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", type=int, nargs="*", default=[2_000_000])
    parser.add_argument("--ids", action="store_true", help="rows with a column of ids")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]), ids=options.ids)
        return
    print("     rows  what          s    CPU s      MB  at most, for 2,000,000 rows")
    with tempfile.TemporaryDirectory() as folder:
        for count in options.rows:
            path = Path(folder) / f"rows-{count}.csv"
            write(path, count, ids=options.ids)
            for what in ("init", "read", "load"):
                call = [sys.executable, __file__, "--measure", what, str(path)]
                call += ["--ids"] * options.ids
                begun = time.perf_counter()
                done = subprocess.run(call, check=True, capture_output=True, text=True)
                whole = time.perf_counter() - begun
                seconds, used, peak = done.stdout.split()[-3:]
                seconds = f"{whole:.1f}" if what == "init" else seconds
                limit = LIMITS.get(what, "the same for every size")
                print(f"{count:9,}  {what}  {seconds:>9}  {used:>7}  {peak:>6}  {limit}")


if __name__ == "__main__":
    main()
