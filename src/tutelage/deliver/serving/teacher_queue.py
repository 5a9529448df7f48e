"""Rows that wait for the teacher, and the calls that are made for several requests together."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TextIO

from tutelage.core.errors import TutelageError
from tutelage.core.types import Example, Prediction
from tutelage.deliver.escalation import (
    EscalatedPrediction,
    Escalation,
    by_student,
    is_below,
)
from tutelage.teacher.engine.failures import FaultKind, RetryPolicy

BUSY = "too many rows wait for the teacher: this is the student's answer"
FAULT = "the teacher cannot be asked now: this is the student's answer"


@dataclass(eq=False)
class _Row:
    example: Example
    prediction: Prediction
    answer: asyncio.Future[EscalatedPrediction]


class TeacherQueue:
    """Asks the teacher for rows of all requests, one call at a time, in a thread of its own.

    What waits while a call is made is asked for in the next one, so that rate limits hold for all
    requests together. Whatever goes wrong, a row gets an answer: the student's, with a note.

    seconds: that a row waits; the teacher's answer is kept in the ledger if it comes later
    most:    rows that may wait
    log:     where faults are written, one line of JSON each; None: standard error
    """

    def __init__(
        self, escalation: Escalation, seconds: float, most: int, log: TextIO | None = None
    ) -> None:
        self._escalation, self._seconds, self._most, self._log = escalation, seconds, most, log
        self._waiting: list[_Row] = []
        self._promised = 0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "teacher")
        self._worker: asyncio.Task[None] | None = None
        # A service does not wait for minutes, as an annotation does.
        self._policy = RetryPolicy(
            attempts=dict.fromkeys(FaultKind, 2),
            first_attempts=2,
            cap_s=2.0,
            max_retry_after_s=seconds,
        )

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """End the work; a call that is being made ends by itself, and its answers are kept."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
        self._escalation.close()

    async def answer(
        self, examples: Sequence[Example], found: Sequence[Prediction]
    ) -> list[EscalatedPrediction]:
        """The answers of student and teacher together, in order."""
        answers = [by_student(prediction) for prediction in found]
        below = [n for n, one in enumerate(found) if is_below(one, self._escalation.threshold)]
        if not below:
            return answers
        if self._promised + len(below) > self._most:
            for n in below:
                answers[n] = by_student(found[n], BUSY)
            return answers
        loop = asyncio.get_running_loop()
        rows = [_Row(examples[n], found[n], loop.create_future()) for n in below]
        self._promised += len(rows)
        self._waiting += rows
        self._arrived.set()
        try:
            await asyncio.wait([row.answer for row in rows], timeout=self._seconds)
            late = (
                f"the teacher did not answer within {self._seconds:g} s: this is the student's "
                "answer"
            )
            for n, row in zip(below, rows, strict=True):
                answers[n] = (
                    row.answer.result() if row.answer.done() else by_student(found[n], late)
                )
            return answers
        finally:
            self._promised -= len(rows)
            # A row that nobody waits for any more is not paid for.
            gone = {id(row) for row in rows}
            self._waiting = [row for row in self._waiting if id(row) not in gone]

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            batch, self._waiting = self._waiting, []
            try:
                await loop.run_in_executor(self._thread, self._ask, batch, loop)
            except Exception as error:  # noqa: BLE001  whatever it is, the rows get an answer
                expected = isinstance(error, TutelageError)
                self._tell(str(error) if expected else repr(error))
            # What the thread has handed over was given before: the loop runs calls in order.
            for row in batch:
                _give(row.answer, by_student(row.prediction, FAULT))

    def _ask(self, batch: Sequence[_Row], loop: asyncio.AbstractEventLoop) -> None:
        def keep(index: int, answer: EscalatedPrediction) -> None:
            loop.call_soon_threadsafe(_give, batch[index].answer, answer)

        self._escalation.ask(
            [(row.example, row.prediction) for row in batch],
            keep,
            policy=self._policy,
            on_note=self._tell,
        )

    def _tell(self, line: str) -> None:
        fields = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "teacher": line}
        print(json.dumps(fields, ensure_ascii=True), file=self._log or sys.stderr, flush=True)


def _give(future: asyncio.Future[EscalatedPrediction], answer: EscalatedPrediction) -> None:
    if not future.done():
        future.set_result(answer)
