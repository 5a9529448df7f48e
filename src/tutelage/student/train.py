"""Training one student on one set of training examples, resumably.

A run of `train` leaves in its folder
    model/        the best checkpoint by dev accuracy: safetensors, configuration, tokenizer
    log.jsonl     a line for each evaluation and every few steps
    state.pt      everything needed to go on after an interruption; gone once the run is complete
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from tutelage.errors import RunFolderError, StudentError
from tutelage.records import Example, TrainingExample
from tutelage.runfolder import digest, write_atomic
from tutelage.student.collate import (
    EncodedExample,
    collate,
    encode,
    training_steps,
)
from tutelage.student.loss import segment_loss, target_logits
from tutelage.student.model import Student
from tutelage.student.precision import Optimizer, prepare
from tutelage.student.score import score_labels
from tutelage.student.settings import TrainResult, TrainSettings
from tutelage.task import Task

_LOG_EVERY = 20
"""Optimiser steps between two lines of training loss in the log."""


@dataclass(slots=True)
class _Progress:
    """Where a run stands; all of it goes into state.pt."""

    step: int = 0
    best_accuracy: float = -1.0
    best_step: int = 0
    evaluations: int = 0
    without_gain: int = 0
    seconds: float = 0.0
    finished: bool = False


def train(
    student: Student,
    training: Sequence[TrainingExample],
    dev: Sequence[Example],
    task: Task,
    settings: TrainSettings,
    folder: Path | str,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainResult:
    """Train `student`, keep its best checkpoint in `folder`/model, and leave it loaded.

    on_step is told (steps done, steps at most). A folder that holds the state of the same run goes
    on from it; the state of another run is an error. Order and dropout depend on (seed, step)
    alone, so that a resumed run ends like one that was not interrupted.
    """
    if not training or not dev:
        raise StudentError(
            f"training needs rows: got {len(training)} to train on and {len(dev)} in dev"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    encoded = encode(
        student,
        training,
        max_source_tokens=settings.max_source_tokens,
        max_rationale_tokens=settings.max_rationale_tokens,
    )
    run = _Run(student, encoded, dev, task, settings, folder)
    run.resume(digest([settings, [[e.source, e.label, e.rationale] for e in encoded]]))
    progress = run.train(on_step)
    _load_weights(student, folder / "model")
    (folder / "state.pt").unlink(missing_ok=True)
    return TrainResult(
        dev_accuracy=progress.best_accuracy,
        best_step=progress.best_step,
        steps=progress.step,
        evaluations=progress.evaluations,
        stopped_early=progress.step < run.total_steps,
        truncated_sources=sum(e.truncated_source for e in encoded),
        truncated_targets=sum(e.truncated_target for e in encoded),
        seconds=progress.seconds,
    )


class _Run:
    """One training run: its optimiser, its place in the data, its best checkpoint."""

    def __init__(
        self,
        student: Student,
        encoded: Sequence[EncodedExample],
        dev: Sequence[Example],
        task: Task,
        settings: TrainSettings,
        folder: Path,
    ) -> None:
        self.student = student
        self.encoded = encoded
        self.dev = dev
        self.task = task
        self.settings = settings
        self.folder = folder
        self.steps_per_epoch = math.ceil(len(encoded) / settings.batch_size)
        planned = self.steps_per_epoch * settings.epochs
        self.total_steps = min(planned, settings.max_steps or planned)
        prepare(student, settings.precision, compiled=settings.compile)
        self.optimizer = Optimizer(student, settings.learning_rate, settings.weight_decay)
        self.progress = _Progress()
        self.key = ""

    def resume(self, key: str) -> None:
        """Take up the state in the folder, if there is one."""
        self.key = key
        path = self.folder / "state.pt"
        if not path.exists():
            (self.folder / "log.jsonl").unlink(missing_ok=True)
            return
        try:
            state = torch.load(path, map_location=self.student.device, weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, UnpicklingError) as error:
            raise RunFolderError(f"{path}: cannot be read ({error}): delete it") from error
        if state["key"] != key:
            raise RunFolderError(
                f"{path}: is the state of a run with other data or settings: delete the folder, "
                "or give the recipe another name"
            )
        self.optimizer.load(state["optimizer"])
        self.progress = _Progress(**state["progress"])
        self._cut_log()

    def train(self, on_step: Callable[[int, int], None] | None) -> _Progress:
        """Steps until the last one, or until dev has not improved for long enough."""
        progress, settings = self.progress, self.settings
        every = settings.evaluate_every or self.steps_per_epoch
        clock = time.perf_counter()
        self.student.model.train()
        steps: list[list[list[EncodedExample]]] = []
        epoch = -1
        while progress.step < self.total_steps and not progress.finished:
            if progress.step // self.steps_per_epoch != epoch:
                epoch = progress.step // self.steps_per_epoch
                steps = training_steps(
                    self.encoded,
                    batch_size=settings.batch_size,
                    tokens_per_pass=settings.tokens_per_pass,
                    seed=settings.seed,
                    epoch=epoch,
                )
            loss = self._step(steps[progress.step % self.steps_per_epoch])
            progress.step += 1
            if progress.step % _LOG_EVERY == 0 or progress.step == 1:
                if not math.isfinite(loss):
                    raise StudentError(
                        f"the loss is not finite at step {progress.step} (learning rate "
                        f"{settings.learning_rate}): lower the learning rate, or precision: fp32"
                    )
                self._log(step=progress.step, loss=loss)
            if on_step is not None:
                on_step(progress.step, self.total_steps)
            if progress.step % every == 0 or progress.step == self.total_steps:
                self._evaluate()
                now = time.perf_counter()
                progress.seconds, clock = progress.seconds + now - clock, now
                if progress.step < self.total_steps and not progress.finished:
                    self._save_state()
        return progress

    def _step(self, passes: Sequence[Sequence[EncodedExample]]) -> float:
        """One optimiser step over all its passes; returns its loss (nats)."""
        settings, device = self.settings, self.student.device
        # Dropout's draws are a function of (seed, step): nothing to save for a resume.
        torch.manual_seed(settings.seed * 1_000_003 + self.progress.step)
        batches = [collate(self.student, rows).to(device) for rows in passes]
        counts = [b.counts for b in batches]
        totals = (sum(c[0] for c in counts), sum(c[1] for c in counts))
        weights = (settings.label_weight, 1 - settings.label_weight)
        total = 0.0
        for batch in batches:
            logits = target_logits(self.student, batch)
            loss = segment_loss(logits, batch).weighted(weights, totals)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        rate = settings.learning_rate * self._schedule(self.progress.step)
        self.optimizer.step(rate, settings.max_grad_norm)
        return total

    def _schedule(self, step: int) -> float:
        """Share of the learning rate at `step` (from 0): warm-up, then the schedule."""
        warmup = min(self.settings.warmup_steps, max(self.total_steps // 2, 1))
        if step < warmup:
            return (step + 1) / warmup
        if self.settings.schedule == "constant":
            return 1.0
        return max((self.total_steps - step) / max(self.total_steps - warmup, 1), 0.0)

    def _evaluate(self) -> None:
        """Read dev; keep the checkpoint if it is the best so far."""
        progress = self.progress
        predictions = score_labels(
            self.student,
            self.dev,
            self.task,
            max_source_tokens=self.settings.max_source_tokens,
            tokens_per_pass=self.settings.tokens_per_pass,
        )
        accuracy = sum(p.label == p.gold for p in predictions) / len(predictions)
        progress.evaluations += 1
        self._log(step=progress.step, dev_accuracy=accuracy)
        if accuracy > progress.best_accuracy:
            progress.best_accuracy, progress.best_step = accuracy, progress.step
            progress.without_gain = 0
            self._save_model()
        else:
            progress.without_gain += 1
            progress.finished = progress.without_gain >= self.settings.patience

    def _save_model(self) -> None:
        """Replace the best checkpoint; a kill in the middle leaves the old one or the new one."""
        new, old, place = (self.folder / name for name in ("model.new", "model.old", "model"))
        shutil.rmtree(new, ignore_errors=True)
        self.student.save(new)
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            place.rename(old)
        new.rename(place)
        shutil.rmtree(old, ignore_errors=True)

    def _save_state(self) -> None:
        """Everything to go on from here, read back with weights_only."""
        progress = {name: getattr(self.progress, name) for name in _Progress.__slots__}
        temporary = self.folder / ".state.pt.new"
        torch.save(
            {
                "key": self.key,
                "progress": progress,
                "optimizer": self.optimizer.state(),
            },
            temporary,
        )
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(self.folder / "state.pt")

    def _log(self, **values: Any) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def _cut_log(self) -> None:
        """Drop the log's lines after the state that is resumed: those steps are run again."""
        path = self.folder / "log.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= self.progress.step:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue  # the half line that a kill left
        write_atomic(path, "".join(kept))


def _load_weights(student: Student, folder: Path) -> None:
    """Put the best checkpoint's weights into the student."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file, device=str(student.device))
    # Weights that two layers share are stored once: what is missing here is such a second name.
    student.model.load_state_dict(weights, strict=False)
    student.model.tie_weights()
