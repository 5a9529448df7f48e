"""Workers on threads of the test's process, in place of Ray's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from tutelage.scale.annotation_worker import AnnotationWorker, WorkerJob
from tutelage.scale.keeper import JobSpec, Keeper
from tutelage.scale.keeper_calls import KeeperCalls
from tutelage.scale.row_shards import rows_of_table


class LocalKeeper:
    """A keeper in this process: its calls come one at a time, as to an actor."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._keeper = Keeper(spec)
        self._lock = threading.Lock()
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)

    def begin_again(self) -> None:
        """What Ray does when the actor has ended: nothing of this process is left."""
        with self._lock:
            self._keeper.close()
            self._keeper = Keeper(self._spec)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with self._lock:
                return getattr(self._keeper, name)(*arguments)

        return call


class Threads:
    """Replaces Ray: blocks go to workers on threads. `hook` sees each block before its worker.

    hook: (keeper, worker, block) -> a worker that takes its place
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.keepers: list[LocalKeeper] = []
        self.hook: Callable[[LocalKeeper, AnnotationWorker, int], None] = lambda *_: None

    def work(
        self, run: Any, ray: Any, spec: JobSpec, blocks: Sequence[str], job: WorkerJob
    ) -> None:
        import pyarrow.parquet as pq

        keeper = LocalKeeper(spec)
        self.keepers.append(keeper)
        waiting = list(reversed(blocks))
        errors: list[BaseException] = []

        def one(number: int) -> None:
            calls: KeeperCalls = keeper  # type: ignore[assignment]
            own = replace(
                job,
                teacher=deepcopy(job.teacher),  # as another process would have it
                record_answers=20,
                record_s=0.5,
            )
            worker = AnnotationWorker(own, calls, f"actor-{number}", f"place-{number}")
            try:
                while waiting and not errors:
                    block, rows = rows_of_table(pq.read_table(waiting.pop()))
                    self.hook(keeper, worker, block)
                    worker.run(block, rows)
            except BaseException as error:  # noqa: BLE001  raised below
                errors.append(error)
            finally:
                worker.close()

        threads = [threading.Thread(target=one, args=(n,)) for n in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for line in keeper.notes:
            run._job.note(line)
        keeper.close()
        if errors:
            raise errors[0]
