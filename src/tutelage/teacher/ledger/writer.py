"""Group commit: many coroutines share one transaction, and each learns when its part is on disk.

While one transaction waits for the disk, the next group collects. The busier the writer, the larger
the groups, so that durability costs a request almost nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tutelage.teacher.ledger.store import Ledger

Work = Callable[[sqlite3.Connection], Any]
T = TypeVar("T")


class Writer:
    """Writes to a ledger for one event loop, on a thread of its own."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[tuple[Work, asyncio.Future[Any]]] = []
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Do `work` in the next transaction; the future holds its result once it is on the disk."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((work, future))
        if not self._busy:
            self._busy = True
            # Not at once: what else is submitted in this turn of the loop joins the group.
            loop.call_soon(self._start, loop)
        return future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        group, self._waiting = self._waiting, []
        works = [work for work, _ in group]
        done = loop.run_in_executor(self._thread, self._ledger.transact, _all(works))
        done.add_done_callback(lambda finished: self._finish(loop, group, finished))

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        group: list[tuple[Work, asyncio.Future[Any]]],
        finished: asyncio.Future[list[Any]],
    ) -> None:
        error = finished.exception()
        results = [None] * len(group) if error else finished.result()
        for (_, future), result in zip(group, results, strict=True):
            if future.done():  # the waiting coroutine was cancelled; the work is done all the same
                continue
            if error:
                future.set_exception(error)
            else:
                future.set_result(result)
        if self._waiting:
            self._start(loop)
        else:
            self._busy = False

    async def drain(self) -> None:
        """Wait until everything that was submitted so far is on the disk."""
        await self.submit(lambda connection: None)

    def close(self) -> None:
        """End the thread after its current transaction."""
        self._thread.shutdown(wait=True)


def _all(works: list[Work]) -> Callable[[sqlite3.Connection], list[Any]]:
    return lambda connection: [work(connection) for work in works]
