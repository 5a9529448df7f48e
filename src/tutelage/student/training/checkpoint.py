"""The files of one training, and how it resumes after a kill or a full disk.

    model/        the best checkpoint so far: safetensors, configuration, tokenizer, tutelage.json
    dev.jsonl     that checkpoint's predictions on dev; in model/ until the training is complete
    state.pt      the state of the training, with everything needed to resume it
    log.jsonl     a line for each evaluation, and one every few steps with the loss

The state commits an evaluation on dev. A better checkpoint is first written completely under a
temporary name. Then the state that refers to it replaces the last state. Then the checkpoint moves
to its place. A training that is killed before the state is replaced resumes from the last state,
with that state's checkpoint; one that is killed later first moves the checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from tutelage.config.training_settings import TrainSettings
from tutelage.core.checkpoint_record import (
    CLASS_RULE,
    DECISION_RULE,
    CheckpointRecord,
    write_record,
)
from tutelage.core.errors import RunFolderError
from tutelage.core.storage import remove, translate_write_errors, write_atomic, write_jsonl
from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.student.model.student import Student

_DEV = "dev.jsonl"

_PACKAGES = ("tutelage", "torch", "transformers", "tokenizers")

_ATOMIC = ("log.jsonl", "dev.jsonl", "done.json")
"""Files of the folder that `write_atomic` writes. A kill may leave its temporary files."""


@dataclass(frozen=True)
class Checkpoint:
    """A student, its predictions on dev, and what its record says of it."""

    student: Student
    dev: Sequence[Prediction]
    record: CheckpointRecord


def record_of(
    student: Student, task: Task, settings: TrainSettings, data_sha256: Mapping[str, str]
) -> CheckpointRecord:
    """What a checkpoint of this training says of itself: all that decides its predictions.

    data_sha256: digests of the training rows and of dev
    """
    return CheckpointRecord(
        task=task,
        objective=settings.objective,
        decision_rule=CLASS_RULE if student.architecture == "classifier" else DECISION_RULE,
        **settings.inference_limits,
        precision="bf16" if student.model.dtype == torch.bfloat16 else "fp32",
        fast=settings.fast,
        threads=settings.threads,
        settings=settings.model_dump(mode="json"),
        data_sha256=data_sha256,
        versions=_versions(),
    )


@cache
def _versions() -> Mapping[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}


class TrainingFiles:
    """The files of one training in `folder`, which is created. Only one process writes them.

    A file that cannot be written raises RunFolderError; the previous one stays as it was.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model"
        self._old = folder / ".model.old"
        self._state = folder / "state.pt"
        self._log = folder / "log.jsonl"
        with translate_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def read_state(self, key: str, device: torch.device) -> dict[str, Any] | None:
        """The last committed state; None if there is none.

        key: of the training; it must equal the state's `key`

        Raises RunFolderError for the state of another training, or one that cannot be read.
        """
        if not self._state.exists():
            return None
        path = self._state
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, UnpicklingError) as error:
            raise RunFolderError(f"{path}: cannot be read ({error}): delete it") from error
        if state["key"] != key:
            raise RunFolderError(
                f"{path}: is the state of a training with other data or settings: delete the "
                "folder, or give the recipe another name"
            )
        return state

    def recover(self, step: int, best_step: int) -> None:
        """Finish or undo what an interruption left half done.

        step:      of the state that is resumed; 0 without a state
        best_step: step of that state's best checkpoint; 0 without one

        Raises RunFolderError if that checkpoint is missing.
        """
        new = self._new(best_step)
        with translate_write_errors(self.folder):
            if best_step and new.is_dir():
                self._move(new)
            elif not self.model.exists() and self._old.exists():
                self._old.rename(self.model)
            self._remove_leftovers()
            if best_step and not self.model.is_dir():
                raise RunFolderError(
                    f"{self.model}: the checkpoint of step {best_step} is missing: delete "
                    f"{self._state} to train again from the beginning"
                )
            if step:
                self._truncate_log(step)
            else:
                self._log.unlink(missing_ok=True)

    def commit(
        self, state: Mapping[str, Any], checkpoint: Checkpoint | None, best_step: int
    ) -> None:
        """Store the state after an evaluation on dev.

        state:      tensors and plain values; loaded again with weights_only
        checkpoint: of `best_step`, if this evaluation is the best; None: the last one stays
        """
        new = self._new(best_step)
        if checkpoint is not None:
            with translate_write_errors(self.model, new):
                shutil.rmtree(new, ignore_errors=True)
                checkpoint.student.save(new)
                write_record(new, checkpoint.record)
                write_jsonl(new / _DEV, checkpoint.dev)
                for file in (*new.iterdir(), new):
                    _flush(file)
        try:
            self._write_state(state)
        except RunFolderError:
            remove(new)  # no state refers to it
            raise
        with translate_write_errors(self.folder):
            _flush(self.folder)
            if checkpoint is not None:
                self._move(new)

    def log(self, **values: Any) -> None:
        """Add a line to the log."""
        with translate_write_errors(self._log), self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def publish(self, best_step: int) -> None:
        """Move the files of a complete training to their final places.

        best_step: step of the best checkpoint; 0 where the training diverged before it had one: a
                   checkpoint that is there belongs to another training, and is removed
        """
        if not best_step:
            shutil.rmtree(self.model, ignore_errors=True)
            (self.folder / _DEV).unlink(missing_ok=True)
        elif (self.model / _DEV).exists():
            (self.model / _DEV).replace(self.folder / _DEV)

    def remove_state(self) -> None:
        """Remove what only an interrupted training needs."""
        self._state.unlink(missing_ok=True)

    def _new(self, step: int) -> Path:
        return self.folder / f".model.{step}.new"

    def _move(self, new: Path) -> None:
        """Replace the last checkpoint by a complete new one."""
        if self.model.exists():
            shutil.rmtree(self._old, ignore_errors=True)
            self.model.rename(self._old)
        new.rename(self.model)
        _flush(self.folder)
        shutil.rmtree(self._old, ignore_errors=True)

    def _write_state(self, state: Mapping[str, Any]) -> None:
        temporary = self.folder / ".state.pt.new"
        with translate_write_errors(self._state, temporary):
            torch.save(dict(state), temporary)
            _flush(temporary)
            temporary.replace(self._state)

    def _remove_leftovers(self) -> None:
        """Remove files that a kill left half written and that nothing needs any more."""
        for new in self.folder.glob(".model.*.new"):
            shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(self._old, ignore_errors=True)
        (self.folder / ".state.pt.new").unlink(missing_ok=True)
        for name in _ATOMIC:
            for temporary in self.folder.glob(f".{name}.????????"):
                temporary.unlink(missing_ok=True)

    def _truncate_log(self, last: int) -> None:
        """Remove the log's lines after step `last`: these steps run again."""
        if not self._log.exists():
            return
        kept = []
        for line in self._log.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= last:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue  # an incomplete line that a kill left
        write_atomic(self._log, "".join(kept))


def _flush(path: Path) -> None:
    """Have the disk store a file's contents, or a folder's names. What does not fit on the disk
    raises OSError here at the latest."""
    if path.is_dir() and os.name != "posix":
        return  # elsewhere a folder cannot be opened
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
