"""A worker of an annotation, as Ray Data makes it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from tutelage.scale.annotation_worker import AnnotationWorker, WorkerJob
from tutelage.scale.cluster import RemoteKeeper, own_place
from tutelage.scale.row_shards import rows_of_table


class RayWorker:
    """An AnnotationWorker as Ray Data makes it: begun with the first block in each process."""

    def __init__(self, job: WorkerJob, keeper: Any) -> None:
        self._job, self._keeper = job, keeper
        self._worker: AnnotationWorker | None = None

    def __call__(self, table: Any) -> dict[str, list[int]]:
        """Get answers for the rows of a table; returns the number of its first row and how many
        requests it needed."""
        block, rows = rows_of_table(table)
        try:
            if self._worker is None:
                self._worker = AnnotationWorker(self._job, RemoteKeeper(self._keeper), *own_place())
            count = self._worker.run(block, rows)
        except BaseException as error:  # noqa: BLE001  said, and counted by the keeper
            # Ray begins the process again, and the keeper counts the attempts.
            with suppress(Exception):
                import ray

                line = f"a worker ends: {type(error).__name__}: {' '.join(str(error).split())}"
                ray.get(self._keeper.note.remote(line), timeout=10)
            os._exit(1)
        return {"block": [block], "requests": [count]}
