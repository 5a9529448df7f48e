"""Measures what a training costs: seconds of a step, of a scored row, of a checkpoint; memory.

It runs the trainer itself, with the recipe's own settings but for `compile`, on a sample of its
rows, in processes of the pool that a run would use and in all of them at once: processes on one
machine slow each other down.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.core.storage import digest
from tutelage.core.types import Prediction
from tutelage.student.jobs.jobs import Runner, TrainingJob

SECONDS = 4.0
"""Time for the steps of one size of one kind of training; at least one after the first is timed."""

_FEW = 4
"""Rows of the smallest step. Where the recipe's own steps would take long, their time and memory
are extrapolated from steps of so many rows and of twice as many."""

_LONG = 2.0
"""Seconds of a step that is long."""

_SCORED = (8, 64)
"""Rows of dev that are scored: the second number where the first takes no time."""

_GENERATED = 8
"""Rows for which a rationale is generated."""


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """What one kind of training costs on this machine, in seconds.

    start:        loading the student and trying it out, before the first step
    encoded_row:  encoding a training row, and its part of the digests of a training
    step:         an optimiser step
    scored_row:   scoring one row
    merged:       merging the adapters before an evaluation on dev; 0 without adapters
    saved_model:  writing a checkpoint, digests and disk included
    saved_state:  writing the state of the optimiser, disk included
    written_row:  generating a rationale; 0 where none is written
    memory_bytes: of the process, at most; on a GPU, of the device
    """

    start: float
    encoded_row: float
    step: float
    scored_row: float
    merged: float
    saved_model: float
    saved_state: float
    written_row: float
    memory_bytes: int


class _EnoughError(Exception):
    """Ends the training that is measured."""


def measure_trainings(
    jobs: list[TrainingJob], workers: int, seconds: float = SECONDS
) -> list[TrainingCost]:
    """The cost of each job, with as many processes at work as a run would have.

    seconds: for the steps of one size
    """
    with tempfile.TemporaryDirectory() as folder, Runner(workers) as runner:
        costs = []
        for number, job in enumerate(jobs):
            found = runner.on_each_worker(_measure, job, f"{folder}/{number}", seconds)
            costs.append(
                TrainingCost(
                    **{
                        name: sum(getattr(one, name) for one in found) / len(found)
                        for name in TrainingCost.__slots__
                        if name != "memory_bytes"
                    },
                    memory_bytes=max(one.memory_bytes for one in found),
                )
            )
        return costs


def _measure(job: TrainingJob, folder: str, seconds: float) -> TrainingCost:
    """Train for a few seconds, score, save and generate. Runs in a worker."""
    from tutelage.student.model.weights import computing

    return computing(job.student, lambda: _measured(job, folder, seconds))


def _measured(job: TrainingJob, folder: str, seconds: float) -> TrainingCost:
    import torch

    from tutelage.student.encoding.prompts import encode_prompts
    from tutelage.student.inference.generate import generate
    from tutelage.student.inference.score import score_labels
    from tutelage.student.model.loading import meta_model

    settings = job.settings
    torch.set_num_threads(settings.threads)
    # A worker of a run imports the model's code once, not for each training.
    meta_model(job.student, job.tokenizer, job.classifies)
    place = Path(folder) / str(os.getpid())
    whole = settings.batch_size
    few = min(_FEW, whole)
    start, step, student = _train(job, few, place / "few", seconds)
    memory = _memory(student.device)
    if few < whole and step * whole / few < _LONG:
        start, step, student = _train(job, whole, place / "whole", seconds)
        memory = _memory(student.device)
    elif few < whole:
        more = min(2 * few, whole)
        start, longer, student = _train(job, more, place / "more", seconds)
        each = max(longer - step, 0.0) / (more - few)
        step += each * (whole - few)
        now = _memory(student.device)
        at_once = _rows_at_once(student, job)
        memory = now + round(max(now - memory, 0) / (more - few) * max(at_once - more, 0))
    trained = sum(p.numel() for p in student.model.parameters() if p.requires_grad)
    merged = 0.0
    if settings.lora is not None:
        from tutelage.student.model.lora import merge_for_good

        merged = _timed(lambda: merge_for_good(student.model), student)
    rows = job.dev[: _SCORED[0]]

    def scoring() -> Any:
        return score_labels(student, rows, job.task, **settings.inference_limits)

    def writing() -> Any:
        texts = [job.task.source(e.fields) for e in rows[:_GENERATED]]
        prompts = encode_prompts(student, texts, "answer", settings.max_source_tokens)
        lengths = [len(s.target) for row in _encoded(student, job) for s in row.sequences]
        return generate(student, [p.ids for p in prompts], [], round(sum(lengths) / len(lengths)))

    scored = _timed(scoring, student)
    if scored < 1.0:
        rows = job.dev[: _SCORED[1]]
        scored = _timed(scoring, student)
    written = 0.0
    if settings.objective != "label":
        written = _timed(writing, student) / len(rows[:_GENERATED])
    saved_model, saved_state = _saving(student, job, scoring(), trained, place / "saved")
    return TrainingCost(
        start=start,
        encoded_row=_timed(lambda: _prepared(student, job), student) / len(job.training),
        step=step,
        scored_row=scored / len(rows),
        merged=merged,
        saved_model=saved_model,
        saved_state=saved_state,
        written_row=written,
        memory_bytes=memory,
    )


def _train(
    job: TrainingJob, batch_size: int, folder: Path, seconds: float
) -> tuple[float, float, Any]:
    """Seconds before the first step, seconds of a step of `batch_size` rows, and the student."""
    from tutelage.student.model.loading import load_student
    from tutelage.student.model.precision import choose_device
    from tutelage.student.training.trainer import train

    settings = job.settings
    clock = _clock(settings.threads)
    began = clock()
    student = load_student(
        job.student,
        tokenizer=job.tokenizer,
        seed=settings.seed,
        dropout=settings.dropout,
        fast=settings.fast,
        labels=job.classes,
    ).to(choose_device())
    times: list[float] = []

    def on_step(done: int, _: int) -> None:
        _wait_for(student.device)
        times.append(clock())
        if done > 1 and times[-1] - times[0] > seconds:
            raise _EnoughError

    # Compiling takes minutes for every process and every size of a step.
    endless = settings.replace(
        max_steps=10**6, epochs=10**6, evaluate_every=10**6, batch_size=batch_size, compile=False
    )
    with suppress(_EnoughError):
        train(student, job.training, job.dev, job.task, endless, folder, on_step)
    step = (times[-1] - times[0]) / (len(times) - 1)
    return max(times[0] - began - step, 0.0), step, student


def _prepared(student: Any, job: TrainingJob) -> None:
    """What a training does with its rows before the first step, and its job to know itself."""
    encoded = _encoded(student, job, len(job.training))
    digest([row.sequences for row in encoded])
    digest(list(job.training))


def _saving(
    student: Any, job: TrainingJob, found: list[Prediction], trained: int, folder: Path
) -> tuple[float, float]:
    """Seconds to write a checkpoint, and the state of an optimiser of `trained` weights, as the
    trainer writes them: by the clock on the wall, since most of it is waiting for the disk."""
    import torch

    from tutelage.student.training.checkpoint import Checkpoint, TrainingFiles, record_of

    files = TrainingFiles(folder)
    checkpoint = Checkpoint(student, found, record_of(student, job.task, job.settings, {}))
    began = time.perf_counter()
    files.commit({"optimizer": None}, checkpoint, 1)
    saved_model = time.perf_counter() - began
    # Masters and two moments, in fp32.
    state = {"optimizer": [torch.zeros(trained) for _ in range(3)]}
    began = time.perf_counter()
    files.commit(state, None, 1)
    saved_state = time.perf_counter() - began
    shutil.rmtree(folder)  # a checkpoint and a state of each kind would fill a small disk
    return saved_model, saved_state


def _rows_at_once(student: Any, job: TrainingJob) -> int:
    """Rows of a micro-batch, at most."""
    longest: int = max(row.length for row in _encoded(student, job))
    settings = job.settings
    return max(1, min(settings.batch_size, settings.tokens_per_micro_batch // longest))


def _encoded(student: Any, job: TrainingJob, count: int = _SCORED[1]) -> list[Any]:
    """The first `count` training rows, as token ids."""
    from tutelage.student.encoding.tokenise import encode_examples

    return encode_examples(
        student,
        job.training[:count],
        max_source_tokens=job.settings.max_source_tokens,
        max_rationale_tokens=job.settings.max_rationale_tokens,
    )


def _timed(work: Any, student: Any) -> float:
    """Seconds that `work` takes."""
    import torch

    clock = _clock(torch.get_num_threads())
    _wait_for(student.device)
    began = clock()
    work()
    _wait_for(student.device)
    return clock() - began


def _clock(threads: int) -> Callable[[], float]:
    """The clock to measure with.

    A process of one thread on a CPU is as fast on an idle machine as its processor time says,
    whatever else is running now.
    """
    from tutelage.student.model.precision import choose_device

    alone = threads == 1 and choose_device().type == "cpu"
    return time.process_time if alone else time.perf_counter


def _wait_for(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def _memory(device: Any) -> int:
    """Most bytes that were in use."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():
        # Linux: ru_maxrss of a new process includes what its parent held when it started it.
        peaks = re.findall(r"^VmHWM:\s*(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
        if peaks:
            return 1024 * int(peaks[0])
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
