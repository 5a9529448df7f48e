"""A training resumes after an interruption at any moment, and after a full disk."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import small_training
import torch
from safetensors.torch import load_file

from tutelage.cli.main import main
from tutelage.core.checkpoint_record import CheckpointRecord
from tutelage.core.errors import RunFolderError
from tutelage.core.task import NLI
from tutelage.core.types import Prediction
from tutelage.student.jobs.jobs import TrainingJob, finished_result, run_training
from tutelage.student.training.checkpoint import Checkpoint, TrainingFiles
from tutelage.student.training.result import TrainResult


class Killed(BaseException):
    """An interruption that no code may catch."""


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _log(folder: Path) -> list[dict[str, float]]:
    return [
        json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]


# --- the files, killed at every moment ------------------------------------------------------------


class Paper:
    """Stands for a student whose weights are a word."""

    def __init__(self, word: str) -> None:
        self.word = word

    def save(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_text(self.word, encoding="utf-8")


PREDICTION = Prediction("1", "neutral", {"neutral": 1.0}, "neutral")
RECORD = CheckpointRecord(
    task=NLI,
    objective="label",
    max_source_tokens=64,
    max_rationale_tokens=16,
    tokens_per_micro_batch=600,
    precision="fp32",
    fast="auto",
    threads=1,
    settings={},
    data_sha256={},
    versions={},
)
EVALUATIONS = [(1, True), (2, True), (3, False), (4, True)]
"""Evaluated steps, and whether each was the best so far."""
MUTATORS = (
    (os, "rename"),
    (os, "replace"),
    (os, "unlink"),
    (os, "fsync"),
    (os, "mkdir"),
    (shutil, "rmtree"),
    (torch, "save"),
    (Paper, "save"),
)


class Mortal:
    """Kills at the n-th disk operation; after it no operation does anything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.last = 0, sys.maxsize
        for owner, name in MUTATORS:
            # This test kills a process, not the power: flushing does not matter here.
            call = getattr(owner, name) if name != "fsync" else (lambda handle: None)
            monkeypatch.setattr(owner, name, self._mortal(call))

    def _mortal(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def until_death(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count >= self.last:
                raise Killed
            return call(*arguments, **options)

        return until_death


def _resume(folder: Path) -> int:
    """Use the files as a training does, from its last state. Returns the step it resumed from."""
    files = TrainingFiles(folder)
    state = files.read_state("key", torch.device("cpu"))
    step, best = (0, 0) if state is None else (state["step"], state["best"])
    files.recover(step, best)
    if state is not None:
        # State and checkpoint belong to the same evaluation, and there are no other files.
        assert (folder / "model" / "weights").read_text(encoding="utf-8") == f"weights of {best}"
        assert {p.name for p in folder.iterdir()} <= {
            *("model", "state.pt", "log.jsonl", "dev.jsonl")
        }
    for at, better in EVALUATIONS:
        if at > step:
            files.log(step=at)
            best = at if better else best
            student: Any = Paper(f"weights of {at}")
            checkpoint = Checkpoint(student, [PREDICTION], RECORD) if better else None
            files.commit({"key": "key", "step": at, "best": best}, checkpoint, best)
    files.publish(best)
    files.remove_state()
    return step


def test_after_a_kill_at_any_operation_the_files_end_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mortal = Mortal(monkeypatch)
    _resume(tmp_path / "whole")
    operations, whole = mortal.count, _contents(tmp_path / "whole")
    assert set(whole) == {"model/weights", "model/tutelage.json", "dev.jsonl", "log.jsonl"}
    resumed = set()
    for last in range(1, operations + 1):
        folder = tmp_path / str(last)
        mortal.count, mortal.last = 0, last
        with pytest.raises(Killed):
            _resume(folder)
        mortal.last = sys.maxsize
        # Only between two renames is there no checkpoint.
        resumed.add(_resume(folder))
        assert _contents(folder) == whole, f"killed at operation {last} of {operations}"
    assert resumed == {0, 1, 2, 3, 4}


def test_after_a_kill_between_two_renames_one_of_the_checkpoints_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = TrainingFiles(tmp_path)
    student: Any = Paper("weights of 1")
    files.commit({"key": "key"}, Checkpoint(student, [], RECORD), 1)
    rename = os.rename

    def second_kills(source: Any, target: Any) -> None:
        if Path(target).name == "model":
            raise Killed
        rename(source, target)

    monkeypatch.setattr(os, "rename", second_kills)
    student = Paper("weights of 2")
    with pytest.raises(Killed):
        files.commit({"key": "key"}, Checkpoint(student, [], RECORD), 2)
    monkeypatch.undo()
    assert not (tmp_path / "model").exists()
    # The committed state says which one it was; without a state the old one comes back.
    shutil.copytree(tmp_path, tmp_path.with_suffix(".lost"))
    TrainingFiles(tmp_path).recover(2, 2)
    assert (tmp_path / "model" / "weights").read_text(encoding="utf-8") == "weights of 2"
    TrainingFiles(tmp_path.with_suffix(".lost")).recover(0, 0)
    assert (tmp_path.with_suffix(".lost") / "model" / "weights").read_text(
        encoding="utf-8"
    ) == "weights of 1"


def test_a_missing_checkpoint_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="the checkpoint of step 3 is missing: delete"):
        TrainingFiles(tmp_path).recover(5, 3)


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    theirs = (".model.old.bak", "model.old", "model-7", ".env.json.12345678", ".log.jsonl")
    for name in theirs:
        (tmp_path / name).mkdir()
    TrainingFiles(tmp_path).recover(0, 0)
    assert {p.name for p in tmp_path.iterdir()} == set(theirs)


# --- a real training ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_training.make_tokenizer(tmp_path_factory.mktemp("words"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Whole:
    """A training without interruption.

    better: numbers, from 1, of its evaluations on dev that were the best so far
    """

    folder: Path
    seed: int
    result: TrainResult
    better: list[int]


@pytest.fixture(scope="module")
def whole(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A training with all that can be lost: a checkpoint that is not the first, an early end."""
    torch.set_num_threads(1)
    for seed in (11, 2, 3, 5, 7, 13):
        folder = tmp_path_factory.mktemp("whole")
        result = small_training.small_training(tokenizer, folder, seed=seed)
        found = [line["dev_accuracy"] for line in _log(folder) if "dev_accuracy" in line]
        better = [n for n, a in enumerate(found, 1) if all(a > b for b in found[: n - 1])]
        if len(better) > 1 and result.stopped_early:
            return Whole(folder, seed, result, better)
    raise AssertionError("no seed gives such a training: change small_training.SETTINGS")


def _same_end(folder: Path, result: TrainResult, whole: Whole) -> None:
    assert replace(result, seconds=0) == replace(whole.result, seconds=0)
    assert _contents(folder) == _contents(whole.folder)


def test_stopped_at_each_step_it_ends_bit_equal(
    tokenizer: Path, tmp_path: Path, whole: Whole
) -> None:
    """One training, stopped at every second step, the last times just before it would end."""
    every, steps = small_training.SETTINGS.evaluate_every, whole.result.steps
    assert every is not None
    stops = [*range(1, steps, 2), steps - 1, steps]
    for stop in stops:

        def kill(step: int, total: int, stop: int = stop) -> None:
            if step == stop:
                raise Killed

        with pytest.raises(Killed):
            small_training.small_training(tokenizer, tmp_path, kill, seed=whole.seed)
    began: list[int] = []
    result = small_training.small_training(
        tokenizer, tmp_path, lambda at, _: began.append(at), seed=whole.seed
    )
    assert began[0] == steps - every + 1
    _same_end(tmp_path, result, whole)


def test_after_sigkill_in_the_middle_of_a_checkpoint_it_ends_bit_equal(
    tokenizer: Path, tmp_path: Path, whole: Whole
) -> None:
    """The last checkpoint that was better: one precedes it, and more steps follow."""
    # A fork has torch already; a new interpreter would spend most of the test importing it.
    process = multiprocessing.get_context("fork").Process(
        target=small_training.main, args=(tmp_path, tokenizer, whole.seed, len(whole.better))
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert any(tmp_path.glob(".model.*.new"))  # what it was writing when it died
    assert load_file(tmp_path / "model" / "model.safetensors")  # the last good one
    result = small_training.small_training(tokenizer, tmp_path, seed=whole.seed)
    _same_end(tmp_path, result, whole)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes, as on a disk that is full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("full_at", ["model", "state", "log"])
def test_a_full_disk_leaves_the_last_good_checkpoint(
    tokenizer: Path, tmp_path: Path, whole: Whole, full_at: str
) -> None:
    """A better evaluation on dev cannot be written, three times; then there is room."""
    at = whole.better[1] * (small_training.SETTINGS.evaluate_every or 0)

    def size(name: str) -> int:
        return (tmp_path / name).stat().st_size

    listings = []
    for _ in range(3):
        limits: list[Any] = []
        good: dict[str, bytes] = {}

        def fill(step: int, total: int, limits: Any = limits, good: Any = good) -> None:
            if step == at:
                room = {
                    "model": lambda: size("model/model.safetensors") // 2,
                    "state": lambda: (size("model/model.safetensors") + size("state.pt")) // 2,
                    "log": lambda: size("log.jsonl") + 3,
                }
                good.update(_contents(tmp_path))
                limits.append(largest_file(room[full_at]()))
                limits[0].__enter__()

        try:
            with pytest.raises(RunFolderError) as error:
                small_training.small_training(tokenizer, tmp_path, fill, seed=whole.seed)
        finally:
            for limit in limits:
                limit.__exit__(None, None, None)
        message = str(error.value)
        assert "cannot be written (" in message and "\n" not in message
        assert message.startswith(str(tmp_path))
        left = _contents(tmp_path)
        assert left.pop("log.jsonl").startswith(good.pop("log.jsonl"))
        assert left == good
        listings.append(set(left))
    assert listings[0] == listings[1] == listings[2]  # nothing accumulates
    result = small_training.small_training(tokenizer, tmp_path, seed=whole.seed)
    _same_end(tmp_path, result, whole)


def test_what_tokenizers_raises_on_a_full_disk_is_reported_too(
    tokenizer: Path, tmp_path: Path
) -> None:
    """It raises Exception itself, after the weights have been written."""
    words: Any = small_training.new_student(tokenizer).tokenizer

    class Words(Paper):
        def save(self, folder: Path) -> None:
            super().save(folder)
            words.save_pretrained(folder)

    student: Any = Words("weights of 1")
    with largest_file(1000), pytest.raises(RunFolderError, match="cannot be written"):
        TrainingFiles(tmp_path).commit({"key": "key"}, Checkpoint(student, [], RECORD), 1)
    assert list(tmp_path.iterdir()) == []
    with (
        largest_file(1000),
        pytest.raises(RunFolderError, match="words: cannot be written"),
    ):
        small_training.make_tokenizer(tmp_path / "words")


def test_the_command_reports_a_full_disk_in_one_line(
    tokenizer: Path,
    whole: Whole,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = tmp_path / "rows.jsonl"
    records = [{"uid": e.uid, **e.fields, "label": e.label} for e in small_training.TRAIN]
    rows.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    arguments = ["tutelage", "train", rows, "--dev", rows, "--student", "scratch:t5-tiny"]
    arguments += ["--output", tmp_path / "out", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    room = (whole.folder / "model" / "model.safetensors").stat().st_size // 2
    assert (tokenizer / "tokenizer.json").stat().st_size < room
    with largest_file(room), pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    (complaint,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("tutelage:")]
    assert "out/model: cannot be written (" in complaint


def test_a_training_whose_result_cannot_be_stored_does_not_run_again(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small_training.SETTINGS.replace(max_steps=3)
    rows, dev = small_training.ROWS, small_training.DEV
    job = TrainingJob("scratch:t5-tiny", tokenizer, rows, dev, NLI, settings, tmp_path)
    fsync = os.fsync

    def full(handle: int) -> None:
        if ".done.json" in Path(f"/proc/self/fd/{handle}").readlink().name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFolderError, match=r"done.json: cannot be written \(No space left"):
        run_training(job)
    monkeypatch.undo()
    assert finished_result(job) is None
    steps: list[int] = []
    result = run_training(job, lambda step, total: steps.append(step))
    assert steps == []
    assert finished_result(job) == result
    assert {p.name for p in tmp_path.iterdir()} == {"model", "dev.jsonl", "done.json", "log.jsonl"}
