"""A student scores what it scored after its training when it is loaded again, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import make_folder, named

from tutelage.config.training_settings import TrainSettings
from tutelage.core.task import NLI
from tutelage.core.types import Rationale
from tutelage.data.synthetic import generate as synthetic
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.inference.score import score_labels
from tutelage.student.model.loading import load_student
from tutelage.student.model.precision import prepare
from tutelage.student.training.trainer import train

ROWS, DEV = synthetic(8, 1), synthetic(6, 2)
WHY = [Rationale(e.uid, "human", e.reason or "It follows.", "ok") for e in ROWS]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("name", ["T5", "BART", "Llama", "Gemma 3"])
def test_scores_are_the_same_after_loading(
    name: str, precision: str, tokenizer_folder: Path, tmp_path: Path
) -> None:
    student = load_student(str(make_folder(named(name), tmp_path / "start", tokenizer_folder)))
    rows = build_training_examples(ROWS, NLI, WHY, "label_then_rationale")
    settings = TrainSettings(
        learning_rate=1e-2, batch_size=4, max_steps=2, warmup_steps=1, precision=precision
    )
    before = [p.probabilities for p in score_labels(student, DEV, NLI)]
    train(student, rows, DEV, NLI, settings, tmp_path / "run")
    trained = score_labels(student, DEV, NLI)
    assert [p.probabilities for p in trained] != before
    again = load_student(str(tmp_path / "run" / "model"))
    prepare(again, precision)
    assert again.model.dtype == student.model.dtype
    assert score_labels(again, DEV, NLI) == trained
