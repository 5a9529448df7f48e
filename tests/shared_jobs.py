"""Does equal trainings and evaluations of runs once, whichever test comes to them first.

A job's key stands for everything that decides its result (tests/student/test_job_keys.py), and so
a run takes what is complete under the key from its folder. Here it finds there what another run of
the tests has trained. It is for tests of what a run makes of its students, with the trainer as it
is: a change of the trainer's own code is in no key.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tutelage.core.storage import write_json, write_jsonl
from tutelage.student.jobs import jobs
from tutelage.student.jobs.jobs import ScoringJob, TrainingJob
from tutelage.student.training.result import TrainResult

OnStep = Callable[[int, int], None]


@contextmanager
def shared_jobs(folder: Path) -> Iterator[None]:
    """Inside, a job that is complete in `folder` is taken from there, and others are kept there.

    folder: all processes of the tests have it in common
    """
    train, score = jobs.run_training, jobs.run_scoring
    folder.mkdir(exist_ok=True)

    def train_once(job: TrainingJob, on_step: OnStep | None = None) -> TrainResult:
        tracked = job.tracking is not None and job.tracking.trackers
        if tracked or (job.folder / "state.pt").exists() or jobs.finished_result(job) is not None:
            return train(job, on_step)
        kept = folder / job.key
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                result = train(job, on_step)
                shutil.copytree(job.folder, f"{kept}.part")
                Path(f"{kept}.part").rename(kept)
                return result
        for name in ("done.json", "dev.jsonl", "log.jsonl"):
            (job.folder / name).unlink(missing_ok=True)
        shutil.rmtree(job.folder / "model", ignore_errors=True)
        shutil.copytree(kept, job.folder, dirs_exist_ok=True)
        return train(job, on_step)  # finds it complete

    def score_once(job: ScoringJob, on_step: OnStep | None = None) -> list[Any]:
        kept = folder / f"{type(job).__name__}-{job.key}.jsonl"
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                records = score(job, on_step)
                write_jsonl(kept, records)
                return records
        if job.output is not None:
            shutil.copyfile(kept, job.output)
            write_json(jobs._marker(job.output), job.key)
        return job.load(kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "run_training", train_once)
        patch.setattr(jobs, "run_scoring", score_once)
        yield
