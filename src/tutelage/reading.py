"""Reading files with a trained student, and comparing what was read, outside of an experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from tutelage.data.load import load_examples
from tutelage.errors import DataError, StudentError, UsageError
from tutelage.evaluation.compare import Comparison, compare
from tutelage.evaluation.metrics import Evaluation, evaluate
from tutelage.records import Prediction
from tutelage.runfolder import write_jsonl
from tutelage.student.jobs import read_predictions
from tutelage.task import NLI, Task


def predict_file(
    model: Path,
    data: str,
    *,
    task: Task = NLI,
    columns: Mapping[str, str] | None = None,
    explained: bool = False,
    output: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Predictions of the checkpoint in `model` for the rows of `data`, written to `output`."""
    from tutelage.student.explain import explain
    from tutelage.student.model import load_student
    from tutelage.student.precision import choose_device, prepare
    from tutelage.student.score import score_labels

    if not (model / "config.json").exists():
        raise StudentError(
            f"{model}: holds no model: expected the folder that training leaves, …/seed-N/model"
        )
    examples = list(load_examples(data, task, columns=columns))
    total = len(examples)
    student = load_student(str(model)).to(choose_device())
    prepare(student, "auto")
    tell = None if on_progress is None else (lambda done: on_progress(done, total))
    predictions = score_labels(student, examples, task, on_progress=tell)
    if explained:
        texts = explain(student, examples, predictions, task, on_progress=tell)
        predictions = [
            dataclasses.replace(p, rationale=text)
            for p, text in zip(predictions, texts, strict=True)
        ]
    if output is not None:
        write_jsonl(output, predictions)
    return predictions


def evaluate_file(path: Path, task: Task = NLI) -> Evaluation:
    """What the predictions in a file, or in the seeds of an arm's folder, are worth."""
    return evaluate(_by_seed(path), task)


def compare_files(
    arm: Path,
    baseline: Path,
    *,
    data: str | None = None,
    task: Task = NLI,
    columns: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare two files of predictions, or the seeds in two arms' folders.

    data: the rows that were read, for their contexts: without it rows count as independent, and
          where several share a premise the test is too sure of itself.
    """
    groups = None
    if data is not None:
        rows = load_examples(data, task, columns=columns)
        groups = {e.uid: task.group(e.uid, e.fields) for e in rows}
    names = (str(arm), str(baseline))
    predictions = {names[0]: _by_seed(arm), names[1]: _by_seed(baseline)}
    return compare(predictions, [names], task, groups)[0]


def _by_seed(path: Path) -> dict[int, list[Prediction]]:
    files = {0: path}
    if path.is_dir():
        files = {
            int(file.parent.name.removeprefix("seed-")): file
            for file in sorted(path.glob("seed-*/test.jsonl"))
        }
        if not files:
            raise UsageError(f"{path}: holds no seed-N/test.jsonl: name a file, or an arm's folder")
    try:
        return {seed: read_predictions(file) for seed, file in files.items()}
    except FileNotFoundError as error:
        raise DataError("no such file: `tutelage predict` writes one", path=path) from error
    except TypeError as error:
        raise DataError("holds no predictions", path=path) from error
