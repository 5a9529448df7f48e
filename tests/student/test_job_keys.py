"""Everything that decides a job's result is in its key, and its errors are one line."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import StudentError
from tutelage.core.model_files import content_digest
from tutelage.core.task import NLI
from tutelage.data.synthetic import generate
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs import jobs
from tutelage.student.jobs.jobs import Runner, ScoringJob, TrainingJob, run_job
from tutelage.student.model.student import Student

DEV = generate(4, 2)
ROWS = build_training_examples(generate(8, 1), NLI, None, "label")
SETTINGS = TrainSettings(objective="label", epochs=1, batch_size=8, label_weight=1.0)


def _job(student: str, folder: Path) -> TrainingJob:
    return TrainingJob(student, None, ROWS, DEV, NLI, SETTINGS, folder)


def test_other_weights_in_the_same_folder_are_another_job(
    encoder_decoder: Student, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    encoder_decoder.save(model)
    first = _job(str(model), tmp_path / "run")
    run_job(first)
    assert jobs.finished_result(_job(str(model), tmp_path / "run"))
    with torch.no_grad():
        encoder_decoder.model.shared.weight[0, 0] += 1
    encoder_decoder.save(model)
    other = _job(str(model), tmp_path / "run")
    assert other.key != first.key
    assert not jobs.finished_result(other)


def test_only_files_on_this_machine_have_a_digest(tmp_path: Path) -> None:
    assert content_digest("scratch:t5-tiny") is None
    assert content_digest("google-t5/t5-small") is None
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF and so on")
    first = content_digest(f"gguf:{file}")
    file.write_bytes(b"GGUF and no on")
    os.utime(file, (1, 1))
    assert first != content_digest(f"gguf:{file}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "notes.md").write_text("of no matter", encoding="utf-8")
    held = content_digest(str(tmp_path))
    (tmp_path / "notes.md").write_text("changed", encoding="utf-8")
    assert content_digest(str(tmp_path)) == held
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert content_digest(str(tmp_path)) != held


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "lower tokens_per_micro_batch"),
        (MemoryError(), "out of memory: lower tokens_per_micro_batch"),
        (RuntimeError("shapes\n  do not match"), "shapes do not match"),
    ],
)
def test_errors_of_a_job_in_this_process_are_one_line(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(jobs, "run_job", fail)
    job = _job("scratch:t5-tiny", tmp_path / "arms" / "labels" / "seed-0")
    with pytest.raises(StudentError, match=message) as caught, Runner(1) as runner:
        list(runner.run([job]))
    assert str(caught.value).startswith("arms/labels/seed-0: ")


def test_predictions_without_their_marker_are_not_a_result(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = replace(_job("scratch:t5-tiny", tmp_path / "run"), tokenizer=tokenizer_folder)
    run_job(trained)
    output = tmp_path / "test.jsonl"
    first = ScoringJob(trained, DEV, output)
    run_job(first)
    assert jobs.finished_result(first)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    other = ScoringJob(trained, generate(4, 3), output)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(jobs, "write_json", killed)
        run_job(other)
    # The file holds predictions for other rows now: the old marker must not vouch for them.
    assert not jobs.finished_result(first)
    assert not jobs.finished_result(other)
