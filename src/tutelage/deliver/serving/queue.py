"""Rows that wait for the model, and the batches that are made of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tutelage.core.types import Example, Prediction
from tutelage.deliver.exported import ExportedModel
from tutelage.student.encoding.truncation import EncodedSource

_TOKENS = 2048
"""Padded tokens of a batch, at most, or one row."""


class QueueFullError(Exception):
    """More rows than may wait. seconds: after which a client should try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many rows wait: try again in {seconds} s")
        self.seconds = seconds


@dataclass(eq=False)
class _Row:
    example: Example
    encoded: EncodedSource
    explain: bool
    answer: asyncio.Future[Prediction]


class BatchQueue:
    """Predicts rows in batches, one batch at a time, in a thread of its own.

    A batch begins with the row that has waited longest, and is filled with those that are nearest
    to it in length: little is padded, and no row waits for ever.

    most:     rows that may wait
    on_batch: called with the number of rows of each batch
    """

    def __init__(
        self, model: ExportedModel, most: int, on_batch: Callable[[int], None] | None = None
    ) -> None:
        self._model, self._most, self._on_batch = model, most, on_batch
        self._waiting: list[_Row] = []
        self._promised = 0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "model")
        self._encoders = ThreadPoolExecutor(1, "tokenizer")
        self._rows_per_second = 50.0
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Rows that have been accepted and are not answered."""
        return self._promised

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """End the work; rows that still wait are cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for row in self._waiting:
            row.answer.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._encoders.shutdown(wait=False, cancel_futures=True)

    async def predict(self, examples: Sequence[Example], explain: bool) -> list[Prediction]:
        """Predict rows. Raises QueueFullError where they may not wait."""
        if self._promised + len(examples) > self._most and self._promised:
            raise QueueFullError(max(1, math.ceil(self._promised / self._rows_per_second)))
        self._promised += len(examples)
        loop = asyncio.get_running_loop()
        rows: list[_Row] = []
        try:
            encoded = await loop.run_in_executor(self._encoders, self._model.encode, examples)
            rows = [
                _Row(example, one, explain, loop.create_future())
                for example, one in zip(examples, encoded, strict=True)
            ]
            self._waiting += rows
            self._arrived.set()
            return list(await asyncio.gather(*(row.answer for row in rows)))
        finally:
            self._promised -= len(examples)
            # A client that left takes its rows with it.
            gone = {id(row) for row in rows if not row.answer.done() or row.answer.cancelled()}
            self._waiting = [row for row in self._waiting if id(row) not in gone]

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            batch = self._next_batch()
            begun = time.perf_counter()
            try:
                found = await loop.run_in_executor(self._thread, self._run, batch)
            except Exception as error:  # noqa: BLE001  the rows' requests answer with it
                for row in batch:
                    if not row.answer.done():
                        row.answer.set_exception(error)
                continue
            speed = len(batch) / max(time.perf_counter() - begun, 1e-6)
            self._rows_per_second += 0.1 * (speed - self._rows_per_second)
            if self._on_batch is not None:
                self._on_batch(len(batch))
            for row, prediction in zip(batch, found, strict=True):
                if not row.answer.done():
                    row.answer.set_result(prediction)

    def _next_batch(self) -> list[_Row]:
        oldest = self._waiting[0]
        length = len(oldest.encoded.ids)
        same = [row for row in self._waiting if row.explain == oldest.explain]
        same.sort(key=lambda row: abs(len(row.encoded.ids) - length))
        batch: list[_Row] = []
        longest = 0
        for row in same:
            longest = max(longest, len(row.encoded.ids))
            if batch and longest * (len(batch) + 1) > _TOKENS:
                break
            batch.append(row)
        taken = {id(row) for row in batch}
        self._waiting = [row for row in self._waiting if id(row) not in taken]
        return batch

    def _run(self, batch: Sequence[_Row]) -> list[Prediction]:
        examples = [row.example for row in batch]
        model: Any = self._model
        if model.record.label_engine == "transformers":
            return list(model.score(examples, explain=batch[0].explain))
        encoded = [row.encoded for row in batch]
        found = model.predictions(examples, encoded, model.scores(encoded))
        return list(model.explained(examples, found)) if batch[0].explain else list(found)
