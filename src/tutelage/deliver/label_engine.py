"""Runs an exported graph of label scores with OpenVINO. Free of torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.core.errors import MissingExtraError, StudentError
from tutelage.core.export_record import ExportPrecision
from tutelage.deliver.signal_stack import kept_signal_stack

Floats = npt.NDArray[np.float32]

GRAPH = "labels/model.xml"
"""The graph, in an export's folder."""

_TOKENS = 1024
"""Padded input tokens that are computed together. More is not faster on a CPU, and takes memory."""

_LOGITS = 24_000_000
"""Logits that are held at once, at most: 4 bytes each."""

_ROUND = 8
"""Lengths are padded to multiples of it: the engine prepares itself for each new shape."""


class LabelEngine:
    """A graph that was compiled for this machine. Calls from several threads wait for each other.

    threads: CPU threads; None: as OMP_NUM_THREADS says, else all cores

    Raises MissingExtraError without OpenVINO, StudentError for a graph that cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        precision: ExportPrecision = "f32",
        logits_per_row: int = 1,
        threads: int | None = None,
    ) -> None:
        try:
            import openvino as ov
        except ImportError as error:
            raise MissingExtraError("openvino", "deliver", "this exported model") from error
        said = os.environ.get("OMP_NUM_THREADS", "")
        count = threads or (int(said) if said.isdigit() else 0)
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if count:
            options["INFERENCE_NUM_THREADS"] = count
        try:
            with kept_signal_stack():
                self._compiled = ov.Core().compile_model(str(folder / GRAPH), "CPU", options)
        except RuntimeError as error:
            line = " ".join(str(error).split())[:200]
            raise StudentError(f"{folder / GRAPH}: cannot be loaded ({line})") from error
        self._request = self._compiled.create_infer_request()
        self._rows = max(1, _LOGITS // max(1, logits_per_row))
        self._lock = threading.Lock()

    def scores(
        self, sources: Sequence[Sequence[int]], on_rows: Callable[[int], None] | None = None
    ) -> Floats:
        """log p(label | source), summed over the label's tokens: [sources, labels].

        on_rows: called with the number of rows of each part that is done
        """
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        found: Floats | None = None
        for part in self._parts([len(sources[i]) for i in order], order):
            with self._lock:
                scores = self._run([sources[i] for i in part])
            if found is None:
                found = np.empty((len(sources), scores.shape[1]), dtype=np.float32)
            found[part] = scores
            if on_rows is not None:
                on_rows(len(part))
        return np.empty((0, 0), dtype=np.float32) if found is None else found

    def _parts(self, lengths: Sequence[int], order: Sequence[int]) -> list[list[int]]:
        """Rows in the order of their lengths, in parts that fit."""
        parts: list[list[int]] = []
        for index, length in zip(order, lengths, strict=True):
            full = not parts or len(parts[-1]) >= self._rows
            if full or _padded(length) * (len(parts[-1]) + 1) > _TOKENS:
                parts.append([])
            parts[-1].append(index)
        return parts

    def _run(self, rows: Sequence[Sequence[int]]) -> Floats:
        width = _padded(max(map(len, rows)))
        ids = np.zeros((len(rows), width), dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        result = self._request.infer([ids, mask])
        return np.array(result[0], dtype=np.float32)


def _padded(length: int) -> int:
    return -(-max(length, 1) // _ROUND) * _ROUND


def has_bf16() -> bool:
    """Whether this processor computes bf16 itself."""
    import openvino as ov

    with kept_signal_stack():
        return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
