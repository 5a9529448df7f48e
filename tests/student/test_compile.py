"""`compile: true`: the same training; refused before anything is paid for if it is impossible."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tutelage.config.recipe_file import parse_recipe
from tutelage.config.training_settings import LoraSettings, TrainSettings
from tutelage.core.errors import StudentError, UsageError
from tutelage.core.task import NLI
from tutelage.data.synthetic import generate
from tutelage.experiment.run import run
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs import measuring
from tutelage.student.jobs.jobs import TrainingJob
from tutelage.student.model.precision import check_compiled
from tutelage.student.model.student import Student
from tutelage.student.training.trainer import train

ROWS, DEV = build_training_examples(generate(8, 1), NLI, None, "label"), generate(4, 2)
SETTINGS = TrainSettings(
    objective="label", learning_rate=1e-2, epochs=1, batch_size=4, warmup_steps=1, precision="fp32"
)


def test_a_compiled_student_learns_the_same(
    decoder_only: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced forwards and backwards, with the shapes and the saved tensors of a compiled layer. What
    # torch's compiler makes of these, 22 files of C++ in a minute of a core, is not ours to test.
    traced = []

    def compile_(forward: Any, **options: Any) -> Any:
        traced.append(options)
        return compile_as_usual(forward, backend="aot_eager", **options)

    compile_as_usual = torch.compile
    monkeypatch.setattr(torch, "compile", compile_)
    del decoder_only.model.base_model.layers[1:]  # one is enough
    decoder_only.model.config.num_hidden_layers = 1  # a checkpoint is loaded as what it says it is
    name = "model.embed_tokens.weight"
    before = decoder_only.model.state_dict()[name].clone()
    learnt = []
    for compiled in (False, True):
        student = copy.deepcopy(decoder_only)
        folder = tmp_path / str(compiled)
        train(student, ROWS, DEV, NLI, SETTINGS.replace(compile=compiled), folder)
        learnt.append(load_file(folder / "model" / "model.safetensors"))
        assert not torch.equal(learnt[-1][name], before)
    assert learnt[0].keys() == learnt[1].keys()
    for name, weight in learnt[0].items():
        torch.testing.assert_close(learnt[1][name], weight, rtol=1e-3, atol=1e-4)
    assert traced == [{"dynamic": True}]


def test_nothing_is_compiled_to_measure_a_training(
    decoder_only: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", never)
    decoder_only.save(tmp_path / "llama")
    settings = SETTINGS.replace(compile=True)
    with pytest.raises(AssertionError, match="compiled"):
        train(copy.deepcopy(decoder_only), ROWS, DEV, NLI, settings, tmp_path / "trained")
    job = TrainingJob(str(tmp_path / "llama"), None, ROWS, DEV, NLI, settings, tmp_path / "job")
    cost = measuring._measure(job, str(tmp_path / "measured"), 0.02)
    assert cost.step > 0 and cost.scored_row > 0


def test_adapters_are_not_compiled(small_recipe: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(
        UsageError, match="compile: true does not work with lora: remove one of them"
    ):
        TrainSettings(compile=True, lora=LoraSettings())
    values = small_recipe()
    values["student"] |= {"compile": True, "lora": {}}
    with pytest.raises(UsageError, match="compile: true does not work with lora"):
        parse_recipe(values)


def test_what_cannot_be_compiled_is_reported_before_the_teacher_is_called(
    small_recipe: Callable[..., dict[str, Any]], encoder_decoder: Student, tmp_path: Path
) -> None:
    values = small_recipe()
    values["student"]["compile"] = True
    with pytest.raises(StudentError, match="compile: true is for decoder-only"):
        run(parse_recipe(values), runs=tmp_path, ledger=tmp_path / "ledger.sqlite", workers=1)
    assert not (tmp_path / "ledger.sqlite").exists()
    encoder_decoder.save(tmp_path / "t5")
    with pytest.raises(StudentError, match="compile: true is for decoder-only"):
        check_compiled(str(tmp_path / "t5"))


def test_a_model_with_one_list_of_layers_can_be_compiled(
    decoder_only: Student, tmp_path: Path
) -> None:
    decoder_only.save(tmp_path)
    check_compiled(str(tmp_path))
