"""Annotate with workers of a Ray cluster: they fill the ledger, and the rows are written from it.

    rows -> those without an answer, as blocks -> Ray Data -> workers -> shards -> the ledger
    the ledger -> the rows, in order, as the local engine writes them

The first line is the keeper's and the workers' work; nothing of it is needed for the second, so
that a job that was cut off continues where it was.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tutelage.config.scale_settings import ScaleSettings
from tutelage.core.errors import RunFolderError, UsageError
from tutelage.core.interruption import sigterm_as_ctrl_c
from tutelage.core.types import Example
from tutelage.core.wording import several
from tutelage.scale.annotation_worker import WorkerJob
from tutelage.scale.background import Background
from tutelage.scale.cluster import cluster, require_ray, start_keeper
from tutelage.scale.keeper import EndedWorker, JobSpec, Keeper
from tutelage.scale.ray_worker import RayWorker
from tutelage.scale.row_shards import Numbered, write_blocks
from tutelage.scale.worker_folders import WorkerFolders
from tutelage.teacher.annotate import Ask
from tutelage.teacher.annotation import AnnotationJob
from tutelage.teacher.batch.rounds import has_batches
from tutelage.teacher.cost.budget import Budget, usd
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Session
from tutelage.teacher.ledger.shards import merge_folder
from tutelage.teacher.ledger.store import Ledger, select_many
from tutelage.teacher.replay import newest_answer, replay
from tutelage.teacher.teacher import Teacher

_CHUNK = 1000
_SHOWN = 10
"""Rows that a line names, at most."""
_WATCH_S = 0.5
_DYING_S = 10.0
"""How long workers that are ending are waited for."""


@dataclass(frozen=True, slots=True)
class _Folders:
    """Where a job's files are: blocks of rows, closed shards, the job's own state."""

    rows: Path
    shards: Path
    state: Path


def asks_on_ray(settings: ScaleSettings) -> Ask:
    """`annotate_to_file`'s requests, made by workers of a Ray cluster.

    Raises MissingExtraError where Ray is not installed.
    """
    require_ray("--engine ray")

    def ask(
        job: AnnotationJob,
        examples: Callable[[], Iterable[Example]],
        teacher: Teacher,
        session: Session,
        budget: Budget,
    ) -> None:
        _refuse_batches(teacher, session)
        since, began = newest_answer(session.ledger), time.time()
        run = _Run(settings, job, teacher, session, budget)
        ended = run.fill(examples)
        job.attempts += run.attempts
        named = _Named({key for worker in ended for key in worker.keys})
        replay(job, named.watch(examples, job, teacher), teacher, session.ledger, since, began)
        for line in named.lines(ended, session, budget):
            job.note(line)

    return ask


def _refuse_batches(teacher: Teacher, session: Session) -> None:
    if teacher.settings.mode == "batch":
        raise UsageError(
            "mode: batch makes a few calls for all rows, which need no workers: set mode: live, or "
            "engine: local"
        )
    if has_batches(session, teacher):
        raise UsageError(
            f"batches of {teacher.identity!r} are open: collect them first with engine: local "
            "(`tutelage ledger batches` lists them)"
        )
    if str(session.ledger.path) == ":memory:":
        raise UsageError("engine: ray needs a ledger in a file: workers outlive no memory")


class _Run:
    """One job: its workers' way through the rows that the ledger does not answer."""

    def __init__(
        self,
        settings: ScaleSettings,
        job: AnnotationJob,
        teacher: Teacher,
        session: Session,
        budget: Budget,
    ) -> None:
        self._settings, self._job, self._teacher = settings, job, teacher
        self._session, self._budget = session, budget
        self.attempts = 0
        self._cleans = ExitStack()

    def fill(self, examples: Callable[[], Iterable[Example]]) -> list[EndedWorker]:
        """Have every request answered or failed, in the ledger. Raises what ends the job."""
        ledger = self._session.ledger
        with self._cleans as stack:
            folders = _folders(self._settings, ledger, stack)
            merged, damaged = merge_folder(ledger, folders.shards)
            if merged.answers:
                self._job.note(f"{several(merged.answers, 'answer')} of an earlier call recorded")
            for line in damaged:
                self._job.note(line)
            missing = _missing(self._job, examples(), self._teacher, ledger)
            blocks = write_blocks(missing, folders.rows, self._block_size())
            if not blocks:
                return []
            state = folders.state / "state.sqlite"
            spec = JobSpec(
                ledger.path.resolve(),
                self._session.name,
                folders.shards,
                state,
                self._teacher.settings.failure_limit(self._job.total),
                self._job.options.minute_s,
            )
            worker_job = self._worker_job(folders)
            try:
                with cluster(self._settings) as ray:
                    self._work(ray, spec, blocks, worker_job)
            finally:
                # The actor is gone: this process may do what it did.
                with closing(Keeper(spec)) as keeper:
                    self._record_left(worker_job, keeper)
                    keeper.finish()
                    self.attempts = keeper.attempts
                    for line in keeper.damaged():
                        self._job.note(line)
                    error, ended = keeper.stopped(), keeper.ended_workers()
            if error is not None:
                raise error
            return ended

    def _block_size(self) -> int:
        """Rows of a block: small enough that all workers end at about the same time."""
        most, total = self._settings.rows_per_block, self._job.total
        if total is None:
            return most
        least = 2 * self._teacher.settings.concurrency
        return min(most, max(least, total // (4 * self._settings.workers)))

    def _worker_job(self, folders: _Folders) -> WorkerJob:
        disk = Path(self._settings.worker_folder or tempfile.gettempdir()) / "tutelage-workers"
        disk /= self._session.name  # other machines keep theirs, a few megabytes
        self._cleans.callback(shutil.rmtree, disk, ignore_errors=True)
        return WorkerJob(
            self._job.strategy,
            self._job.task,
            self._teacher,
            self._budget,
            folders.shards,
            disk,
            self._job.options.policy,
            self._job.options.retry_failed,
            self._job.options.minute_s,
        )

    def _record_left(self, worker_job: WorkerJob, keeper: Keeper) -> None:
        """Record what workers that were killed at the end have left on this machine."""
        deadline = time.monotonic() + _DYING_S
        for place in sorted(worker_job.disk.glob("*")):
            folders = WorkerFolders(place, worker_job.shards, keeper, self._job.note)
            with folders.one_at_a_time():
                while folders.record_ended() and time.monotonic() < deadline:
                    time.sleep(_WATCH_S)

    def _work(self, ray: Any, spec: JobSpec, blocks: list[str], worker_job: WorkerJob) -> None:
        keeper = start_keeper(ray, spec)
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(ray, keeper, done), daemon=True)
        try:
            ray.get(keeper.ready.remote())
            watch.start()
            data = ray.data.read_parquet(blocks, override_num_blocks=len(blocks)).map_batches(
                RayWorker,
                fn_constructor_args=(worker_job, keeper),
                batch_size=None,
                batch_format="pyarrow",
                # Ray starts an actor that ended again, and repeats its block, however often; the
                # keeper counts the attempts.
                compute=ray.data.ActorPoolStrategy(
                    size=min(self._settings.workers, len(blocks)), max_tasks_in_flight_per_actor=2
                ),
                num_cpus=1,
            )
            work = Background()
            with sigterm_as_ctrl_c():
                try:
                    work.begin(data.iter_rows)
                    work.wait()
                except KeyboardInterrupt:
                    self._job.note("stopping: requests in flight complete; Ctrl-C again stops now")
                    ray.get(keeper.call.remote("stop", "TutelageError", "interrupted"))
                    work.wait()
                    raise
        except (ray.exceptions.RayError, FileNotFoundError) as error:
            raise RunFolderError(
                f"the workers' part ended early ({' '.join(str(error).split())[:300]}): correct "
                "that and run again; several machines need a shared_folder that all of them see"
            ) from error
        finally:
            done.set()
            if watch.is_alive():
                watch.join(10)
            ray.kill(keeper)

    def _watch(self, ray: Any, keeper: Any, done: threading.Event) -> None:
        """Show the progress and the workers' lines."""
        while True:
            last = done.wait(_WATCH_S)
            try:
                _, (answers, failures) = ray.get(keeper.call.remote("progress"), timeout=10)
                lines = ray.get(keeper.take_notes.remote(), timeout=10)
            except Exception:  # noqa: BLE001  progress is not worth an error
                answers, failures, lines = 0, 0, []
            for line in lines:
                self._job.note(line)
            if answers or failures:
                self._job.watched(answers, failures)
            if last:
                return


def _folders(settings: ScaleSettings, ledger: Ledger, stack: ExitStack) -> _Folders:
    path = ledger.path.resolve()
    if settings.shared_folder is None:
        shared = path.with_name(path.name + ".shards")
    else:
        # Several ledgers may share a folder; a shard is merged into its own.
        own = hashlib.sha256(str(path).encode()).hexdigest()[:8]
        shared = Path(settings.shared_folder).resolve() / f"{path.name}-{own}"
    rows = shared / f"rows-{uuid.uuid4().hex[:8]}"
    stack.callback(shutil.rmtree, rows, ignore_errors=True)
    state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tutelage-job-")))
    shards = shared / "answers"
    shards.mkdir(parents=True, exist_ok=True)
    return _Folders(rows, shards, state)


def _missing(
    job: AnnotationJob, examples: Iterable[Example], teacher: Teacher, ledger: Ledger
) -> Iterator[Numbered]:
    """The rows that no answer and no permanent failure is known of; of equal requests in sight of
    each other one."""
    stream = job.requests_of_rows(examples, teacher)
    while chunk := list(islice(stream, _CHUNK)):
        first: dict[str, Numbered] = {}
        for index, example, (key, _) in chunk:
            first.setdefault(key, (index, example))
        keys = [bytes.fromhex(key) for key in first]
        with ledger.reader() as connection:
            for (key,) in select_many(connection, "SELECT key FROM answers WHERE key", keys):
                del first[key.hex()]
            if not job.options.retry_failed:
                for failed in charges.final_failures(connection, list(first)):
                    del first[failed]
        yield from first.values()


class _Named:
    """Finds the rows of requests that ended workers had leased and not reported."""

    def __init__(self, keys: set[str]) -> None:
        self._keys = keys
        self._uids: dict[str, list[str]] = {}

    def watch(
        self, examples: Callable[[], Iterable[Example]], job: AnnotationJob, teacher: Teacher
    ) -> Iterable[Example]:
        """The examples, of which those with such a request are noted on the way."""
        if not self._keys:
            return examples()
        for _, example, pending in job.requests_of_rows(examples(), teacher):
            if pending.key in self._keys:
                self._uids.setdefault(pending.key, []).append(example.uid)
        return examples()

    def lines(self, ended: list[EndedWorker], session: Session, budget: Budget) -> Iterator[str]:
        """What a user should know of each such worker."""
        for worker in ended:
            uids = [uid for key in worker.keys for uid in self._uids.get(key, [])]
            shown = ", ".join(uids[:_SHOWN]) + (", …" if len(uids) > _SHOWN else "")
            yield (
                f"a worker on {worker.place} ended with {several(len(uids), 'row')} that it had "
                f"leased and not recorded ({shown}): they were asked again where that was "
                "possible, and each such request stays charged at its worst case"
            )
        if ended:
            _, count, pico = session.charged(budget.scope)
            if pico:
                yield f"{usd(pico)} stays charged to {budget.scope!r} for {count} lost requests"
