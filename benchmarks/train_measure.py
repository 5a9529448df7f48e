"""Shared by the worker processes of `train.py`: the work of a row, the clock, the report."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from train_setup import SHAPE

HEAD = SHAPE["d_model"] * SHAPE["vocab_size"]
ATTENTION = 4 * SHAPE["d_model"] * SHAPE["num_heads"] * SHAPE["d_kv"]
FEED_FORWARD = 2 * SHAPE["d_model"] * SHAPE["d_ff"]
LAYERS = SHAPE["num_layers"]


def flops(source: int, target: int) -> float:
    """Floating-point operations of training on one row without padding.

    Counts matrix products only: forward, and twice that backward; two operations for each weight
    and token. A source token goes through the encoder and the keys and values of the
    cross-attention; a target token through the rest of the decoder and the head.
    """
    weights = source * LAYERS * (ATTENTION * 1.5 + FEED_FORWARD)
    weights += target * (LAYERS * (ATTENTION * 1.5 + FEED_FORWARD) + HEAD)
    pairs = source * source + target * target + source * target
    return 6 * weights + 12 * LAYERS * SHAPE["num_heads"] * SHAPE["d_kv"] * pairs


class Clock:
    """Measures the time from `start` to `stop`. Waits for a GPU at both."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._begun = 0.0

    def start(self) -> None:
        _drain()
        self._begun = time.perf_counter()

    def stop(self) -> None:
        _drain()
        self.seconds = time.perf_counter() - self._begun


def _drain() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def write_report(path: Path, seconds: float, **values: object) -> None:
    """Write seconds, values, and the peak memory (bytes) of this process, or of its GPU."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    path.write_text(
        json.dumps({"seconds": seconds, "peak_bytes": peak, **values}), encoding="utf-8"
    )
