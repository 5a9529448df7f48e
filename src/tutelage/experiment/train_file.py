"""Trains one student from files, outside of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import require_extra
from tutelage.core.rationale_file import read_rationales
from tutelage.core.task import NLI, Task
from tutelage.data.load import load_examples
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs.jobs import TrainingJob, run_job
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
) -> TrainResult:
    """Train `student` on the rows of `data` and save its best checkpoint in `output`/model.

    layout: how `data` and `dev` are read
    track:   trackers that receive its log, under the name OUTPUT/seed-N
    """
    require_extra("train", "training a student", *(("peft",) if settings.lora else ()))
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
    result: TrainResult = run_job(job, on_step)
    return result
