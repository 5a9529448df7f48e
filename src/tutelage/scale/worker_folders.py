"""Workers' folders on a machine's disk, and what workers that were killed have left in them.

A worker holds the lock in its folder for as long as it lives. Where the lock is free, the worker
has ended without a word: whoever finds that first records what its ledger holds, so that nothing
that was answered is asked again. What it had in flight stays charged; what it had leased and not
sent is given back.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from tutelage.core.errors import TutelageError
from tutelage.teacher.ledger.shards import WorkerLedger

_ALIVE = "alive.lock"


class Recorder(Protocol):
    """The keeper, as far as it is needed here."""

    def settle_ended(self, session: int) -> Sequence[int]:
        """See `Keeper`."""

    def report(self, session: int, shard: str) -> None:
        """See `Keeper`."""


class WorkerFolders:
    """The folders of a job's workers at one place.

    place: the folder that holds them, on a local disk
    shards: the shared folder, for closed shards
    note: takes a line for the user
    """

    def __init__(
        self, place: Path, shards: Path, recorder: Recorder, note: Callable[[str], None]
    ) -> None:
        self._place, self._shards = place, shards
        self._recorder, self._note = recorder, note
        self._given_up: set[str] = set()

    @contextmanager
    def one_at_a_time(self, *, wait: bool = True) -> Iterator[bool]:
        """Whether nobody else makes a folder here or looks for ended workers, meanwhile.

        wait: until that is so; without it, False where it is not
        """
        self._place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._place / "folders.lock", timeout=-1 if wait else 0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def make(self, session: int) -> tuple[Path, FileLock]:
        """The folder of a new worker, and the lock to hold. Called within `one_at_a_time`, so that
        nobody sees the folder without its lock."""
        folder = self._place / f"worker-{session}-{os.getpid()}"
        folder.mkdir()
        alive = FileLock(folder / _ALIVE, thread_local=False)
        alive.acquire(timeout=0)
        return folder, alive

    def record_ended(self) -> int:
        """Record what ended workers have left, and remove it. Called within `one_at_a_time`.

        What cannot be recorded is said, and asked again. Returns how many workers live.
        """
        living = 0
        for folder in sorted(self._place.glob("worker-*-*")):
            alive = FileLock(folder / _ALIVE)
            if folder.name in self._given_up:
                continue
            try:
                alive.acquire(timeout=0)
            except Timeout:
                living += 1
                continue
            try:
                self._record(folder)
            except (TutelageError, OSError) as error:
                self._given_up.add(folder.name)
                said = " ".join(str(error).split())
                self._note(f"{folder}: what a worker left cannot be recorded ({said})")
            finally:
                alive.release()
        return living

    def _record(self, folder: Path) -> None:
        session = int(folder.name.split("-")[1])
        charges = self._recorder.settle_ended(session)
        with closing(WorkerLedger(folder / "ledger.sqlite", session)) as left:
            left.settle_left(charges)
            shard = left.close_shard(self._shards)
        if shard is not None:
            self._recorder.report(session, shard)
        shutil.rmtree(folder, ignore_errors=True)
