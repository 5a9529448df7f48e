"""Trainings and evaluations as independent jobs, in processes of their own.

A job is a value: what to train on, how, and in which folder. It writes `done.json` there, with a
key made of everything that decides its result; a job whose folder holds that key does not run
again. `resources` decides how many jobs run at once; with several GPUs each job has one. Under
`accelerate launch` there is no pool: its processes run one job after the other, together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tutelage.config.training_settings import TrainSettings
from tutelage.core.checkpoint_record import read_record
from tutelage.core.errors import StudentError, TutelageError
from tutelage.core.main_metric import MetricName
from tutelage.core.model_files import content_digest
from tutelage.core.progress import JobProgress
from tutelage.core.storage import as_json, digest, read_json, read_jsonl, write_json, write_jsonl
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction, TrainingExample
from tutelage.student.jobs import worker
from tutelage.student.training import distributed
from tutelage.student.training.result import TrainResult
from tutelage.student.training.tracking import Tracking, tracked

_FORMAT = 3
"""Incremented if a change of the trainer makes earlier results incomparable."""


@dataclass(frozen=True)
class TrainingJob:
    """Train one student and evaluate it on dev.

    tracking: trackers that get its log; not part of its key
    classifies: whether the student is a classifier, which gets a new head
    metric: by which dev chooses the checkpoint
    """

    student: str
    tokenizer: Path | None
    training: Sequence[TrainingExample]
    dev: Sequence[Example]
    task: Task
    settings: TrainSettings
    folder: Path
    tracking: Tracking | None = None
    classifies: bool = False
    metric: MetricName = "accuracy"

    @property
    def classes(self) -> list[str] | None:
        """The labels that a classifier chooses from; None for a student that writes them."""
        if not self.classifies:
            return None
        return [self.task.verbalize(label) for label in self.task.labels]

    @cached_property
    def key(self) -> str:
        """A digest of everything that decides the result."""
        tokenizer = None
        if self.tokenizer is not None:
            tokenizer = (self.tokenizer / "tokenizer.json").read_text(encoding="utf-8")
        return digest(
            {
                "format": _FORMAT,
                "student": self.student,
                "files": content_digest(self.student),
                "tokenizer": tokenizer,
                "settings": self.settings,
                "training": self.training,
                "dev": [[e.uid, e.fields, e.label] for e in self.dev],
                "task": [
                    self.task.fields,
                    self.task.labels,
                    dict(self.task.verbalizers),
                    self.task.context,  # decides what is cut from dev's inputs
                ],
                **({"classifier": True} if self.classifies else {}),
                **({"metric": self.metric} if self.metric != "accuracy" else {}),
            }
        )


@dataclass(frozen=True)
class ScoringJob:
    """Score a set of examples with the checkpoint of a finished training job.

    output: file for the predictions; None: they are only returned

    A subclass computes something else for each example (`explanation_job.ExplanationJob`). It
    overrides `compute`, `load` and `key`.
    """

    trained: TrainingJob
    examples: Sequence[Example]
    output: Path | None

    @cached_property
    def key(self) -> str:
        """A digest of everything that decides the result."""
        rows = [[e.uid, e.fields, e.label] for e in self.examples]
        return digest([self.trained.key, rows])

    def compute(
        self, student: Any, rows: Sequence[Example], on_progress: Callable[[int], None] | None
    ) -> list[Any]:
        """One record per row, in the same order. `student` is loaded and prepared."""
        from tutelage.student.inference.score import score_labels

        job = self.trained
        return score_labels(
            student, rows, job.task, on_progress=on_progress, **job.settings.inference_limits
        )

    def load(self, path: Path) -> list[Any]:
        """The records in a file that the job has written."""
        return read_predictions(path)


Report = Callable[[JobProgress], None]


def finished_result(job: TrainingJob | ScoringJob) -> Any:
    """The result of `job` if its folder already holds it, else None."""
    if isinstance(job, ScoringJob):
        marker = None if job.output is None else _marker(job.output)
        if job.output is None or marker is None or not (marker.exists() and job.output.exists()):
            return None
        return job.load(job.output) if read_json(marker) == job.key else None
    path = job.folder / "done.json"
    done = read_json(path) if path.exists() else {}
    if done.get("key") != job.key:
        return None
    result = TrainResult(**done["result"])
    # A training that diverged before its first checkpoint is done too, and not trained again.
    return result if (job.folder / "model").is_dir() or not result.has_checkpoint else None


def _marker(output: Path) -> Path:
    return output.with_suffix(".key.json")


def run_training(
    job: TrainingJob, on_step: Callable[[int, int], None] | None = None
) -> TrainResult:
    """Run one training job in this process, or return its result if it has run before.

    Under `accelerate launch` every process calls this with the same job.
    """
    group = distributed.process_group()
    known: TrainResult | None = group.on_main(lambda: finished_result(job))
    if known is not None:
        return known
    import torch

    from tutelage.student.model.loading import load_student
    from tutelage.student.training.trainer import train

    torch.set_num_threads(job.settings.threads)
    settings, loaded = job.settings, []

    def load() -> None:
        if group.is_main:
            (job.folder / "done.json").unlink(missing_ok=True)
        student = load_student(
            job.student,
            tokenizer=job.tokenizer,
            seed=settings.seed,
            dropout=settings.dropout,
            fast=settings.fast,
            labels=job.classes,
        )
        loaded.append(student.to(group.device))

    group.gather_all(load)
    (student,) = loaded

    def store(result: TrainResult) -> None:
        write_json(job.folder / "done.json", {"key": job.key, "result": result})

    config = {"student": job.student, **as_json(settings)}
    with tracked(job.tracking if group.is_main else None, job.folder, config) as on_log:
        rows = (job.training, job.dev, job.task, settings, job.folder)
        calls = (on_step, on_log, store, job.key, job.metric)
        return train(student, *rows, *calls, restore=False)


def run_scoring(job: ScoringJob, on_step: Callable[[int, int], None] | None = None) -> list[Any]:
    """Run one scoring job and return its records, one per example.

    Under `accelerate launch` every process calls this with the same job and takes a share of the
    examples.
    """
    group = distributed.process_group()
    import torch

    from tutelage.student.model.loading import load_student
    from tutelage.student.model.precision import prepare

    settings, rows = job.trained.settings, group.shard(job.examples)
    torch.set_num_threads(settings.threads)

    def compute_shard() -> list[Any]:
        read_record(job.trained.folder / "model")  # refuses changed files
        student = load_student(str(job.trained.folder / "model"), fast=settings.fast)
        prepare(student.to(group.device), settings.precision)
        on_progress = None if on_step is None else (lambda done: on_step(done, len(rows)))
        return job.compute(student, rows, on_progress)

    records = group.gather_shards(compute_shard, len(job.examples))

    def write() -> None:
        if job.output is not None:
            # Without a marker until the new one is written, the file does not count as a result.
            _marker(job.output).unlink(missing_ok=True)
            write_jsonl(job.output, records)
            write_json(_marker(job.output), job.key)

    group.on_main(write)
    return records


def run_job(
    job: TrainingJob | ScoringJob, on_step: Callable[[int, int], None] | None = None
) -> Any:
    """Run one job here; in the main process of `accelerate launch`, in all of its processes."""
    distributed.process_group().send_job(job)
    return _run_here(job, on_step)


def _run_here(job: TrainingJob | ScoringJob, on_step: Callable[[int, int], None] | None) -> Any:
    if isinstance(job, TrainingJob):
        return run_training(job, on_step)
    return run_scoring(job, on_step)


@contextmanager
def main_process() -> Iterator[bool]:
    """Yield True in the main process: the only one, or the first of `accelerate launch`.

    The other processes run the main one's jobs until it leaves the block; then this yields False.
    """
    group = distributed.process_group()
    if group.is_main:
        error: TutelageError | None = None
        try:
            yield True
        except TutelageError as raised:
            error = raised
        # Our errors are raised in all processes, or while the others wait for a job, so that
        # these can be stopped here. Any other error ends this process, and the others with it.
        group.send_job(None)
        group.close()
        if error is not None:
            raise error
    else:
        while (job := group.receive_job()) is not None:
            with suppress(TutelageError):  # the main process raises it too, and reports it
                _run_here(job, None)
        group.close()
        yield False


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions in a file that a job, or `predict`, has written; final ones, if escalated."""
    own = [field.name for field in fields(Prediction)]
    records = ((own if "answered_by" in record else record, record) for record in read_jsonl(path))
    return [Prediction(**{name: record[name] for name in names}) for names, record in records]


class Runner:
    """Runs jobs, `workers` at a time, in processes that live as long as the runner.

    With one worker they run in this process. The first error stops the rest and is raised; finished
    jobs stay on disk.
    """

    def __init__(self, workers: int, report: Report | None = None) -> None:
        self.workers = 1 if distributed.world_size(os.environ) > 1 else workers
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
            # Otherwise a worker in the middle of a training would finish it first.
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._channel.close()
        self._channel.join_thread()
        self._pool = self._channel = None

    def warm_up(self) -> None:
        """Have the workers import torch while the caller does something else."""
        if self.workers > 1:
            for _ in range(self.workers):
                worker.submit(self._workers(), worker.import_torch)

    def on_each_worker(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """The results of `work` in all workers at once, each a process of its own."""
        pool = self._workers()
        waiting = [worker.submit(pool, work, *arguments) for _ in range(self.workers)]
        return [one.result() for one in waiting]

    def run(self, jobs: Sequence[TrainingJob | ScoringJob]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) as each job ends."""
        if self.workers == 1:
            for index, job in enumerate(jobs):
                with errors_named(job):
                    result = _run(job, self.report)
                self.report(complete(job))
                yield index, result
            return
        pool = self._workers
        pending = {worker.submit(pool(), _run_in_worker, job): i for i, job in enumerate(jobs)}
        while pending:
            done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            running = {str(folder_of(jobs[index])) for index in pending.values()}
            worker.forward(self._channel, self.report, running)
            for future in done:
                index = pending.pop(future)
                with errors_named(jobs[index]):
                    result = future.result()
                self.report(complete(jobs[index]))
                yield index, result

    def _workers(self) -> ProcessPoolExecutor:
        """The pool. Created when it is first needed, so that each worker imports torch once."""
        if self._pool is None:
            context = worker.start_method()
            self._channel = context.Queue()
            gpus, environment = worker.visible_gpus(), dict(os.environ)
            arguments = (self._channel, context.Value("i", 0), gpus, environment)
            self._pool = ProcessPoolExecutor(
                self.workers, context, initializer=worker.start, initargs=arguments
            )
        return self._pool


@contextmanager
def errors_named(job: TrainingJob | ScoringJob) -> Iterator[None]:
    """Inside, an error becomes one line that names the job."""
    import torch

    try:
        yield
    except TutelageError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise StudentError(
            f"{name_of(job)}: out of memory: lower tokens_per_micro_batch"
        ) from error
    except RuntimeError as error:  # from torch, or because a worker was killed
        raise StudentError(f"{name_of(job)}: {' '.join(str(error).split())[:300]}") from error


def complete(job: TrainingJob | ScoringJob) -> JobProgress:
    """The report of a job that is complete. One that stopped early has not reported its last step,
    and a worker's last report may not have arrived."""
    return JobProgress(str(folder_of(job)), 1, 1)


def folder_of(job: TrainingJob | ScoringJob) -> Path:
    """The folder of the training that a job is, or that it uses."""
    return job.folder if isinstance(job, TrainingJob) else job.trained.folder


def name_of(job: TrainingJob | ScoringJob) -> str:
    """A job's name for people: ARM/CONFIG/seed-N."""
    return "/".join(folder_of(job).parts[-3:])


def _run_in_worker(job: TrainingJob | ScoringJob) -> Any:
    return _run(job, worker.report)


def _run(job: TrainingJob | ScoringJob, report: Report) -> Any:
    name = str(folder_of(job))
    return run_job(job, lambda done, total: report(JobProgress(name, done, total)))
