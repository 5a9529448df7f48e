"""A run in which three in ten requests meet a fault, of every kind, under rate limits.

A test runs it once; the benchmark runs it with any number of rows.
"""

from __future__ import annotations

from pathlib import Path

from ledger_worker import Spec
from openai_server.faults import ODD, ROW, TRANSIENT, spread
from openai_server.server import Server

WINDOW_S = 0.25
REQUESTS, TOKENS = 52, 11_500  # per window; a run that ignored one of them would exceed it
PRICE = 1000, 4000  # pico-dollars per token of input and of output


def faulty_server(seed: int) -> Server:
    return Server(
        seed=seed,
        record=False,
        delay_s=0.002,
        delay_spread_s=0.01,
        faults=spread(0.3, [*TRANSIENT, *ODD, *ROW]),
        retry_after_s=0.03,
        slow_s=0.1,
        requests_per_window=REQUESTS,
        tokens_per_window=TOKENS,
        window_s=WINDOW_S,
        bytes_per_token=1.0,
        input_price=PRICE[0],
        output_price=PRICE[1],
    )


def faulty_run(server: Server, folder: Path, rows: int) -> Spec:
    """An annotation against the server that keeps to its limits."""
    return Spec(
        base_url=server.base_url,
        ledger=folder / "ledger.sqlite",
        output=folder / "out.jsonl",
        rows=rows,
        concurrency=32,
        timeout_s=0.5,
        price=PRICE,
        requests_per_minute=REQUESTS,
        tokens_per_minute=TOKENS,
        minute_s=WINDOW_S,
        wait_s=0.1,
    )
