"""Scores chunks of rows in order, in this process or in several, with the same result.

Each process loads the student for itself, and a chunk is scored by one of them alone: which rows
share a batch is decided by the chunk, so that the number of processes changes nothing.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tutelage.core.collector import fewer_collections
from tutelage.core.errors import RunFolderError
from tutelage.core.export_record import ExportRecord
from tutelage.core.types import Example, Prediction
from tutelage.deliver.trained import Student
from tutelage.student.jobs import worker

Rows = Sequence[Example]

_student: Student | None = None
"""The student of this worker process."""


def scored(
    student: Student, chunks: Iterable[Rows], *, explain: bool, workers: int
) -> Generator[list[Prediction], None, None]:
    """Yield the predictions of each chunk, in order.

    student: with several workers it need not be prepared: each loads its own
    workers: processes; about twice as many chunks are in memory

    Raises RunFolderError where a worker ends without a word, as when memory is used up.
    """
    if workers == 1:
        for chunk in chunks:
            yield student.score(chunk, explain=explain)
        return
    exported = isinstance(student.record, ExportRecord)
    context = worker.start_method(torch=not exported)
    gpus = () if exported else worker.visible_gpus()
    arguments = (None, context.Value("i", 0), gpus, dict(os.environ))
    pool = ProcessPoolExecutor(workers, context, initializer=worker.start, initargs=arguments)
    pending: deque[Future[list[Prediction]]] = deque()
    try:
        for chunk in chunks:
            pending.append(worker.submit(pool, _score, student.folder, chunk, explain))
            if len(pending) >= 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise RunFolderError(
            "a process that predicts ended without an error, as when memory is used up: run the "
            "same command with --resume and fewer --workers"
        ) from error
    finally:
        for process in list((pool._processes or {}).values()) if pending else ():
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _score(folder: Path, rows: Rows, explain: bool) -> list[Prediction]:
    """Score one chunk in a worker process."""
    global _student
    if _student is None:
        _student = Student.load(folder)
    with fewer_collections():
        return _student.score(rows, explain=explain)
