"""Many trainings and readings, as independent jobs in processes of their own.

A job is a value: what to train on, how, and in which folder. It leaves `done.json` there, with a
key made of everything that decides its outcome; a job whose folder holds that key is not run again.
How many run at once is the business of `capacity`; of several GPUs each job has one. Under
`accelerate launch` there is no pool: its processes do one job after the other, together.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import StudentError, TutelageError
from tutelage.core.model_files import content_digest
from tutelage.core.storage import as_json, digest, read_json, read_jsonl, write_json, write_jsonl
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction, TrainingExample
from tutelage.student.jobs import worker
from tutelage.student.training import distributed
from tutelage.student.training.result import TrainResult
from tutelage.student.training.tracking import Tracking, tracked

_FORMAT = 2
"""Raised when a change of the trainer makes results of earlier versions incomparable."""


@dataclass(frozen=True)
class TrainingJob:
    """Train one student and read dev with it.

    tracking: who follows it; no part of its key
    """

    student: str
    tokenizer: Path | None
    training: Sequence[TrainingExample]
    dev: Sequence[Example]
    task: Task
    settings: TrainSettings
    folder: Path
    tracking: Tracking | None = None

    @cached_property
    def key(self) -> str:
        """A digest of all that decides the outcome."""
        words = None if self.tokenizer is None else (self.tokenizer / "tokenizer.json").read_text()
        return digest(
            {
                "format": _FORMAT,
                "student": self.student,
                "files": content_digest(self.student),
                "tokenizer": words,
                "settings": self.settings,
                "training": self.training,
                "dev": [[e.uid, e.fields, e.label] for e in self.dev],
                "task": [
                    self.task.fields,
                    self.task.labels,
                    dict(self.task.verbalizers),
                    self.task.context,  # decides what is cut of dev's inputs
                ],
            }
        )


@dataclass(frozen=True)
class ScoringJob:
    """Read a set of examples with the checkpoint of a finished training job.

    output: where the predictions are written; None: they are only returned

    A subclass reads in another way (`explaining.ExplainingJob`): what it makes of each example, how
    that comes back from a file, and a key of its own.
    """

    trained: TrainingJob
    examples: Sequence[Example]
    output: Path | None

    @cached_property
    def key(self) -> str:
        """A digest of all that decides the outcome."""
        rows = [[e.uid, e.fields, e.label] for e in self.examples]
        return digest([self.trained.key, rows])

    def read(
        self, student: Any, rows: Sequence[Example], on_progress: Callable[[int], None] | None
    ) -> list[Any]:
        """What `student`, loaded and ready, makes of `rows`: one record each, in their order."""
        from tutelage.student.inference.score import score_labels

        job = self.trained
        return score_labels(
            student, rows, job.task, on_progress=on_progress, **job.settings.inference_limits
        )

    def restore(self, path: Path) -> list[Any]:
        """The records in a file that the job wrote."""
        return read_predictions(path)


@dataclass(frozen=True)
class JobProgress:
    """One job's place: `done` of `total` steps (or rows), under the name of its folder."""

    name: str
    done: int
    total: int


Report = Callable[[JobProgress], None]


def finished(job: TrainingJob | ScoringJob) -> Any:
    """The result of `job`, if its folder already holds it, else None."""
    if isinstance(job, ScoringJob):
        marker = None if job.output is None else _marker(job.output)
        if job.output is None or marker is None or not (marker.exists() and job.output.exists()):
            return None
        return job.restore(job.output) if read_json(marker) == job.key else None
    path = job.folder / "done.json"
    if not path.exists() or not (job.folder / "model").is_dir():
        return None
    done = read_json(path)
    return TrainResult(**done["result"]) if done.get("key") == job.key else None


def _marker(output: Path) -> Path:
    return output.with_suffix(".key.json")


def run_training(
    job: TrainingJob, on_step: Callable[[int, int], None] | None = None
) -> TrainResult:
    """Run one training job in this process, or return what it came to before.

    Under `accelerate launch` every process calls this with the same job.
    """
    group = distributed.processes()
    known: TrainResult | None = group.first(lambda: finished(job))
    if known is not None:
        return known
    import torch

    from tutelage.student.model.load import load_student
    from tutelage.student.training.trainer import train

    torch.set_num_threads(job.settings.threads)
    settings, loaded = job.settings, []

    def begin() -> None:
        if group.main:
            (job.folder / "done.json").unlink(missing_ok=True)
        student = load_student(
            job.student, tokenizer=job.tokenizer, seed=settings.seed, dropout=settings.dropout
        )
        loaded.append(student.to(group.device))

    group.together(begin)
    (student,) = loaded

    def keep(result: TrainResult) -> None:
        write_json(job.folder / "done.json", {"key": job.key, "result": result})

    config = {"student": job.student, **as_json(settings)}
    with tracked(job.tracking if group.main else None, job.folder, config) as on_log:
        return train(
            student,
            job.training,
            job.dev,
            job.task,
            settings,
            job.folder,
            on_step,
            on_log,
            keep,
            job.key,
        )


def run_scoring(job: ScoringJob, on_step: Callable[[int, int], None] | None = None) -> list[Any]:
    """Read `job.examples` with the job's checkpoint; shared out as in `run_training`."""
    group = distributed.processes()
    import torch

    from tutelage.student.model.load import load_student
    from tutelage.student.model.precision import prepare

    settings, mine = job.trained.settings, group.share(job.examples)
    torch.set_num_threads(settings.threads)

    def read_share() -> list[Any]:
        student = load_student(str(job.trained.folder / "model")).to(group.device)
        student.fast = settings.fast
        prepare(student, settings.precision)
        tell = None if on_step is None else (lambda done: on_step(done, len(mine)))
        return job.read(student, mine, tell)

    records = group.gather(read_share, len(job.examples))

    def write() -> None:
        if job.output is not None:
            # Until the new marker is there, what is in the file has none.
            _marker(job.output).unlink(missing_ok=True)
            write_jsonl(job.output, records)
            write_json(_marker(job.output), job.key)

    group.first(write)
    return records


def run_job(
    job: TrainingJob | ScoringJob, on_step: Callable[[int, int], None] | None = None
) -> Any:
    """Run one job here; under `accelerate launch`, as its first process, in all of them."""
    distributed.processes().send(job)
    return _run_here(job, on_step)


def _run_here(job: TrainingJob | ScoringJob, on_step: Callable[[int, int], None] | None) -> Any:
    if isinstance(job, TrainingJob):
        return run_training(job, on_step)
    return run_scoring(job, on_step)


@contextmanager
def leading() -> Iterator[bool]:
    """True in the process that does the work: the only one, or the first of `accelerate launch`.

    In the others this runs the first one's jobs with it until it leaves the block; then False.
    """
    group = distributed.processes()
    if group.main:
        error: TutelageError | None = None
        try:
            yield True
        except TutelageError as raised:
            error = raised
        # Ours are raised by all, or while the others wait: they can be told to end. Whatever else
        # is raised ends this process, and the others with it.
        group.send(None)
        group.close()
        if error is not None:
            raise error
    else:
        while (job := group.receive()) is not None:
            with suppress(TutelageError):  # the first process raises it too, and tells it
                _run_here(job, None)
        group.close()
        yield False


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions that a job wrote."""
    return [Prediction(**record) for record in read_jsonl(path)]


class Runner:
    """Runs jobs, `workers` at a time, in processes that live as long as the runner does.

    With one worker they run in this process. The first failure stops the rest and is raised; what
    had been finished stays on disk.
    """

    def __init__(self, workers: int, report: Report | None = None) -> None:
        self.workers = 1 if distributed.launched(os.environ) > 1 else workers
        self.report: Report = report or (lambda progress: None)
        self._pool: ProcessPoolExecutor | None = None
        self._channel: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:
            # A worker in the middle of a training would otherwise go on to its end.
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._channel.close()
        self._channel.join_thread()
        self._pool = self._channel = None

    def warm_up(self) -> None:
        """Have the workers import what they need, while the caller does something else."""
        if self.workers > 1:
            for _ in range(self.workers):
                self._started().submit(worker.import_torch)

    def run(self, jobs: Sequence[TrainingJob | ScoringJob]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) as each job ends."""
        if self.workers == 1:
            for index, job in enumerate(jobs):
                with _faults_of(job):
                    result = _run(job, self.report)
                yield index, result
            return
        pending = {self._started().submit(_run_in_worker, job): i for i, job in enumerate(jobs)}
        while pending:
            done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            _forward(self._channel, self.report)
            for future in done:
                index = pending.pop(future)
                with _faults_of(jobs[index]):
                    result = future.result()
                yield index, result

    def _started(self) -> ProcessPoolExecutor:
        """The pool, made when it is first needed: each worker imports torch once."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._channel = context.Queue()
            mine = (self._channel, context.Value("i", 0), worker.visible_gpus())
            self._pool = ProcessPoolExecutor(
                self.workers, context, initializer=worker.start, initargs=mine
            )
        return self._pool


@contextmanager
def _faults_of(job: TrainingJob | ScoringJob) -> Iterator[None]:
    """What goes wrong inside becomes one line that names the job."""
    import torch

    try:
        yield
    except TutelageError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise StudentError(f"{_name(job)}: out of memory: lower tokens_per_micro_batch") from error
    except RuntimeError as error:  # torch's own, and a worker that was killed
        raise StudentError(f"{_name(job)}: {' '.join(str(error).split())[:300]}") from error


def _forward(channel: Any, report: Report) -> None:
    """Pass on what the workers have said, the newest of each job only."""
    newest: dict[str, JobProgress] = {}
    while True:
        try:
            item: JobProgress = channel.get_nowait()
        except queue.Empty:
            break
        newest[item.name] = item
    for item in newest.values():
        report(item)


def _name(job: TrainingJob | ScoringJob) -> str:
    folder = job.folder if isinstance(job, TrainingJob) else job.trained.folder
    return "/".join(folder.parts[-3:])


def _run_in_worker(job: TrainingJob | ScoringJob) -> Any:
    return _run(job, worker.report)


def _run(job: TrainingJob | ScoringJob, report: Report) -> Any:
    name = _name(job)
    return run_job(job, lambda done, total: report(JobProgress(name, done, total)))
