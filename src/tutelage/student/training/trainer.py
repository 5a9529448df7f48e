"""Trains one student on one set of training examples, resumably.

`checkpoint` describes the files and how a training resumes; `distributed`, how several processes
share one training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import DivergedError, RunFolderError, StudentError
from tutelage.core.main_metric import MetricName, score
from tutelage.core.storage import digest
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction, TrainingExample
from tutelage.student.encoding.batching import collate, make_micro_batches, training_steps
from tutelage.student.encoding.tokenise import EncodedExample, encode_examples
from tutelage.student.fast.threads import ThreadedExecutor, only_fast_dropout_is_random
from tutelage.student.inference.score import check_scoring, rows_change_each_other, score_labels
from tutelage.student.model.executor import Executor
from tutelage.student.model.lora import Adapters
from tutelage.student.model.precision import Optimizer, prepare
from tutelage.student.model.room import check_room
from tutelage.student.model.student import Student
from tutelage.student.model.weights import restore_weights
from tutelage.student.training.checkpoint import Checkpoint, TrainingFiles, record_of
from tutelage.student.training.distributed import process_group
from tutelage.student.training.loss import batch_loss
from tutelage.student.training.result import TrainResult
from tutelage.student.training.tracking import OnLog

_LOG_EVERY = 20
"""Optimiser steps between two lines of training loss in the log."""


@dataclass(slots=True)
class _Progress:
    """How far a training is; stored in state.pt. `best_accuracy` is by the training's metric."""

    step: int = 0
    best_accuracy: float = -1.0
    best_step: int = 0
    evaluations: int = 0
    without_gain: int = 0
    seconds: float = 0.0
    finished: bool = False
    diverged_at: int | None = None


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
    metric: MetricName = "accuracy",
    restore: bool = True,
) -> TrainResult:
    """Train `student`, keep its best checkpoint in `folder`/model, and load that checkpoint.

    on_step:   called with (steps done, steps at most)
    on_log:    called with each line of the log
    on_result: called with the result in the process that writes, while an interruption can still
               be recovered from
    key:       stands for what cannot be seen here, such as the weights that the student starts
               with, and for `metric`
    metric:    by which dev chooses the checkpoint
    restore:   whether the checkpoint is loaded into `student`; False where it is not used any more

    A folder with the state of the same training resumes it. The state of another training (other
    rows, dev, task, settings or `key`) raises RunFolderError. Order and dropout depend only on
    (seed, step), so that a resumed training ends like one without interruption. Under `accelerate
    launch` every process calls this with the same arguments; `batch_size` counts the rows of all.

    A training whose loss, gradients or scores on dev are not finite ends there; `diverged_at` of
    its result says where. If it had no checkpoint yet, the student's weights are of no use.
    """
    if not training or not dev:
        raise StudentError(
            f"training needs rows: got {len(training)} to train on and {len(dev)} in dev"
        )
    student.objective = settings.objective
    student.fast = settings.fast
    encoded = encode_examples(
        student,
        training,
        max_source_tokens=settings.max_source_tokens,
        max_rationale_tokens=settings.max_rationale_tokens,
    )
    sequences = [sequence for row in encoded for sequence in row.sequences]
    check_room(student, [len(s.source) for s in sequences], [len(s.target) for s in sequences])
    # Tried out in fp32, and on the weights that the training starts with, so that a resumed
    # training gets the same results.
    check_scoring(student, dev, task, settings.max_source_tokens, settings.max_rationale_tokens)
    _ = student.head_can_be_narrowed
    files = TrainingFiles(Path(folder))
    dev_rows = [[e.uid, e.fields, e.label] for e in dev]
    data = {"training": digest(list(training)), "dev": digest(dev_rows)}
    run = _Training(student, encoded, dev, task, settings, files, on_log, data, metric)
    task_parts = [task.fields, task.labels, dict(task.verbalizers), task.context]
    run.resume(digest([key, settings, [e.sequences for e in encoded], dev_rows, task_parts]))
    try:
        progress = run.train(on_step)
    finally:
        run.close()
    run.adapters.remove()
    if restore and progress.best_step:
        restore_weights(student.model, files.model)
    result = TrainResult(
        dev_accuracy=progress.best_accuracy if progress.best_step else None,
        best_step=progress.best_step,
        steps=progress.step,
        evaluations=progress.evaluations,
        stopped_early=progress.finished and progress.step < run.total_steps,
        truncated_sources=sum(e.source_cut > 0 for e in encoded),
        truncated_targets=sum(e.target_cut > 0 for e in encoded),
        source_tokens_cut=sum(e.source_cut for e in encoded),
        target_tokens_cut=sum(e.target_cut for e in encoded),
        sources_cut_beyond=sum(e.source_cut_beyond > 0 for e in encoded),
        seconds=progress.seconds,
        diverged_at=progress.diverged_at,
    )

    def finish() -> None:
        files.publish(progress.best_step)
        if on_result is not None:
            on_result(result)
        files.remove_state()

    run.group.on_main(finish)
    return result


class _Training:
    """A training under way: its optimiser, its place in the data, its best checkpoint."""

    def __init__(
        self,
        student: Student,
        encoded: Sequence[EncodedExample],
        dev: Sequence[Example],
        task: Task,
        settings: TrainSettings,
        files: TrainingFiles,
        on_log: OnLog | None,
        data_sha256: Mapping[str, str],
        metric: MetricName,
    ) -> None:
        self.student = student
        self.data_sha256 = data_sha256
        self.encoded = encoded
        self.dev = dev
        self.task = task
        self.settings = settings
        self.metric = metric
        self.files = files
        self.on_log = on_log
        self.group = process_group()
        self.steps_per_epoch = math.ceil(len(encoded) / settings.batch_size)
        planned = self.steps_per_epoch * settings.epochs
        self.total_steps = min(planned, settings.max_steps or planned)
        prepare(student, settings.precision, compiled=settings.compile)
        self.adapters = Adapters(student, settings.lora, settings.seed)
        self.optimizer = Optimizer(student, settings.learning_rate, settings.weight_decay)
        self.progress = _Progress()
        self.key = ""
        # The first step that was not finite, 0 for none: on the device, so that nothing waits.
        self.bad_step = torch.zeros((), dtype=torch.int64, device=student.device)
        self.executor = _executor(student, settings)

    def resume(self, key: str) -> None:
        """Load the state in the folder, if there is one, and recover its files."""
        self.key = key

        def load() -> int:
            state = self.files.read_state(key, self.student.device)
            if state is None:
                return 0
            if state["processes"] != self.group.size:
                raise RunFolderError(
                    f"{self.files.folder}: was begun by {state['processes']} processes, and "
                    f"{self.group.size} would end with another result: start as many, or delete "
                    "the folder"
                )
            self.progress = _Progress(**state["progress"])
            if state["optimizer"] is not None:
                self.optimizer.load(state["optimizer"])
            return self.progress.step

        steps = self.group.gather_all(load)
        if len(set(steps)) > 1:
            raise RunFolderError(
                f"{self.files.folder}: the processes see different states in it: it must be one "
                "folder that all of them share"
            )
        self.group.on_main(lambda: self.files.recover(self.progress.step, self.progress.best_step))

    def train(self, on_step: Callable[[int, int], None] | None) -> _Progress:
        """Run steps until the last one, or until patience runs out or the training diverges."""
        progress, settings = self.progress, self.settings
        every = settings.evaluate_every or self.steps_per_epoch
        clock = time.perf_counter()
        for student in self.executor.students:
            student.model.train()
        steps: list[list[list[EncodedExample]]] = []
        epoch = -1
        while progress.step < self.total_steps and not progress.finished:
            if progress.step // self.steps_per_epoch != epoch:
                epoch = progress.step // self.steps_per_epoch
                steps = training_steps(
                    self.encoded,
                    batch_size=settings.batch_size,
                    tokens_per_micro_batch=self.executor.tokens_per_micro_batch,
                    seed=settings.seed,
                    epoch=epoch,
                    concurrency=self.executor.concurrency,
                )
            share = self._step(self._shard(steps[progress.step % self.steps_per_epoch]))
            progress.step += 1
            to_log = progress.step % _LOG_EVERY == 0 or progress.step == 1
            to_evaluate = progress.step % every == 0 or progress.step == self.total_steps
            if to_log or to_evaluate:
                (loss,) = self.group.sum_values(float(share))
                bad_steps = self.group.gather_all(lambda: int(self.bad_step))
                progress.diverged_at = min((step for step in bad_steps if step), default=None)
            if to_log and progress.diverged_at is None:
                self._log(step=progress.step, loss=loss)
            if on_step is not None:
                on_step(progress.step, self.total_steps)
            if to_evaluate and progress.diverged_at is None:
                # The model that is evaluated is the one that is saved, adapters merged.
                with self.adapters.merged():
                    better = self._evaluate()
                    now = time.perf_counter()
                    progress.seconds, clock = progress.seconds + now - clock, now
                    if progress.diverged_at is None:
                        self._commit(better)
            if progress.diverged_at is not None:
                progress.seconds += time.perf_counter() - clock
                self._log(step=progress.step, diverged_at=progress.diverged_at)
                break
        return progress

    def close(self) -> None:
        """End the threads."""
        self.executor.close()

    def _shard(self, micro_batches: list[list[EncodedExample]]) -> list[list[EncodedExample]]:
        """This process's micro-batches of a step: all of them if there is one process."""
        if self.group.size == 1:
            return micro_batches
        rows = sorted((row for rows in micro_batches for row in rows), key=lambda row: row.length)
        return make_micro_batches(
            self.group.shard(rows),
            self.executor.tokens_per_micro_batch,
            self.executor.concurrency,
        )

    def _step(self, micro_batches: Sequence[Sequence[EncodedExample]]) -> torch.Tensor:
        """One optimiser step over this process's micro-batches.

        Returns this process's share of the loss (nats), still on the device: reading it would make
        a GPU wait.
        """
        settings, device = self.settings, self.student.device
        # Dropout's seed depends on (seed, step, process) and, if micro-batches run at once, on
        # their index: a resumed training needs no stored generator state.
        seed = settings.seed * 1_000_003 + self.progress.step + self.group.rank * 1_000_000_007
        torch.manual_seed(seed)
        counts = [row.counts for rows in micro_batches for row in rows]
        label, rationale = self.group.sum_values(
            sum(c[0] for c in counts), sum(c[1] for c in counts)
        )
        totals = (int(label), int(rationale))
        # A label without a rationale has nothing to be weighted against.
        weight = 1.0 if settings.objective == "label" else settings.label_weight

        def backward(student: Student, index: int, rows: Sequence[EncodedExample]) -> torch.Tensor:
            # Collated here, while a GPU still works on the micro-batch before.
            batch = collate(student, rows).to(device)
            with self.executor.seeded_dropout(seed * 1_000 + index):
                loss = batch_loss(student, batch).weighted((weight, 1 - weight), totals)
                loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        losses = self.executor.run(backward, micro_batches)
        total = sum(losses, torch.zeros((), device=device))
        rate = settings.learning_rate * self._schedule(self.progress.step)
        norm = self.optimizer.step(rate, settings.max_grad_norm, self._collect_gradients)
        bad = ~(torch.isfinite(norm) & torch.isfinite(total)) & (self.bad_step == 0)
        self.bad_step = torch.where(bad, self.progress.step + 1, self.bad_step)
        return total

    def _collect_gradients(self, weights: Sequence[torch.Tensor]) -> None:
        """Add the gradients of other threads and of other processes."""
        self.executor.collect_gradients(weights)
        self.group.sum_gradients(weights)

    def _schedule(self, step: int) -> float:
        """The share of the learning rate at `step` (from 0): warm-up, then the schedule."""
        warmup = min(self.settings.warmup_steps, max(self.total_steps // 2, 1))
        if step < warmup:
            return (step + 1) / warmup
        if self.settings.schedule == "constant":
            return 1.0
        return max((self.total_steps - step) / max(self.total_steps - warmup, 1), 0.0)

    def _evaluate(self) -> list[Prediction] | None:
        """Evaluate on dev. Returns the predictions if they are the best so far, by the metric.

        Sets `diverged_at` instead where the scores are not finite.
        """
        progress, shard = self.progress, self.group.shard(self.dev)

        def score_shard() -> Sequence[Prediction | None]:
            try:
                return score_labels(
                    self.student, shard, self.task, **self.settings.inference_limits
                )
            except DivergedError:
                return [None] * len(shard)  # so that every process learns of it

        found = self.group.gather_shards(score_shard, len(self.dev))
        predictions = [prediction for prediction in found if prediction is not None]
        if len(predictions) < len(found):
            progress.diverged_at = progress.step
            return None
        on_dev = score(predictions, self.metric)
        progress.evaluations += 1
        self._log(step=progress.step, **{f"dev_{self.metric}": on_dev})
        if on_dev > progress.best_accuracy:
            progress.best_accuracy, progress.best_step = on_dev, progress.step
            progress.without_gain = 0
            return predictions
        progress.without_gain += 1
        progress.finished = progress.without_gain >= self.settings.patience
        return None

    def _commit(self, better: Sequence[Prediction] | None) -> None:
        """Store the state, and the student with its predictions if they are the best so far."""
        progress = self.progress
        over = progress.finished or progress.step == self.total_steps
        state = {
            "key": self.key,
            "processes": self.group.size,
            "progress": {name: getattr(progress, name) for name in _Progress.__slots__},
            "optimizer": None if over else self.optimizer.state(),
        }
        checkpoint = None
        if better is not None:
            record = record_of(self.student, self.task, self.settings, self.data_sha256)
            checkpoint = Checkpoint(self.student, better, record)
        self.group.check_equal(self.optimizer.masters)
        self.group.on_main(lambda: self.files.commit(state, checkpoint, progress.best_step))

    def _log(self, **values: Any) -> None:
        def log() -> None:
            self.files.log(**values)
            if self.on_log is not None:
                self.on_log(values)

        self.group.on_main(log)


def _executor(student: Student, settings: TrainSettings) -> Executor:
    """Runs the micro-batches of a training: on several threads at once if that is possible."""
    if rows_change_each_other(student):
        return Executor(student, tokens_per_micro_batch=1)
    # A compiled layer is bound to the weights that it was compiled with, not to a replica's.
    threaded = settings.threads > 1 and not settings.compile and student.uses("threads")
    if threaded and only_fast_dropout_is_random(student):
        return ThreadedExecutor(student, settings.threads, settings.tokens_per_micro_batch)
    return Executor(student, settings.tokens_per_micro_batch)
