"""What a worker that was killed has left on its disk is recorded by whoever finds it, once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from kept_job import COST, SCOPE, WORST, Job, Worker, key, statuses

from tutelage.scale.worker_folders import WorkerFolders
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Failure


class Place:
    """The disk of one machine. `begin` begins a worker there, `kill` leaves its folder behind."""

    def __init__(self, job: Job) -> None:
        self.job, self.path = job, job.folder / "place"
        self.notes: list[str] = []
        self.folders = WorkerFolders(self.path, job.shards, job.keeper, self.notes.append)
        self._alive = {}

    def begin(self, actor: str) -> Worker:
        with self.folders.one_at_a_time():
            number = self.job.keeper.register(actor, "place")
            folder, self._alive[number] = self.folders.make(number)
        return Worker(self.job, number, folder)

    def kill(self, worker: Worker) -> None:
        worker.ledger.close()
        self._alive.pop(worker.number).release()

    def look(self) -> list[str]:
        """The folders that are there after somebody has looked for ended workers."""
        with self.folders.one_at_a_time():
            self.folders.record_ended()
        return [folder.name for folder in self.path.glob("worker-*")]


@pytest.fixture
def place(job: Job) -> Iterator[Place]:
    found = Place(job)
    yield found
    for lock in found._alive.values():
        lock.release()


def test_an_answer_on_the_disk_of_a_killed_worker_is_recorded(job: Job, place: Place) -> None:
    """Of what it leased, only what it had in flight is lost; the rest is given back."""
    worker = place.begin("one")
    answered, in_flight, _ = worker.claim(0, 1, 2)
    worker.ledger.transact(lambda c: charges.mark_sent(c, [answered.charge, in_flight.charge]))
    worker.answer(0, answered.charge)
    assert len(place.look()) == 1 and len(job.ledger) == 0  # it lives
    place.kill(worker)
    assert place.look() == []
    assert job.ledger.get(key(0)) is not None and job.charged == COST + WORST
    assert charges.lost(job.ledger, SCOPE) == (1, WORST)
    (ended,) = job.keeper.ended_workers()
    assert ended.keys == (key(1),)
    again = place.begin("one")
    assert statuses(again.claim(0, 1, 2)) == ["ANSWERED", "RESERVED", "RESERVED"]
    assert job.charged == COST + 3 * WORST and place.notes == []


def test_it_is_recorded_after_its_leases_were_given_up_too(job: Job, place: Place) -> None:
    worker = place.begin("one")
    leased = worker.claim(0, 1)
    worker.answer(0, leased[0].charge)
    place.kill(worker)
    job.worker("one")  # begins again on another machine
    assert job.charged == 2 * WORST and len(job.keeper.ended_workers()[0].keys) == 2
    assert place.look() == []
    assert job.charged == COST and job.keeper.ended_workers() == []


def test_a_shard_that_was_copied_at_the_end_counts_once(job: Job, place: Place) -> None:
    """The worker is killed between the copy and the moment when its own ledger forgets it."""
    worker = place.begin("one")
    leased = worker.claim(0, 1)
    worker.answer(0, leased[0].charge)
    worker.ledger.transact(
        lambda c: charges.store_failure(c, key(1), "s", Failure("no", "why", False))
    )
    place.kill(worker)
    (folder,) = place.path.glob("worker-*")
    shutil.copytree(folder, job.folder / "before")
    Worker(job, worker.number, folder).ledger.close_shard(job.shards)
    shutil.rmtree(folder)
    (job.folder / "before").rename(folder)
    assert place.look() == []
    assert job.charged == COST and job.keeper.progress() == (1, 1)
    assert not list(job.shards.iterdir())


def test_what_cannot_be_read_is_said_once_and_stays_charged(job: Job, place: Place) -> None:
    workers = [place.begin(actor) for actor in ("one", "another")]
    for number, worker in enumerate(workers):
        (lease,) = worker.claim(number)
        worker.answer(number, lease.charge)
        place.kill(worker)
    damaged = place.path / f"worker-{workers[0].number}-{os.getpid()}"
    for file in damaged.glob("ledger.sqlite*"):
        file.write_bytes(b"no ledger" * 1000)
    assert place.look() == place.look() == [damaged.name]
    assert job.charged == WORST + COST and len(job.ledger) == 1
    (line,) = place.notes
    assert line.startswith(f"{damaged}: what a worker left cannot be recorded")


def test_a_process_that_is_killed_lets_go_of_its_folder(job: Job, place: Place) -> None:
    number = job.keeper.register("one", "place")
    begin = (
        "import os, sys; from pathlib import Path\n"
        "from tutelage.scale.worker_folders import WorkerFolders\n"
        "folders = WorkerFolders(Path(sys.argv[1]), Path(sys.argv[1]), None, print)\n"
        "with folders.one_at_a_time():\n"
        "    kept = folders.make(int(sys.argv[2]))\n"
        "print(os.getpid(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", begin, str(place.path), str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pid = process.stdout.readline().strip()
        assert place.look() == [f"worker-{number}-{pid}"]
        process.kill()
    assert place.look() == []


def test_one_at_a_time_looks(job: Job, place: Place) -> None:
    other = WorkerFolders(place.path, job.shards, job.keeper, place.notes.append)
    with place.folders.one_at_a_time(), other.one_at_a_time(wait=False) as free:
        assert not free
    with other.one_at_a_time(wait=False) as free:
        assert free
