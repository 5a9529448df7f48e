"""Training one student from files, outside of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import DataError
from tutelage.core.storage import read_jsonl
from tutelage.core.task import NLI
from tutelage.core.types import Rationale, Usage
from tutelage.data.load import load_examples
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs.jobs import TrainingJob, run_job
from tutelage.student.training.result import TrainResult
from tutelage.student.training.tracking import Tracking, check_trackers


def read_rationales(path: Path) -> list[Rationale]:
    """The rationales that `annotate` wrote to `path`."""
    try:
        return [
            Rationale(**{**record, "usage": Usage(**(record.get("usage") or {}))})
            for record in read_jsonl(path)
        ]
    except FileNotFoundError as error:
        raise DataError("no such file: `tutelage annotate` writes one", path=path) from error
    except TypeError as error:
        raise DataError(
            "holds no rationales: expected a file that `tutelage annotate` wrote", path=path
        ) from error


def train_file(
    data: str,
    dev: str,
    rationales: Path | None,
    student: str,
    settings: TrainSettings,
    output: Path,
    on_step: Callable[[int, int], None] | None = None,
    track: Sequence[str] = (),
) -> TrainResult:
    """Train `student` on the NLI rows of `data` and keep its best checkpoint in `output`/model.

    track: the trackers that follow it, under the name OUTPUT/seed-N
    """
    check_trackers(track)
    examples = load_examples(data, NLI)
    learnt = None if rationales is None else read_rationales(rationales)
    training = build_training_examples(examples, NLI, learnt, settings.objective)
    tokenizer = None
    if student.startswith("scratch:"):
        from tutelage.student.model.scratch import tokenizer_for

        tokenizer = tokenizer_for(training, output / "tokenizer")
    tracking = Tracking(tuple(track), f"{output.resolve().name}/seed-{settings.seed}")
    job = TrainingJob(
        student, tokenizer, training, list(load_examples(dev, NLI)), NLI, settings, output, tracking
    )
    result: TrainResult = run_job(job, on_step)
    return result
