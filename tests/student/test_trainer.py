from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import RunFolderError, StudentError
from tutelage.core.task import NLI
from tutelage.core.types import Rationale
from tutelage.data.synthetic import generate
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.inference.score import score_labels
from tutelage.student.model.loading import load_student
from tutelage.student.model.precision import Optimizer, prepare
from tutelage.student.model.scratch import tokenizer_for
from tutelage.student.model.student import Student
from tutelage.student.model.weights import restore_weights
from tutelage.student.training.result import TrainResult
from tutelage.student.training.trainer import train

TRAIN, DEV = generate(96, 1), generate(48, 2)
ROWS = build_training_examples(
    TRAIN,
    NLI,
    [Rationale(e.uid, "human", e.reason or "", "ok") for e in TRAIN],
    "label_then_rationale",
)
SETTINGS = TrainSettings(
    learning_rate=3e-3,
    label_weight=0.3,
    epochs=3,
    batch_size=16,
    warmup_steps=2,
    evaluate_every=4,
    dropout=0.1,
    tokens_per_micro_batch=600,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_for(ROWS, tmp_path_factory.mktemp("words"))


@pytest.fixture
def new(tokenizer: Path) -> Callable[[], Student]:
    return lambda: load_student("scratch:t5-tiny", tokenizer=tokenizer, seed=0, dropout=0.1)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Killed(Exception):
    pass


def _log(folder: Path) -> list[dict[str, float]]:
    return [
        json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]


@pytest.fixture(scope="module")
def whole(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Path]:
    """A training that nothing interrupts, and its folder, which tests only read."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    student = load_student("scratch:t5-tiny", tokenizer=tokenizer, seed=0, dropout=0.1)
    return train(student, ROWS, DEV, NLI, SETTINGS, folder), folder


@pytest.mark.parametrize("stop", [5, 8, 13])
def test_an_interrupted_run_ends_bit_equal(
    new: Callable[[], Student], whole: tuple[TrainResult, Path], tmp_path: Path, stop: int
) -> None:
    def kill(step: int, total: int) -> None:
        if step == stop:
            raise Killed

    with pytest.raises(Killed):
        train(new(), ROWS, DEV, NLI, SETTINGS, tmp_path / "parts", kill)
    assert (tmp_path / "parts" / "state.pt").exists()
    resumed_at: list[int] = []
    parts = train(
        new(), ROWS, DEV, NLI, SETTINGS, tmp_path / "parts", lambda step, _: resumed_at.append(step)
    )
    # The state is written after the evaluation on dev, which a kill at that step prevents.
    assert resumed_at[0] == (stop - 1) // 4 * 4 + 1
    assert replace(parts, seconds=0) == replace(whole[0], seconds=0)
    assert _log(tmp_path / "parts") == _log(whole[1])
    weights = [load_file(f / "model" / "model.safetensors") for f in (whole[1], tmp_path / "parts")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not (tmp_path / "parts" / "state.pt").exists()


def test_the_checkpoint_kept_is_the_best_by_dev(whole: tuple[TrainResult, Path]) -> None:
    result, folder = whole
    evaluations = [
        (line["dev_accuracy"], line["step"]) for line in _log(folder) if "dev_accuracy" in line
    ]
    best = max(accuracy for accuracy, _ in evaluations)
    assert result.dev_accuracy == best
    assert result.best_step == next(step for accuracy, step in evaluations if accuracy == best)
    assert {p.suffix for p in (folder / "model").iterdir()} <= {".json", ".safetensors", ".jinja"}


def test_patience_stops_early(new: Callable[[], Student], tmp_path: Path) -> None:
    still = SETTINGS.replace(learning_rate=1e-12, patience=2, evaluate_every=1)
    result = train(new(), ROWS, DEV, NLI, still, tmp_path)
    assert (result.steps, result.best_step, result.stopped_early) == (3, 1, True)


def test_seeds_change_the_result(new: Callable[[], Student], tmp_path: Path) -> None:
    short = SETTINGS.replace(max_steps=4)
    for seed in (0, 1):
        train(new(), ROWS, DEV, NLI, short.replace(seed=seed), tmp_path / str(seed))
    one, other = (load_file(tmp_path / s / "model" / "model.safetensors") for s in ("0", "1"))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_micro_batches_of_another_size_give_the_same_step(tokenizer: Path, tmp_path: Path) -> None:
    plain = SETTINGS.replace(dropout=0.0, max_steps=3)
    losses, weights = [], []
    for size in (10**6, 300):
        student = load_student("scratch:t5-tiny", tokenizer=tokenizer, dropout=0.0)
        train(
            student,
            ROWS,
            DEV,
            NLI,
            plain.replace(tokens_per_micro_batch=size),
            tmp_path / str(size),
        )
        losses.append(_log(tmp_path / str(size))[0]["loss"])
        weights.append(load_file(tmp_path / str(size) / "model" / "model.safetensors"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    # Adam's steps do not show a gradient's size, but they show that a micro-batch is missing.
    apart = torch.cat([(weights[0][n] - weights[1][n]).abs().flatten() for n in weights[0]])
    assert apart.mean() < 1e-4 * 3 * plain.learning_rate  # 1e-7 here


def test_a_label_without_rationale_has_all_the_weight(
    new: Callable[[], Student], tmp_path: Path
) -> None:
    rows = build_training_examples(TRAIN, NLI, None, "label")
    alone = SETTINGS.replace(objective="label", max_steps=1)
    for weight in (0.3, 1.0):
        settings = alone.replace(label_weight=weight)
        train(new(), rows, DEV, NLI, settings, tmp_path / str(weight))
    assert _log(tmp_path / "0.3") == _log(tmp_path / "1.0")


def test_other_weights_than_the_students_are_not_loaded(
    new: Callable[[], Student], tmp_path: Path
) -> None:
    student = new()
    student.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({"other": weights.popitem()[1], **weights}, tmp_path / "model.safetensors")
    with pytest.raises(RunFolderError, match=r"without \['.+'\], with \['other'\]"):
        restore_weights(student.model, tmp_path)


def test_a_state_of_other_settings_is_refused(new: Callable[[], Student], tmp_path: Path) -> None:
    def kill(step: int, total: int) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(new(), ROWS, DEV, NLI, SETTINGS, tmp_path, kill)
    with pytest.raises(RunFolderError, match="other data or settings"):
        train(new(), ROWS, DEV, NLI, SETTINGS.replace(learning_rate=1e-4), tmp_path)
    with pytest.raises(RunFolderError, match="other data or settings"):
        train(new(), ROWS, DEV[1:], NLI, SETTINGS, tmp_path)
    with pytest.raises(RunFolderError, match="other data or settings"):
        train(new(), ROWS, DEV, NLI, SETTINGS, tmp_path, key="another student's weights")
    (tmp_path / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(RunFolderError, match="cannot be read"):
        train(new(), ROWS, DEV, NLI, SETTINGS, tmp_path)


def test_a_loss_that_is_not_finite_ends_the_training(
    new: Callable[[], Student], tmp_path: Path
) -> None:
    student = new()
    with torch.no_grad():
        student.model.shared.weight.fill_(float("inf"))
    (tmp_path / "model").mkdir()  # of a training with other settings
    (tmp_path / "dev.jsonl").write_text("", encoding="utf-8")
    result = train(student, ROWS, DEV, NLI, SETTINGS, tmp_path)
    assert (result.diverged_at, result.steps, result.evaluations) == (1, 1, 0)
    assert (result.dev_accuracy, result.best_step, result.has_checkpoint) == (None, 0, False)
    assert not result.stopped_early
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl"}


@pytest.mark.parametrize("what", ["loss", "gradients", "scores"])
def test_after_a_checkpoint_a_training_that_diverges_keeps_it(
    new: Callable[[], Student], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """In step 6, between the evaluations after steps 4 and 8; the log would look at step 20."""
    student, steps = new(), 0
    step = Optimizer.step

    def failing(self: Optimizer, *arguments: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if what == "gradients" and steps == 6:
            self.weights[0].grad = torch.full_like(self.weights[0], float("nan"))
        norm = step(self, *arguments)
        if what == "loss" and steps == 5:
            with torch.no_grad():
                student.model.shared.weight.fill_(float("nan"))
        if what == "scores" and steps == 8:
            with torch.no_grad():
                student.model.shared.weight.fill_(float("nan"))
        return norm

    monkeypatch.setattr(Optimizer, "step", failing)
    result = train(student, ROWS, DEV, NLI, SETTINGS, tmp_path)
    assert result.diverged_at == (8 if what == "scores" else 6)
    assert (result.best_step, result.evaluations) == (4, 1)
    assert result.steps == 8  # it is noticed before, or in, the next evaluation
    assert not (tmp_path / "state.pt").exists()
    lines = _log(tmp_path)
    assert [line["dev_accuracy"] for line in lines if "dev_accuracy" in line] == [
        result.dev_accuracy
    ]
    assert lines[-1] == {"step": 8, "diverged_at": result.diverged_at}
    # The student has the checkpoint's weights again.
    assert all(bool(torch.isfinite(w).all()) for w in student.model.parameters())
    kept = score_labels(student, DEV, NLI)
    assert sum(p.label == p.gold for p in kept) / len(DEV) == result.dev_accuracy


def test_training_needs_rows(new: Callable[[], Student], tmp_path: Path) -> None:
    with pytest.raises(StudentError, match="got 0 to train on"):
        train(new(), [], DEV, NLI, SETTINGS, tmp_path)


def test_bf16_keeps_masters_that_small_steps_reach(decoder_only: Student) -> None:
    prepare(decoder_only, "bf16")
    assert decoder_only.model.dtype == torch.bfloat16
    optimizer = Optimizer(decoder_only, learning_rate=1e-5, weight_decay=0.0)
    before = [m.detach().clone() for m in optimizer.masters]
    torch.manual_seed(0)
    for _ in range(100):
        for weight in optimizer.weights:
            weight.grad = torch.ones_like(weight)
        optimizer.step(1e-5, 1.0)
    # A hundred steps of 1e-5, each far below the resolution of bf16 at 1: none is lost.
    for start, master, weight in zip(before, optimizer.masters, optimizer.weights, strict=True):
        torch.testing.assert_close(start - master, torch.full_like(start, 1e-3), rtol=0.05, atol=0)
        assert torch.equal(weight, master.to(torch.bfloat16))
    state = optimizer.state()
    fresh = Optimizer(decoder_only, learning_rate=1e-5, weight_decay=0.0)
    fresh.load(state)
    for one, other in zip(fresh.masters, optimizer.masters, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("below", [0, 1 << 40])
def test_large_gradients_of_masters_keep_their_memory_but_not_their_values(
    decoder_only: Student, monkeypatch: pytest.MonkeyPatch, below: int
) -> None:
    monkeypatch.setattr("tutelage.student.model.precision.KEPT_BELOW", below)
    prepare(decoder_only, "bf16")
    optimizer = Optimizer(decoder_only, learning_rate=1e-5, weight_decay=0.0)
    places: list[list[int]] = []

    def look(masters: Sequence[torch.Tensor]) -> None:
        assert masters[0].grad is None if len(places) == 1 else masters[0].grad is not None
        for master in masters[1:]:
            assert master.grad is not None
            assert torch.equal(master.grad, torch.full_like(master, float(len(places))))
        places.append([m.grad.data_ptr() for m in masters[1:] if m.grad is not None])

    for step in range(3):
        for number, weight in enumerate(optimizer.weights):
            if number or step != 1:  # one weight has no gradient in the second step
                weight.grad = torch.full_like(weight, step)
        optimizer.step(1e-5, 1e9, look)
    assert len(places) == 3
    if below == 0:
        assert places[0] == places[1] == places[2]
