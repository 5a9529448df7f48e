"""Load on `tutelage serve` from another process: many clients, one row a request.

    make bench-load                                  10, 32, 100 and 200 clients
    python benchmarks/serve_load.py --rows 40 --clients 4,8     a rehearsal

A student of T5-small's shape with new weights and three labels, or the one that --student names;
real ANLI rows. The server is a process with two threads for the model. This process is the load:
each client keeps one connection, sends a row, waits for its answer, and takes the next row. So no
more rows wait than there are clients. On 429 a client waits as long as the answer says and sends
the row again. Every row is answered once for each number of clients.

`predict` is `Student.predict` on the same rows, in a process of its own before the server starts.

rows/s, of predict   answered rows, and as a share of what `predict` does
p50, p99             milliseconds from sending a row to its answer, refusals and waits not counted
429, errors          refusals; answers that are neither 200 nor 429, and broken connections
load CPU             cores that this process used: they are not the server's
server CPU           cores that the server used

Ends with 1 where an answer is an error, or throughput with 32 or more clients is below 80% of
`predict`'s. Needs an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError

from serve import set_up

HERE = Path(__file__).resolve().parent
SHARE, FROM_CLIENTS = 0.8, 32
"""Throughput as a share of `predict`'s, from that many clients on."""

START_SECONDS = 120
ANSWER_SECONDS = 300.0
"""Time in which one answer must have come; a server that is stuck ends the benchmark."""


@dataclass
class Load:
    """What clients saw.

    seconds: of each answered row; statuses: of each answer; errors: in words
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


async def client(port: int, rows: deque[bytes], load: Load) -> None:
    """Send rows, one after the other, until there are none."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        load.errors.append(repr(error))
        return
    try:
        while rows:
            body = rows.popleft()
            while True:
                begun = time.perf_counter()
                status, wait = await asyncio.wait_for(ask(reader, writer, body), ANSWER_SECONDS)
                load.statuses[status] += 1
                if status == 200:
                    load.seconds.append(time.perf_counter() - begun)
                elif status == 429:
                    await asyncio.sleep(wait)
                    continue
                else:
                    load.errors.append(f"status {status}")
                break
    except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
        load.errors.append(repr(error))
    finally:
        writer.close()


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> tuple[int, float]:
    """One request on an open connection: its status, and the seconds of Retry-After."""
    writer.write(
        b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
    answer = json.loads(await reader.readexactly(int(headers["content-length"])))
    status = int(head[0].split(" ")[1])
    if status == 200 and not answer["prediction"]["label"]:
        raise ValueError("an answer without a label")
    return status, float(headers.get("retry-after", 1))


async def run_load(port: int, bodies: list[bytes], clients: int) -> Load:
    """All rows, in order of arrival, by so many clients."""
    load, rows = Load(), deque(bodies)
    await asyncio.gather(*(client(port, rows, load) for _ in range(clients)))
    if rows:
        load.errors.append(f"{len(rows)} rows were not sent")
    return load


def cpu_seconds(process: int) -> float:
    """CPU time of a process so far."""
    stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def predict(export: Path, sources: Path) -> None:
    """Print how many rows a second `Student.predict` does, and its peak memory in MB."""
    from serve import peak_bytes

    from tutelage import Student

    rows = json.loads(sources.read_text(encoding="utf-8"))
    student = Student.load(export)
    student.predict(rows[:4])
    begun = time.perf_counter()
    student.predict(rows)
    print(len(rows) / (time.perf_counter() - begun), peak_bytes() / 2**20)


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Return when the server takes requests; end the benchmark where it does not."""
    for _ in range(10 * START_SECONDS):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"the server was not ready after {START_SECONDS} s")


def measure(process: int, port: int, bodies: list[bytes], clients: int) -> dict[str, Any]:
    """The figures for one number of clients."""
    own, theirs, begun = time.process_time(), cpu_seconds(process), time.perf_counter()
    load = asyncio.run(run_load(port, bodies, clients))
    wall = time.perf_counter() - begun
    ordered = sorted(load.seconds) or [float("nan")]
    return {
        "rows/s": len(load.seconds) / wall,
        "p50": 1000 * statistics.median(ordered),
        "p99": 1000 * ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))],
        "refused": load.statuses[429],
        "errors": load.errors,
        "load": (time.process_time() - own) / wall,
        "server": (cpu_seconds(process) - theirs) / wall,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--clients", default="10,32,100,200")
    parser.add_argument("--student", default="", help="default: T5-small's shape, new weights")
    parser.add_argument("--predict", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.predict:
        predict(*map(Path, options.predict))
        return
    with tempfile.TemporaryDirectory() as folder:
        problems = compare(Path(folder), options)
    print("\n".join(problems) or "every aim is met")
    sys.exit(bool(problems))


def compare(folder: Path, options: argparse.Namespace) -> list[str]:
    """Print the table; what was not reached, a line each."""
    set_up(folder, options.student, options.rows, 3)
    export, sources = folder / "3" / "f32", folder / "sources.json"
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, str(HERE / "serve_load.py"), "--predict", str(export), str(sources)],
        check=True, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    alone, peak = map(float, done.stdout.split()[-2:])
    print(f"predict: {alone:.1f} rows/s, {peak:.0f} MB at most\n")
    print(
        "| clients | rows/s | of predict | p50 ms | p99 ms | 429 | errors | load CPU | server CPU |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    rows = json.loads(sources.read_text(encoding="utf-8"))
    bodies = [json.dumps({"row": row}).encode() for row in rows]
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tutelage", "serve", str(export), "--port", str(port)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    problems = []
    try:
        wait_until_ready(process, port)
        for clients in map(int, options.clients.split(",")):
            asyncio.run(run_load(port, bodies[:8], 4))
            one = measure(process.pid, port, bodies, clients)
            share = one["rows/s"] / alone
            print(
                f"| {clients} | {one['rows/s']:.1f} | {share:.0%} | {one['p50']:.0f} | "
                f"{one['p99']:.0f} | {one['refused']} | {len(one['errors'])} | {one['load']:.2f} | "
                f"{one['server']:.2f} |",
                flush=True,
            )
            if one["errors"]:
                kinds = Counter(one["errors"]).most_common(3)
                problems.append(f"{clients} clients: errors: {kinds}")
            if clients >= FROM_CLIENTS and share < SHARE:
                problems.append(
                    f"{clients} clients: {share:.0%} of predict's throughput, the aim is "
                    f"{SHARE:.0%}"
                )
    finally:
        process.terminate()
        process.wait(60)
    return problems


if __name__ == "__main__":
    main()
