"""Measures the speed and the resources of annotating, and compares them with Curator's.

    python benchmarks/annotate.py                          10,000 and 100,000 rows, 1 to 2 minutes
    python benchmarks/annotate.py 10000 100000 1000000     about ten minutes, gigabytes of disk
    python benchmarks/annotate.py --curator                also bespokelabs-curator, same rows

A server in a process of its own answers each request after 50 ms. Every figure is from a new
process that uses the ledger, reads rows from a JSONL file and writes rationales to another:

requests/s, CPU s    of annotating alone: the clock starts after a first request, so that imports
                     do not count; CPU of the annotating process, not of the server's
peak MB              resident set of the whole process
in flight            requests that the server had at the same time, at most, by its own count
time per row         relative to the first size
again s              the same command once more: from start to end, all answers from the ledger

For Curator the prompts are rendered and its rows loaded before its clock starts, and its token
counting is replaced by a stand-in that costs almost nothing. It is installed from the package index
into the folder given by --curator-env (kept and reused), or into a temporary one.

Each run is checked against the server's count of requests. Use an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.strategies.lookup import get_strategy

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "teacher"))
from openai_server.process import ServerProcess  # noqa: E402

CURATOR = "bespokelabs-curator==0.1.31"
DEFAULT_SIZES = (10_000, 100_000)


@dataclass(frozen=True)
class Figures:
    """The measurements of one process.

    wall_s:    from its start to its end, imports included
    in_flight: requests that the server had at the same time, at most
    """

    rows: int
    seconds: float
    cpu_s: float
    peak_mb: float
    wall_s: float
    in_flight: int
    version: str

    @property
    def per_second(self) -> float:
        return self.rows / self.seconds

    @property
    def cpu_per_thousand(self) -> float:
        return self.cpu_s / self.rows * 1000

    @property
    def columns(self) -> str:
        return (
            f"{self.per_second:10,.0f}  {self.cpu_per_thousand:11.2f}  {self.peak_mb:7,.0f}  "
            f"{self.in_flight:9d}"
        )


@dataclass(frozen=True)
class Bench:
    """The settings that all runs share."""

    delay_s: float
    concurrency: int

    def run(
        self,
        worker: str,
        data: Path,
        rows: int,
        requests: int,
        folder: Path,
        python: Path = Path(sys.executable),
        environment: Mapping[str, str] | None = None,
    ) -> Figures:
        """Run `worker` on `data` in a process of its own, against a server of its own.

        Ends the benchmark where not all `rows` have an answer, or where the server did not count
        exactly `requests` requests.
        """
        report, log = folder / "report.json", folder / "worker.log"
        report.unlink(missing_ok=True)
        inherited = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        with (
            ServerProcess(plain=True, delay_s=self.delay_s) as server,
            log.open("w", encoding="utf-8") as output,
        ):
            command = [python, HERE / worker, data, server.base_url, self.concurrency]
            begun = perf_counter()
            ended = subprocess.run(
                [str(part) for part in [*command, folder, report]],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited, **(environment or {})},
                check=False,
            )
            wall_s = perf_counter() - begun
        if ended.returncode or not report.exists():
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
            raise SystemExit(f"{worker}: exit {ended.returncode}\n{tail}")
        found = json.loads(report.read_text())
        if found["ok"] != rows:
            raise SystemExit(f"{worker}: {found['ok']} of {rows} rows have an answer")
        if server.final["requests"] != requests:
            raise SystemExit(
                f"{worker}, {rows} rows: the server counted {server.final['requests']} requests, "
                f"expected {requests}"
            )
        return Figures(
            rows=rows,
            seconds=found["seconds"],
            cpu_s=found["cpu_s"],
            peak_mb=found["peak_bytes"] / 1e6,
            wall_s=wall_s,
            in_flight=server.final["most_in_flight"],
            version=found["version"],
        )


def write_rows(path: Path, count: int, *, prompts: bool = False) -> None:
    """Write `count` distinct rows with premises of about 600 bytes.

    prompts: also write the whole prompt, as our strategy renders it
    """
    rng = random.Random(0)
    syllables = [c + v for c in "bdfgklmnprst" for v in ("a", "e", "i", "o", "u", "en", "or")]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(3000)]
    sentences = [" ".join(rng.choices(words, k=14)).capitalize() + "." for _ in range(2000)]
    strategy = get_strategy("informed_reasoning", task=NLI)
    with path.open("w", encoding="utf-8") as out:
        for number in range(count):
            premise = f"Record {number}. " + " ".join(rng.choices(sentences, k=6))
            fields = {"premise": premise, "hypothesis": rng.choice(sentences)}
            label = NLI.labels[number % 3]
            row = {"uid": f"r{number}", **fields, "label": label}
            if prompts:
                example = Example(row["uid"], fields, label)
                row["prompt"] = strategy.render(example, NLI)[0].content
            out.write(json.dumps(row) + "\n")


def bench_sizes(bench: Bench, sizes: Sequence[int], place: Path) -> None:
    print("     rows  requests/s  CPU s/1,000  peak MB  in flight  time per row  again s")
    first: Figures | None = None
    for rows in sizes:
        with tempfile.TemporaryDirectory(dir=place) as temporary:
            folder = Path(temporary)
            data = folder / "rows.jsonl"
            write_rows(data, rows)
            # One more request than there are rows: the one before the clock starts.
            new = bench.run("annotate_ours.py", data, rows, rows + 1, folder)
            again = bench.run("annotate_ours.py", data, rows, 1, folder)
        first = first or new
        slower = first.per_second / new.per_second
        print(f"{rows:9,d}  {new.columns}  {slower:11.2f}x  {again.wall_s:7.1f}", flush=True)


def bench_curator(bench: Bench, rows: int, repeats: int, python: Path, place: Path) -> None:
    """Run ours and Curator alternately; the order changes with every repeat."""
    ours: list[Figures] = []
    theirs: list[Figures] = []
    with tempfile.TemporaryDirectory(dir=place) as temporary:
        data = Path(temporary, "rows.jsonl")
        write_rows(data, rows, prompts=True)

        def run_ours() -> None:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                ours.append(bench.run("annotate_ours.py", data, rows, rows + 1, Path(folder)))

        def run_theirs() -> None:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                quiet = curator_environment(Path(folder))
                # Two more requests than there are rows: the first one, and one for rate limits.
                worker, requests = "annotate_curator.py", rows + 2
                theirs.append(bench.run(worker, data, rows, requests, Path(folder), python, quiet))

        for repeat in range(repeats):
            for turn in (run_ours, run_theirs) if repeat % 2 == 0 else (run_theirs, run_ours):
                turn()
    print(f"\n{rows:,d} rows, medians of {repeats}, run alternately")
    print("                             requests/s  CPU s/1,000  peak MB  in flight")
    middles = []
    for name, runs in (("tutelage", ours), ("bespokelabs-curator", theirs)):
        middle = median_of(runs)
        middles.append(middle)
        singles = ", ".join(f"{run.per_second:,.0f}" for run in runs)
        title = f"{name} {middle.version}"
        print(f"{title:27s}  {middle.columns}   single runs: {singles} per second")
    a, b = middles
    print(
        f"{'ours to theirs':27s}  {a.per_second / b.per_second:9.1f}x  "
        f"{a.cpu_per_thousand / b.cpu_per_thousand:10.2f}x  {a.peak_mb / b.peak_mb:6.2f}x"
    )


def median_of(runs: Sequence[Figures]) -> Figures:
    """The median of each figure by itself."""
    return replace(
        runs[0],
        seconds=median(run.seconds for run in runs),
        cpu_s=median(run.cpu_s for run in runs),
        peak_mb=median(run.peak_mb for run in runs),
        wall_s=median(run.wall_s for run in runs),
        in_flight=max(run.in_flight for run in runs),
    )


def curator_environment(folder: Path) -> dict[str, str]:
    """Environment variables: no network, no viewer, and every cache in `folder`."""
    return {
        "HOME": str(folder),
        "HF_HOME": str(folder / "hf"),
        "CURATOR_CACHE_DIR": str(folder / "curator"),
        "CURATOR_VIEWER": "false",
        "TELEMETRY_ENABLED": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }


def curator_python(folder: Path) -> Path:
    """The interpreter of the environment in `folder`, which is created if necessary."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {CURATOR} into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", CURATOR], check=True)
    return python


def filesystem(place: Path) -> str:
    """The type of file system of `place`: on tmpfs durability would cost nothing."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown file system"
    kinds = dict(line.split()[1:3] for line in mounts.read_text(encoding="utf-8").splitlines())
    return next(kinds[str(p)] for p in [place, *place.parents] if str(p) in kinds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", type=int, default=DEFAULT_SIZES, help="rows")
    parser.add_argument("--concurrency", type=int, default=200, help="requests in flight")
    parser.add_argument("--delay", type=float, default=0.05, help="of the server, in seconds")
    parser.add_argument("--folder", type=Path, help="for temporary ledgers and rows")
    parser.add_argument("--curator", action="store_true", help="compare with Curator")
    parser.add_argument("--curator-env", type=Path, help="Curator's environment, which is kept")
    parser.add_argument("--curator-rows", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=2, help="of the comparison")
    given = parser.parse_args()
    place = Path(given.folder or tempfile.gettempdir()).resolve()
    bench = Bench(given.delay, given.concurrency)
    load = os.getloadavg()[0]
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"{filesystem(place)}, load average {load:.1f}; server answers after "
        f"{given.delay * 1000:.0f} ms, {given.concurrency} in flight"
    )
    if load > 0.5:
        print("THE MACHINE IS NOT IDLE: these figures are not reliable")
    bench_sizes(bench, given.sizes, place)
    if given.curator:
        with ExitStack() as stack:
            home = given.curator_env or Path(
                stack.enter_context(tempfile.TemporaryDirectory(dir=place))
            )
            python = curator_python(home.resolve())
            bench_curator(bench, given.curator_rows, given.repeats, python, place)


if __name__ == "__main__":
    main()
