"""Concurrent micro-batches: the update of one thread, and the same every time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import small_training
import torch
from safetensors.torch import load_file

from tutelage.config.training_settings import LoraSettings
from tutelage.core.task import NLI
from tutelage.student.fast.threads import (
    ThreadedExecutor,
    add_to,
    only_fast_dropout_is_random,
)
from tutelage.student.inference.score import score_labels
from tutelage.student.model.precision import prepare
from tutelage.student.model.student import Student

SETTINGS = {"threads": 2, "tokens_per_micro_batch": 4096, "epochs": 1}
"""An epoch's last step has one row, so that one thread gets none."""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_training.make_tokenizer(tmp_path_factory.mktemp("words"))


def _trained(
    tokenizer: Path,
    folder: Path,
    on_step: Callable[[int, int], None] | None = None,
    **changes: Any,
) -> dict[str, torch.Tensor]:
    small_training.small_training(tokenizer, folder, on_step, **{**SETTINGS, **changes})
    return load_file(folder / "model" / "model.safetensors")


def test_a_replica_shares_the_weights_and_their_ties_but_no_gradient(student: Student) -> None:
    _, replica = ThreadedExecutor(student, 2, 8192).students
    with torch.no_grad():
        next(student.model.parameters()).add_(1)
    for weight, twin in zip(student.model.parameters(), replica.model.parameters(), strict=True):
        assert twin is not weight
        assert twin.data_ptr() == weight.data_ptr()
    assert replica.model.get_output_embeddings().weight.data_ptr() == (
        student.model.get_output_embeddings().weight.data_ptr()
    )
    assert len(list(replica.model.parameters())) == len(list(student.model.parameters()))
    replica.model(**student.probe_inputs()).logits.sum().backward()
    assert all(weight.grad is None for weight in student.model.parameters())


def test_results_are_in_the_items_order_and_an_index_decides_the_thread(student: Student) -> None:
    executor = ThreadedExecutor(student, 3, 8192)

    def work(replica: Student, index: int, item: int) -> tuple[int, int, int]:
        time.sleep(0.002 * (7 - index))
        return executor.students.index(replica), index, item

    found = executor.run(work, [*range(10, 17)])
    executor.close()
    assert found == [(index % 3, index, 10 + index) for index in range(7)]


def test_an_error_in_any_thread_is_raised(student: Student) -> None:
    executor = ThreadedExecutor(student, 2, 8192)

    def work(replica: Student, index: int, item: int) -> None:
        if index == 3:
            raise ValueError("in the second thread")

    with pytest.raises(ValueError, match="in the second thread"):
        executor.run(work, [0] * 5)
    executor.close()


def test_no_more_threads_than_there_is_work_for(student: Student) -> None:
    assert [ThreadedExecutor(student, 64, tokens).concurrency for tokens in (100, 2048, 8192)] == [
        1,
        2,
        8,
    ]
    assert [
        ThreadedExecutor(student, 64, tokens).tokens_per_micro_batch for tokens in (100, 8192)
    ] == [
        100,
        1024,
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_another_type_are_added_in_parts(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr("tutelage.student.fast.threads._CHUNK", 4)
    total, gradient = torch.randn(3, 7), torch.randn(7, 3).t().to(dtype)
    expected = total + gradient.float()
    add_to(total, gradient)
    assert torch.equal(total, expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_threads_make_the_update_of_one(
    precision: str, tokenizer: Path, tmp_path: Path
) -> None:
    plain = {"dropout": 0.0, "batch_size": 53, "precision": precision}
    together = _trained(tokenizer, tmp_path / "2", **plain)
    alone = _trained(tokenizer, tmp_path / "1", **plain, threads=1)
    new = small_training.new_student(tokenizer).model.state_dict()
    for name, weight in alone.items():
        moved = (weight.float() - new[name]).abs().max()
        apart = (together[name].float() - weight.float()).abs().mean()
        assert apart < (1e-3 if precision == "fp32" else 0.1) * moved, name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_trainings_with_dropout_are_bit_equal(
    precision: str, tokenizer: Path, tmp_path: Path
) -> None:
    one = _trained(tokenizer, tmp_path / "one", precision=precision)
    other = _trained(tokenizer, tmp_path / "other", precision=precision)
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())
    without = _trained(tokenizer, tmp_path / "without", precision=precision, dropout=0.0)
    assert not all(torch.equal(weight, without[name]) for name, weight in one.items())


def test_an_interrupted_training_ends_bit_equal(tokenizer: Path, tmp_path: Path) -> None:
    whole = _trained(tokenizer, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        _trained(tokenizer, tmp_path / "cut", kill)
    resumed = _trained(tokenizer, tmp_path / "cut")
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())


def test_adapters_are_trained_on_two_threads_too(tokenizer: Path, tmp_path: Path) -> None:
    settings = {"dropout": 0.0, "batch_size": 53, "lora": LoraSettings(rank=2)}
    together = _trained(tokenizer, tmp_path / "2", **settings)
    alone = _trained(tokenizer, tmp_path / "1", **settings, threads=1)
    for name, weight in alone.items():
        assert torch.allclose(together[name], weight, atol=1e-5), name


def test_whether_only_fast_dropout_is_random_is_tried_out(
    student: Student, encoder_decoder: Student
) -> None:
    assert only_fast_dropout_is_random(student)  # these have a dropout of zero
    for module in encoder_decoder.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    before = torch.get_rng_state()
    assert not only_fast_dropout_is_random(
        encoder_decoder
    )  # torch's own layers draw from what all threads share
    assert torch.equal(before, torch.get_rng_state())
    prepare(encoder_decoder, "fp32")
    assert only_fast_dropout_is_random(encoder_decoder)


def test_scoring_on_two_threads(student: Student) -> None:
    dev, counts = small_training.DEV, list[int]()
    together = score_labels(
        student, dev, NLI, tokens_per_micro_batch=2048, on_progress=counts.append
    )
    assert counts == sorted(counts)
    assert counts[-1] == len(dev)
    torch.set_num_threads(1)
    alone = score_labels(student, dev, NLI)
    for one, other in zip(together, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
        assert one.uid == other.uid
