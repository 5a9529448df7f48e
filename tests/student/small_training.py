"""A small training that stops early, for the tests of checkpoints and of several processes.

`main` trains, and kills its process with SIGKILL while it writes its N-th checkpoint.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tutelage.config.training_settings import TrainSettings
from tutelage.core.task import NLI
from tutelage.core.types import Rationale
from tutelage.data.synthetic import generate
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.model.loading import load_student
from tutelage.student.model.scratch import tokenizer_for
from tutelage.student.model.student import Student
from tutelage.student.training.result import TrainResult
from tutelage.student.training.trainer import train

TRAIN, DEV = generate(53, 1), generate(27, 2)
ROWS = build_training_examples(
    TRAIN,
    NLI,
    [Rationale(e.uid, "human", e.reason or "", "ok") for e in TRAIN],
    "label_then_rationale",
)
SETTINGS = TrainSettings(
    learning_rate=3e-3,
    label_weight=0.3,
    epochs=10,
    batch_size=13,
    warmup_steps=2,
    evaluate_every=2,
    patience=3,
    dropout=0.1,
    tokens_per_micro_batch=600,
)
"""With 53 rows the last step of an epoch has one row, and a second process gets none."""


def make_tokenizer(folder: Path) -> Path:
    return tokenizer_for(ROWS, folder)


def new_student(tokenizer: Path, dropout: float = 0.1) -> Student:
    return load_student("scratch:t5-tiny", tokenizer=tokenizer, seed=0, dropout=dropout)


def small_training(
    tokenizer: Path,
    folder: Path,
    on_step: Callable[[int, int], None] | None = None,
    **changes: Any,
) -> TrainResult:
    settings = SETTINGS.replace(**changes)
    student = new_student(tokenizer, settings.dropout or 0.0)
    return train(student, ROWS, DEV, NLI, settings, folder, on_step)


def main(folder: Path, tokenizer: Path, seed: int, last: int) -> None:
    torch.set_num_threads(1)
    save, calls = Student.save, 0

    def dying(student: Student, place: Path) -> None:
        nonlocal calls
        calls += 1
        save(student, place)
        if calls == last:
            weights = place / "model.safetensors"
            os.truncate(weights, weights.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    Student.save = dying  # type: ignore[method-assign]
    small_training(tokenizer, folder, seed=seed)
