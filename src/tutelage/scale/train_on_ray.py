"""Train and evaluate an experiment's students on a Ray cluster: each job has a device of its own.

A job runs in the cluster as it runs in a local worker (`student.jobs`), in the run's folder, which
all machines see. Where its process or its machine ends, Ray runs the job again, and it continues
from its last checkpoint. Jobs that are done are not run again, whoever has run them.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tutelage.config.scale_settings import ScaleSettings
from tutelage.core.errors import StudentError, TutelageError, UsageError
from tutelage.core.progress import JobProgress
from tutelage.scale.cluster import cluster, progress_queue, require_ray
from tutelage.student.jobs import worker
from tutelage.student.jobs.jobs import (
    Report,
    ScoringJob,
    TrainingJob,
    complete,
    errors_named,
    finished_result,
    folder_of,
    name_of,
    run_job,
)
from tutelage.student.jobs.resources import cores
from tutelage.student.training import distributed

_MOST_ATTEMPTS = 4
"""Attempts at a job, each ended by the end of its process or its machine."""
_REPORT_S = 0.5
"""Seconds between two reports of a job, at least."""
_SEEN_S = 60.0
"""Seconds until a file that another machine has written is seen here, at most: shared folders
remember for a while what was not there."""


def students_on_ray(settings: ScaleSettings, workers: int | None) -> Callable[[Report], RayRunner]:
    """What makes the runner of an experiment's jobs. Raises MissingExtraError without Ray.

    workers: jobs at a time; None: as many as the cluster has devices for
    """
    require_ray("--engine ray")
    if distributed.world_size(os.environ) > 1:
        raise UsageError(
            "--engine ray: does not work under accelerate launch: leave one of them out"
        )
    return lambda report: RayRunner(settings, workers, report)


class RayRunner:
    """Runs jobs in the processes of a cluster, as `Runner` does in processes of this machine.

    Each has a GPU; in a cluster without GPUs, the processors of its settings' threads. The first
    job starts the cluster, or connects to it.

    workers: jobs at a time; None: as many as the cluster has devices for
    """

    def __init__(self, settings: ScaleSettings, workers: int | None, report: Report) -> None:
        self.workers = workers
        self._settings = settings
        self._report = report
        self._stack = ExitStack()
        self._ray: Any = None
        self._pending: dict[Any, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._ray is not None and kind is not None:
            for reference in self._pending:
                # Otherwise a worker in the middle of a training would finish it first.
                self._ray.cancel(reference, force=True)
        self._pending = {}
        self._ray = None
        self._stack.close()

    def run(self, jobs: Sequence[TrainingJob | ScoringJob]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) as each job ends."""
        if not jobs:
            return
        ray = self._connected(jobs)
        channel = progress_queue()
        gpus = ray.cluster_resources().get("GPU", 0)
        waiting = deque(enumerate(jobs))
        most = self.workers or len(jobs)
        while waiting or self._pending:
            while waiting and len(self._pending) < most:
                index, job = waiting.popleft()
                needs = {"num_gpus": 1} if gpus else {"num_cpus": _settings(job).threads}
                task = ray.remote(max_retries=_MOST_ATTEMPTS - 1, **needs)(_run_in_cluster)
                reference = task.remote(_anywhere(job), str(folder_of(job)), channel)
                self._pending[reference] = index
            done, _ = ray.wait(list(self._pending), timeout=0.5)
            running = {str(folder_of(jobs[index])) for index in self._pending.values()}
            worker.forward(channel, self._report, running)
            for reference in done:
                index = self._pending.pop(reference)
                result = _result(ray, reference, jobs[index])
                self._report(complete(jobs[index]))
                yield index, result
        channel.shutdown()

    def _connected(self, jobs: Sequence[TrainingJob | ScoringJob]) -> Any:
        if self._ray is None:
            threads = max(_settings(job).threads for job in jobs)
            processors = max(cores(), threads * (self.workers or 1))
            self._ray = self._stack.enter_context(cluster(self._settings, processors))
        return self._ray


def _settings(job: TrainingJob | ScoringJob) -> Any:
    return job.settings if isinstance(job, TrainingJob) else job.trained.settings


def _anywhere(job: Any) -> Any:
    """The job with paths that do not depend on the folder in which a process works. Its key, which
    says of what it is the result, stays what it is here."""
    changes: dict[str, Any]
    if isinstance(job, TrainingJob):
        changes = {"folder": job.folder.resolve()}
        if job.tokenizer is not None:
            changes["tokenizer"] = job.tokenizer.resolve()
        if Path(job.student).is_dir():
            changes["student"] = str(Path(job.student).resolve())
    else:
        changes = {"trained": _anywhere(job.trained)}
        if job.output is not None:
            changes["output"] = job.output.resolve()
    moved = dataclasses.replace(job, **changes)
    vars(moved)["key"] = job.key
    return moved


def _run_in_cluster(job: Any, name: str, channel: Any) -> tuple[TutelageError | None, Any, str]:
    """The error of a job, if it has one, its result, and where it ran.

    An error is a value: Ray would wrap it. name: under which it reports its progress
    """
    for variable, value in worker.ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    host, said = socket.gethostname(), [0.0]

    def on_step(done: int, total: int) -> None:
        if time.monotonic() - said[0] >= _REPORT_S:
            said[0] = time.monotonic()
            channel.put(JobProgress(name, done, total))

    try:
        with errors_named(job):
            return None, run_job(job, on_step), host
    except TutelageError as error:
        return error, None, host


def _result(ray: Any, reference: Any, job: TrainingJob | ScoringJob) -> Any:
    try:
        error, result, host = ray.get(reference)
    except ray.exceptions.RayError as lost:
        reason = " ".join(str(lost).split())[:300]
        raise StudentError(
            f"{name_of(job)}: its process in the cluster ended {_MOST_ATTEMPTS} times, or could "
            f"not be started: {reason}"
        ) from lost
    if error is not None:
        raise error
    if isinstance(job, TrainingJob) or job.output is not None:
        _check_seen(job, host)
    return result


def _check_seen(job: TrainingJob | ScoringJob, host: str) -> None:
    """Raise UsageError where what a worker has written cannot be seen here."""
    until = time.monotonic() + _SEEN_S
    while finished_result(job) is None:
        if time.monotonic() > until:
            raise UsageError(
                f"{folder_of(job)}: what a worker on {host} has written there is not seen on this "
                "machine: --runs must name a folder that all machines of the cluster see"
            )
        time.sleep(1)
