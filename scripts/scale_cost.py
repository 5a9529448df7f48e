"""What annotating many rows takes: time, cost, ledger and machines, for three ways to ask.

    python scripts/scale_cost.py                          prints the table
    python scripts/scale_cost.py --write docs/scale.md    puts it into the page
    python scripts/scale_cost.py --teacher openai:gpt-6-luna --input 300 --output 150

No request is made. The client's own figures were measured (docs/performance.md); what a server
allows, and how quickly a GPU writes, are assumptions, each an option.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from paper_cost import prices_of, write_table

from tutelage.teacher.cost.prices import PICO, Price

REQUESTS_PER_SECOND = 950
"""Of one process, whose server answers at once: the least that docs/performance.md has, with the
server and other work on the same two cores."""

BYTES_PER_ROW = 250
"""Of the ledger, without prompt and answer (measured: 1,074 bytes with 826 of text)."""

BYTES_PER_TOKEN = 4
MEMORY_MB, MEMORY_BYTES_PER_ROW = 70, 160
"""Of the annotating process: at the start, and for each row of one file (measured to 1,000,000)."""

BEGIN, END = "<!-- the table of rows -->\n", "<!-- its end -->\n"


@dataclass(frozen=True)
class Way:
    """What one way to ask takes for a number of rows."""

    name: str
    rows: int
    days: float
    dollars: float
    machines: str


def live(rows: int, price: Price, options: argparse.Namespace) -> Way:
    """One request a row, as many at a time as the account allows."""
    tokens = options.input + options.output
    allowed = min(options.requests_per_minute, options.tokens_per_minute / tokens) / 60
    rate = min(allowed, REQUESTS_PER_SECOND)
    return Way("live", rows, rows / rate / 86_400, rows * cost(price, options), "1 process")


def batch(rows: int, price: Price, options: argparse.Namespace) -> Way:
    """Batches that the server answers within a day, as many as its queue holds."""
    days = max(1.0, rows * options.input / options.queued_tokens)
    return Way("batch", rows, days, rows * cost(price.batch(), options), "1 process")


def pool(rows: int, _price: Price, options: argparse.Namespace) -> Way:
    """Servers of one's own, such as vLLM, each on one GPU."""
    hours = rows * options.output / options.gpu_tokens_per_second / 3600
    answers_per_second = options.gpus * options.gpu_tokens_per_second / options.output
    clients = math.ceil(answers_per_second / REQUESTS_PER_SECOND)
    machines = f"{options.gpus} GPUs, {clients} process{'es' if clients > 1 else ''}"
    return Way("pool", rows, hours / options.gpus / 24, hours * options.gpu_dollars, machines)


def cost(price: Price, options: argparse.Namespace) -> float:
    """US dollars of one request."""
    first = price.rates[0]
    tokens = first.input * options.input + first.output * options.output
    return (tokens + price.per_request) / PICO


def duration(days: float) -> str:
    """A time in the unit that suits it."""
    if days < 2 / 24:
        return f"{days * 1440:,.0f} min"
    return f"{days * 24:,.0f} h" if days < 3 else f"{days:,.0f} days"


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("MB", "GB", "TB"):
        count /= 1000 if unit != "MB" else 1e6
        if count < 1000:
            break
    return f"{count:,.1f} {unit}" if count < 10 else f"{count:,.0f} {unit}"


def table(price: Price, options: argparse.Namespace) -> str:
    """A table in Markdown: a line for each number of rows and way to ask."""
    row_bytes = BYTES_PER_ROW + BYTES_PER_TOKEN * (options.input + options.output)
    lines = [
        "| rows | way | time | dollars | machines | ledger | memory, if one file |",
        "|---|---|---|---|---|---|---|",
    ]
    for rows in options.rows:
        memory = size(MEMORY_MB * 1e6 + MEMORY_BYTES_PER_ROW * rows)
        for way in (live, batch, pool):
            found = way(rows, price, options)
            lines.append(
                f"| {rows:,} | {found.name} | {duration(found.days)} | {found.dollars:,.0f} "
                f"| {found.machines} | {size(row_bytes * rows)} | {memory} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Print the table, or put it into a page between its two marks."""
    parser = argparse.ArgumentParser(description="What annotating many rows takes.")
    add = parser.add_argument
    add("rows", nargs="*", type=int, default=[10**6, 10**8, 10**10])
    add("--teacher", default="openai:gpt-6-luna", help="whose list price is used")
    add("--input", type=int, default=220, help="tokens of a request")
    add("--output", type=int, default=110, help="tokens of an answer")
    add("--requests-per-minute", type=float, default=30_000, help="that the account allows")
    add("--tokens-per-minute", type=float, default=150e6, help="that the account allows")
    add("--queued-tokens", type=float, default=5e9, help="input of open batches, allowed")
    add("--gpus", type=int, default=8, help="of the pool")
    add("--gpu-tokens-per-second", type=float, default=5000, help="written by one GPU")
    add("--gpu-dollars", type=float, default=2.5, help="of one GPU for an hour")
    add("--write", type=Path, help="the page to put the table into")
    options = parser.parse_args()
    text = table(prices_of([options.teacher])[options.teacher], options)
    if options.write is None:
        print(text)
        return
    write_table(options.write, BEGIN, END, text)


if __name__ == "__main__":
    main()
