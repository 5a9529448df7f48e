"""Predict with a trained student."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from tutelage.config.training_settings import Fast
from tutelage.core.errors import StudentError
from tutelage.core.storage import write_jsonl
from tutelage.core.task import NLI, Task
from tutelage.core.types import Prediction
from tutelage.data.load import load_examples


def predict_file(
    model: Path,
    data: str,
    *,
    task: Task = NLI,
    columns: Mapping[str, str] | None = None,
    explained: bool = False,
    output: Path | None = None,
    fast: Fast = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Predict the rows of `data` with the checkpoint in `model`; write them to `output`.

    explained:   also let the student write its rationales
    on_progress: called with the rows done and their total, first for labels, then for rationales

    Raises StudentError where `model` is not a checkpoint.
    """
    from tutelage.student.inference.explain import explain
    from tutelage.student.inference.score import score_labels
    from tutelage.student.model.loading import load_student
    from tutelage.student.model.precision import choose_device, prepare

    if not (model / "config.json").exists():
        raise StudentError(f"{model}: holds no model: expected a checkpoint folder, …/seed-N/model")
    examples = list(load_examples(data, task, columns=columns))
    total = len(examples)
    student = load_student(str(model), fast=fast).to(choose_device())
    prepare(student, student.precision or "auto")
    report = None if on_progress is None else (lambda done: on_progress(done, total))
    predictions = score_labels(student, examples, task, on_progress=report)
    if explained:
        texts = explain(student, examples, predictions, task, on_progress=report)
        predictions = [
            dataclasses.replace(p, rationale=text)
            for p, text in zip(predictions, texts, strict=True)
        ]
    if output is not None:
        write_jsonl(output, predictions)
    return predictions
