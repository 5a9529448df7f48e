"""Training one student on one set of training examples, resumably.

What it leaves in its folder, and how a run is taken up again, is in `checkpoint`; how several
processes share one, in `parallel`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import RunFolderError, StudentError
from tutelage.core.storage import digest
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction, TrainingExample
from tutelage.student.encoding.batching import (
    EncodedExample,
    collate,
    encode,
    make_passes,
    training_steps,
)
from tutelage.student.encoding.packing import can_pack
from tutelage.student.fast.dropout import drawing_from
from tutelage.student.fast.threads import Lanes, draws_apart
from tutelage.student.inference.score import score_labels
from tutelage.student.model.lora import Adapters
from tutelage.student.model.precision import Optimizer, prepare
from tutelage.student.model.student import Student
from tutelage.student.training.checkpoint import Checkpoint, RunFiles
from tutelage.student.training.distributed import processes
from tutelage.student.training.loss import batch_loss
from tutelage.student.training.result import TrainResult
from tutelage.student.training.tracking import OnLog

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
    on_log: OnLog | None = None,
    on_result: Callable[[TrainResult], None] | None = None,
    key: str = "",
) -> TrainResult:
    """Train `student`, keep its best checkpoint in `folder`/model, and leave it loaded.

    on_step is told (steps done, steps at most), on_log each line of the log, and on_result, in the
    process that writes, the result, while an interruption is still made good. A folder that holds
    the state of the same run goes on from it; the state of another run (other rows, dev, task or
    settings, or another `key`, which stands for what cannot be seen here, as the weights that the
    student begins with) is an error. Order and
    dropout depend on (seed, step) alone, so that a resumed run ends like one that was not
    interrupted. Under `accelerate launch` every process calls this with the same arguments, and
    `batch_size` is that of all together.
    """
    if not training or not dev:
        raise StudentError(
            f"training needs rows: got {len(training)} to train on and {len(dev)} in dev"
        )
    student.objective = settings.objective
    student.fast = settings.fast
    encoded = encode(
        student,
        training,
        max_source_tokens=settings.max_source_tokens,
        max_rationale_tokens=settings.max_rationale_tokens,
    )
    files = RunFiles(Path(folder))
    run = _Run(student, encoded, dev, task, settings, files, on_log)
    read = [[e.uid, e.fields, e.label] for e in dev]
    words = [task.fields, task.labels, dict(task.verbalizers), task.context]
    run.resume(digest([key, settings, [e.strands for e in encoded], read, words]))
    try:
        progress = run.train(on_step)
    finally:
        run.lanes.close()
    run.adapters.remove()
    _load_weights(student, files.model)
    result = TrainResult(
        dev_accuracy=progress.best_accuracy,
        best_step=progress.best_step,
        steps=progress.step,
        evaluations=progress.evaluations,
        stopped_early=progress.step < run.total_steps,
        truncated_sources=sum(e.source_cut > 0 for e in encoded),
        truncated_targets=sum(e.target_cut > 0 for e in encoded),
        source_tokens_cut=sum(e.source_cut for e in encoded),
        target_tokens_cut=sum(e.target_cut for e in encoded),
        sources_cut_beyond=sum(e.source_cut_beyond > 0 for e in encoded),
        seconds=progress.seconds,
    )

    def finish() -> None:
        files.publish()
        if on_result is not None:
            on_result(result)
        files.finish()

    run.group.first(finish)
    return result


class _Run:
    """One training run: its optimiser, its place in the data, its best checkpoint."""

    def __init__(
        self,
        student: Student,
        encoded: Sequence[EncodedExample],
        dev: Sequence[Example],
        task: Task,
        settings: TrainSettings,
        files: RunFiles,
        on_log: OnLog | None,
    ) -> None:
        self.student = student
        self.encoded = encoded
        self.dev = dev
        self.task = task
        self.settings = settings
        self.files = files
        self.on_log = on_log
        self.group = processes()
        self.steps_per_epoch = math.ceil(len(encoded) / settings.batch_size)
        planned = self.steps_per_epoch * settings.epochs
        self.total_steps = min(planned, settings.max_steps or planned)
        prepare(student, settings.precision, compiled=settings.compile)
        self.adapters = Adapters(student, settings.lora, settings.seed)
        self.optimizer = Optimizer(student, settings.learning_rate, settings.weight_decay)
        self.progress = _Progress()
        self.key = ""
        # The ways that are found by trying are tried on the weights that the run begins with, so
        # that one that is resumed goes the same way.
        _ = can_pack(student), student.head_can_be_narrowed, student.head_is_linear
        # A compiled layer knows the weights that it was compiled with, and no double's.
        several = settings.threads > 1 and not settings.compile and draws_apart(student)
        threads = settings.threads if several else 1
        self.lanes = Lanes(student, threads, settings.tokens_per_micro_batch)

    def resume(self, key: str) -> None:
        """Take up the state in the folder, if there is one."""
        self.key = key

        def read() -> int:
            state = self.files.read_state(key, self.student.device)
            if state is None:
                return 0
            if state["processes"] != self.group.size:
                raise RunFolderError(
                    f"{self.files.folder}: was begun by {state['processes']} processes, which "
                    f"{self.group.size} cannot finish as it would have ended: start as many, or "
                    "delete the folder"
                )
            self.progress = _Progress(**state["progress"])
            if state["optimizer"] is not None:
                self.optimizer.load(state["optimizer"])
            return self.progress.step

        steps = self.group.together(read)
        if len(set(steps)) > 1:
            raise RunFolderError(
                f"{self.files.folder}: the processes see different states in it: it must be one "
                "folder that all of them share"
            )
        self.group.first(lambda: self.files.take_up(self.progress.step, self.progress.best_step))

    def train(self, on_step: Callable[[int, int], None] | None) -> _Progress:
        """Steps until the last one, or until dev has not improved for long enough."""
        progress, settings = self.progress, self.settings
        every = settings.evaluate_every or self.steps_per_epoch
        clock = time.perf_counter()
        for student in self.lanes.students:
            student.model.train()
        steps: list[list[list[EncodedExample]]] = []
        epoch = -1
        while progress.step < self.total_steps and not progress.finished:
            if progress.step // self.steps_per_epoch != epoch:
                epoch = progress.step // self.steps_per_epoch
                steps = training_steps(
                    self.encoded,
                    batch_size=settings.batch_size,
                    tokens_per_micro_batch=self.lanes.tokens_per_micro_batch,
                    seed=settings.seed,
                    epoch=epoch,
                    lanes=self.lanes.count,
                )
            share = self._step(self._share(steps[progress.step % self.steps_per_epoch]))
            progress.step += 1
            if progress.step % _LOG_EVERY == 0 or progress.step == 1:
                (loss,) = self.group.total(float(share))
                if not math.isfinite(loss):
                    raise StudentError(
                        f"the loss is not finite at step {progress.step} (learning rate "
                        f"{settings.learning_rate}): lower the learning rate, or precision: fp32"
                    )
                self._log(step=progress.step, loss=loss)
            if on_step is not None:
                on_step(progress.step, self.total_steps)
            if progress.step % every == 0 or progress.step == self.total_steps:
                # What is read and kept is one and the same model, adapters merged.
                with self.adapters.merged():
                    better = self._evaluate()
                    now = time.perf_counter()
                    progress.seconds, clock = progress.seconds + now - clock, now
                    self._commit(better)
        return progress

    def _share(self, passes: list[list[EncodedExample]]) -> list[list[EncodedExample]]:
        """This process's passes of a step: all of them, where it is alone."""
        if self.group.size == 1:
            return passes
        rows = sorted((row for part in passes for row in part), key=lambda row: row.length)
        return make_passes(
            self.group.share(rows), self.lanes.tokens_per_micro_batch, self.lanes.count
        )

    def _step(self, passes: Sequence[Sequence[EncodedExample]]) -> torch.Tensor:
        """One optimiser step, of which these passes are this process's share; returns its share of
        the loss (nats), still on the device: reading it makes a GPU wait."""
        settings, device = self.settings, self.student.device
        # Dropout's draws are a function of (seed, step, process) and, where passes run at once, of
        # their place: nothing to save for a resume.
        draws = settings.seed * 1_000_003 + self.progress.step + self.group.rank * 1_000_000_007
        torch.manual_seed(draws)
        counts = [row.counts for rows in passes for row in rows]
        label, rationale = self.group.total(sum(c[0] for c in counts), sum(c[1] for c in counts))
        totals = (int(label), int(rationale))
        # There is nothing to weigh a label against that stands alone.
        share = 1.0 if settings.objective == "label" else settings.label_weight

        def learn(student: Student, place: int, rows: Sequence[EncodedExample]) -> torch.Tensor:
            # Put together here, while a GPU has the pass before still to do.
            batch = collate(student, rows).to(device)
            with self._draws(draws, place):
                loss = batch_loss(student, batch).weighted((share, 1 - share), totals)
                loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        losses = self.lanes.run(learn, passes)
        total = sum(losses, torch.zeros((), device=device))
        rate = settings.learning_rate * self._schedule(self.progress.step)
        self.optimizer.step(rate, settings.max_grad_norm, self._complete)
        return total

    def _draws(self, step: int, place: int) -> AbstractContextManager[None]:
        """Where the pass at `place` draws its dropout from."""
        if self.lanes.count == 1:
            return nullcontext()
        return drawing_from(step * 1_000 + place)

    def _complete(self, weights: Sequence[torch.Tensor]) -> None:
        """Add to the student's gradients those of other lanes and of other processes."""
        self.lanes.add_gradients(weights)
        self.group.add_gradients(weights)

    def _schedule(self, step: int) -> float:
        """Share of the learning rate at `step` (from 0): warm-up, then the schedule."""
        warmup = min(self.settings.warmup_steps, max(self.total_steps // 2, 1))
        if step < warmup:
            return (step + 1) / warmup
        if self.settings.schedule == "constant":
            return 1.0
        return max((self.total_steps - step) / max(self.total_steps - warmup, 1), 0.0)

    def _evaluate(self) -> list[Prediction] | None:
        """Read dev; what was read, if this is the best reading so far."""
        progress = self.progress

        def read_share() -> list[Prediction]:
            return score_labels(
                self.student,
                self.group.share(self.dev),
                self.task,
                **self.settings.inference_limits,
            )

        predictions = self.group.gather(read_share, len(self.dev))
        accuracy = sum(p.label == p.gold for p in predictions) / len(predictions)
        progress.evaluations += 1
        self._log(step=progress.step, dev_accuracy=accuracy)
        if accuracy > progress.best_accuracy:
            progress.best_accuracy, progress.best_step = accuracy, progress.step
            progress.without_gain = 0
            return predictions
        progress.without_gain += 1
        progress.finished = progress.without_gain >= self.settings.patience
        return None

    def _commit(self, better: Sequence[Prediction] | None) -> None:
        """Keep where the run stands, and the student with its reading if it is the best so far."""
        progress = self.progress
        over = progress.finished or progress.step == self.total_steps
        state = {
            "key": self.key,
            "processes": self.group.size,
            "progress": {name: getattr(progress, name) for name in _Progress.__slots__},
            "optimizer": None if over else self.optimizer.state(),
        }
        checkpoint = None if better is None else Checkpoint(self.student, better)
        self.group.check_equal(self.optimizer.masters)
        self.group.first(lambda: self.files.commit(state, checkpoint, progress.best_step))

    def _log(self, **values: Any) -> None:
        def log() -> None:
            self.files.log(**values)
            if self.on_log is not None:
                self.on_log(values)

        self.group.first(log)


def _load_weights(student: Student, folder: Path) -> None:
    """Put the best checkpoint's weights into the student."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file, device=str(student.device))
    # Weights that two layers share are stored once: what is missing here is such a second name.
    found = student.model.load_state_dict(weights, strict=False)
    held = {
        weight.data_ptr() for name, weight in student.model.state_dict().items() if name in weights
    }
    lost = [n for n in found.missing_keys if student.model.state_dict()[n].data_ptr() not in held]
    if lost or found.unexpected_keys:
        raise RunFolderError(
            f"{folder}: holds other weights than this student's: without {lost[:3]}, with "
            f"{found.unexpected_keys[:3]}"
        )
    student.model.tie_weights()
