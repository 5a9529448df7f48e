"""Trains one student from files, outside of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import DivergedError, UsageError, require_extra
from tutelage.core.rationale_file import read_rationales
from tutelage.core.storage import remove
from tutelage.core.task import NLI, Task
from tutelage.data.load import load_examples
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs.jobs import TrainingJob, finished_result, run_job
from tutelage.student.training.result import TrainResult
from tutelage.student.training.tracking import Tracking, check_trackers


def train_file(
    data: str,
    dev: str,
    rationales: Path | None,
    student: str,
    settings: TrainSettings,
    output: Path,
    *,
    task: Task = NLI,
    layout: LayoutSettings | None = None,
    on_step: Callable[[int, int], None] | None = None,
    track: Sequence[str] = (),
    overwrite: bool = False,
) -> TrainResult:
    """Train `student` on the rows of `data` and save its best checkpoint in `output`/model.

    layout: how `data` and `dev` are read
    overwrite: replace a finished model of other data or settings
    track:   trackers that receive its log, under the name OUTPUT/seed-N

    Raises DivergedError where the training diverged; the best checkpoint so far, if any, is kept.
    """
    require_extra("train", "training a student", *(("peft",) if settings.lora else ()))
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file, expected the name of a folder for the student")
    check_trackers(track)
    examples = load_examples(data, task, layout)
    learnt = None if rationales is None else read_rationales(rationales)
    training = build_training_examples(examples, task, learnt, settings.objective)
    tokenizer = None
    if student.startswith("scratch:"):
        from tutelage.student.model.scratch import tokenizer_for

        tokenizer = tokenizer_for(training, output / "tokenizer")
    tracking = Tracking(tuple(track), f"{output.resolve().name}/seed-{settings.seed}")
    dev_rows = list(load_examples(dev, task, layout))
    job = TrainingJob(student, tokenizer, training, dev_rows, task, settings, output, tracking)
    with _alone_in(output):
        _refuse_another(output, job, overwrite)
        result: TrainResult = run_job(job, on_step)
    if result.diverged_at is not None:
        kept = f"; {output / 'model'} holds the checkpoint of step {result.best_step}"
        raise DivergedError(
            f"{output}: the training diverged at step {result.diverged_at} (learning rate "
            f"{settings.learning_rate:g}): lower the learning rate, or use precision fp32"
            f"{kept if result.has_checkpoint else ''}"
        )
    return result


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of an output folder. Raises UsageError where another training holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UsageError(
            f"{folder}: another training is writing there: wait for it, or name another folder "
            "with --output"
        ) from error
    try:
        yield
    finally:
        lock.release()
        (folder / ".lock").unlink(missing_ok=True)


def _refuse_another(folder: Path, job: TrainingJob, overwrite: bool) -> None:
    """Refuse to replace the student of another training, unless that is asked for."""
    done = folder / "done.json"
    if finished_result(job) is not None:
        return
    if not overwrite and (done.exists() or (folder / "model").exists()):
        # An interrupted training has a state, which is continued or refused by its own key.
        if (folder / "state.pt").exists():
            return
        raise UsageError(
            f"{folder}: holds a student of other data or settings: name another folder with "
            "--output, or replace it with --overwrite"
        )
    if overwrite:
        for name in ("done.json", "state.pt", "model", "dev.jsonl", "log.jsonl"):
            remove(folder / name)
