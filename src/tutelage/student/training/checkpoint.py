"""The files of one training, and what a kill or a full disk leaves of them.

    model/        the best checkpoint so far: safetensors, configuration, tokenizer
    dev.jsonl     what that checkpoint says of dev; in model/ until the run is complete
    state.pt      where the run stands, and everything needed to go on from there
    log.jsonl     a line for each evaluation and every few steps

The state is where a reading of dev is committed. A checkpoint that is better is first written whole
under a name of its own, then the state that speaks of it replaces the last one, then the checkpoint
moves into its place. Killed before the second of these, a run goes on from the last state with the
checkpoint of that state; killed after it, it moves the checkpoint first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from tutelage.core.errors import RunFolderError
from tutelage.core.storage import remove, translate_write_errors, write_atomic, write_jsonl
from tutelage.core.types import Prediction
from tutelage.student.model.student import Student

_DEV = "dev.jsonl"

_WRITTEN_BESIDE = ("log.jsonl", "dev.jsonl", "done.json")
"""Files of the folder that `write_atomic` writes: a kill may leave its temporary ones."""


@dataclass(frozen=True)
class Checkpoint:
    """A student, and what it says of dev."""

    student: Student
    dev: Sequence[Prediction]


class RunFiles:
    """The files of one training in `folder`, which is made. One process writes them.

    What cannot be written is a RunFolderError; what was there before is then as it was.
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
        """The last state that was committed, or None before the first.

        key: says which run it must belong to, in the state's `key`
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
                f"{path}: is the state of a run with other data or settings: delete the folder, "
                "or give the recipe another name"
            )
        return state

    def take_up(self, step: int, best_step: int) -> None:
        """Finish, or undo, what an interruption left half done.

        step:      of the state that is resumed; 0 where there is none
        best_step: the step of that state's best checkpoint; 0 likewise
        """
        new = self._new(best_step)
        with translate_write_errors(self.folder):
            if best_step and new.is_dir():
                self._move(new)
            elif not self.model.exists() and self._old.exists():
                self._old.rename(self.model)
            self._sweep()
            if best_step and not self.model.is_dir():
                raise RunFolderError(
                    f"{self.model}: the checkpoint of step {best_step} is gone: delete "
                    f"{self._state} to train again from the beginning"
                )
            if step:
                self._cut_log(step)
            else:
                self._log.unlink(missing_ok=True)

    def commit(
        self, state: Mapping[str, Any], checkpoint: Checkpoint | None, best_step: int
    ) -> None:
        """Keep a reading of dev.

        state:      tensors and plain values; read back with weights_only
        checkpoint: of `best_step`, where that is this reading; None: the last one stays
        """
        new = self._new(best_step)
        if checkpoint is not None:
            with translate_write_errors(self.model, new):
                shutil.rmtree(new, ignore_errors=True)
                checkpoint.student.save(new)
                write_jsonl(new / _DEV, checkpoint.dev)
                for file in (*new.iterdir(), new):
                    _flush(file)
        try:
            self._write_state(state)
        except RunFolderError:
            remove(new)  # no state speaks of it
            raise
        with translate_write_errors(self.folder):
            _flush(self.folder)
            if checkpoint is not None:
                self._move(new)

    def log(self, **values: Any) -> None:
        """Add a line to the log."""
        with translate_write_errors(self._log), self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def publish(self) -> None:
        """The run is complete: put everything where it stays."""
        if (self.model / _DEV).exists():
            (self.model / _DEV).replace(self.folder / _DEV)

    def finish(self) -> None:
        """Drop what only an interrupted run needs."""
        self._state.unlink(missing_ok=True)

    def _new(self, step: int) -> Path:
        return self.folder / f".model.{step}.new"

    def _move(self, new: Path) -> None:
        """Put a whole checkpoint in the place of the last one."""
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

    def _sweep(self) -> None:
        """Remove what kills in mid-write left: nothing needs it any more."""
        for new in self.folder.glob(".model.*.new"):
            shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(self._old, ignore_errors=True)
        (self.folder / ".state.pt.new").unlink(missing_ok=True)
        for name in _WRITTEN_BESIDE:
            for temporary in self.folder.glob(f".{name}.????????"):
                temporary.unlink(missing_ok=True)

    def _cut_log(self, last: int) -> None:
        """Drop the log's lines after step `last`: those steps are run again."""
        if not self._log.exists():
            return
        kept = []
        for line in self._log.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= last:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue  # the half line that a kill left
        write_atomic(self._log, "".join(kept))


def _flush(path: Path) -> None:
    """Have the disk hold what was written to a file, or the names in a folder: what does not fit
    is told here at the latest."""
    if path.is_dir() and os.name != "posix":
        return  # elsewhere a folder cannot be opened
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
