"""One GPU per worker, and one training over several processes, which are really started."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import distributed_worker
import psutil
import pytest
import small_training
import torch
from distributed_worker import KILLED_AT, PLAIN
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from worker_probe import see

from forked import run_command
from tutelage.core.errors import RunFolderError, UsageError
from tutelage.core.task import NLI
from tutelage.student.jobs import worker
from tutelage.student.jobs.jobs import Runner
from tutelage.student.training.distributed import (
    ProcessGroup,
    process_group,
    shard,
    world_size,
)
from tutelage.student.training.trainer import train

# --- one GPU a worker -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "count", "names"),
    [
        (None, 0, ()),
        (None, 3, ("0", "1", "2")),
        ("4,6", 2, ("4", "6")),
        (" GPU-8a, MIG-2 ", 2, ("GPU-8a", "MIG-2")),
        ("1,-1,2", 1, ("1",)),
        ("", 0, ()),
    ],
)
def test_the_gpus_that_cuda_shows(variable: str | None, count: int, names: tuple[str, ...]) -> None:
    assert worker.named_gpus(variable, count) == names


def test_gpus_are_assigned_to_workers_in_turn() -> None:
    assert [worker.gpu_of(n, ("4", "6")) for n in range(5)] == ["4", "6", "4", "6", "4"]
    assert worker.gpu_of(3, ()) is None


@pytest.mark.parametrize("gpus", [("5", "GPU-b"), ()])
def test_each_worker_of_the_pool_sees_one_gpu(
    monkeypatch: pytest.MonkeyPatch, gpus: tuple[str, ...]
) -> None:
    monkeypatch.setattr(worker, "visible_gpus", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen: dict[int, str | None] = {}
    with Runner(2) as runner:
        pool: ProcessPoolExecutor = runner._workers()
        for _ in range(2):  # the pool stays: each worker keeps its GPU
            for future in [pool.submit(see, 0.5) for _ in range(2)]:
                process, gpu, torch_was_there = future.result()
                assert seen.setdefault(process, gpu) == gpu
                # Without GPUs a worker may be the fork of a process that has torch.
                assert not (gpus and torch_was_there)
    assert len(seen) == 2
    assert set(seen.values()) == (set(gpus) or {None})


# --- the shares of several processes --------------------------------------------------------------


@given(st.lists(st.integers(1, 600), max_size=70), st.integers(1, 9))
def test_rows_are_shared_evenly(lengths: list[int], size: int) -> None:
    lengths.sort()
    shards = [shard(lengths, rank, size) for rank in range(size)]
    assert sorted(chain.from_iterable(shards)) == lengths
    counts = [len(rows) for rows in shards]
    assert max(counts) - min(counts) <= 1
    # In snake order, shards differ by the range of the lengths, and one row.
    spread = max(lengths, default=0) - min(lengths, default=0)
    totals = [sum(rows) for rows in shards]
    assert max(totals) - min(totals) <= spread + max(lengths, default=0)


def test_the_launcher_gives_the_world_size() -> None:
    several = {"WORLD_SIZE": "4", "ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "1"}
    assert world_size({}) == 1
    assert world_size(several) == 4
    assert world_size({"WORLD_SIZE": "1"}) == 1
    assert world_size({"OMPI_COMM_WORLD_SIZE": "2"}) == 2
    # One process: `accelerate launch --num_processes 1`, and a plain call on a cluster.
    assert world_size({"ACCELERATE_MIXED_PRECISION": "no"}) == 1
    assert world_size({"MASTER_PORT": "29500"}) == 1


def test_accelerate_that_starts_one_of_several_is_reported() -> None:
    # What `accelerate launch --cpu --num_processes 2` leaves in the environment.
    with pytest.raises(UsageError, match="--multi_gpu"):
        world_size({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500"})


def test_a_single_process_sends_nothing() -> None:
    group = ProcessGroup()
    weight = torch.ones(2, requires_grad=True)
    group.sum_gradients([weight])
    assert weight.grad is None
    assert group.gather_all(lambda: 3) == [3]
    assert group.gather_shards(lambda: group.shard([1, 2]), 2) == [1, 2]
    assert group.sum_values(4, 5) == (4, 5)


# --- two processes --------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _start_two(folder: Path, tokenizer: Path, scenario: str) -> list[tuple[int | None, str]]:
    """Exit codes and standard errors of two processes with the variables that torchrun sets.

    They are forks, which have torch already: a new interpreter spends seconds on importing it.
    """
    shared = {
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "ACCELERATE_USE_CPU": "true",
    }
    errors = [folder / f"{scenario}-{rank}.txt" for rank in range(2)]
    started = [
        multiprocessing.get_context("fork").Process(
            target=_one_of_two,
            args=({**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, errors[rank]),
            kwargs={"folder": folder, "tokenizer": tokenizer, "scenario": scenario},
        )
        for rank in range(2)
    ]
    try:
        for process in started:
            process.start()
        for process in started:
            process.join(200)
    finally:
        for process in started:
            process.kill()
    return [
        (process.exitcode, path.read_text(encoding="utf-8"))
        for process, path in zip(started, errors, strict=True)
    ]


def _one_of_two(variables: dict[str, str], errors: Path, **arguments: Any) -> None:
    from accelerate import PartialState

    os.environ.update(variables)
    process_group.cache_clear()
    PartialState._reset_state()
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    distributed_worker.main(**arguments)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_training.make_tokenizer(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def first(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    ends = _start_two(folder, tokenizer, "first")
    assert [code for code, _ in ends] == [-9, -9], ends
    return folder


def _seen(folder: Path, scenario: str, what: str) -> list[Any]:
    return [
        json.loads((folder / f"{scenario}-{rank}.json").read_text(encoding="utf-8"))[what]
        for rank in (0, 1)
    ]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def _log(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_the_operations_of_a_group(first: Path) -> None:
    main, other = _seen(first, "first", "operations")
    assert main["failure"] == "StudentError: process 1: a row is missing"
    assert other["failure"] == "DataError: a row is missing"
    # A sum; the gradient of one process; none without a gradient in any process.
    assert main["gradients"] == other["gradients"]
    assert main["gradients"] == [[[3.0, 3.0]] * 2, [[7.0, 7.0]] * 2, None]
    assert "diverged" in main["drift"] and "diverged" in other["drift"]
    assert main["total"] == other["total"] == [3, 1]
    assert main["on_main"] == other["on_main"] == "from 0"
    assert main["gathered"] == other["gathered"] == list("abcdefg")


def test_two_processes_train_as_one_does(first: Path, tokenizer: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    alone = small_training.small_training(tokenizer, tmp_path, **PLAIN)
    main, other = _seen(first, "first", "plain")
    assert {**main, "seconds": 0} == {**other, "seconds": 0}
    for name in ("dev_accuracy", "best_step", "steps", "evaluations", "stopped_early"):
        assert main[name] == getattr(alone, name), name
    mine, theirs = _weights(tmp_path), _weights(first / "plain")
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(theirs[name], mine[name], rtol=0, atol=1e-5)
    # Only one process wrote: every line is there once, with the loss of the whole step.
    log, their_log = _log(tmp_path), _log(first / "plain")
    assert [line["step"] for line in their_log] == [line["step"] for line in log]
    assert their_log[0]["loss"] == pytest.approx(log[0]["loss"], rel=1e-5)


def test_each_process_does_its_share_with_its_own_dropout(first: Path) -> None:
    # An epoch ends with a step of one row, so that one process gets none.
    assert len(small_training.ROWS) % small_training.SETTINGS.batch_size == 1
    rows = _seen(first, "first", "rows")
    assert sum(rows) == PLAIN["epochs"] * len(small_training.ROWS)
    assert abs(rows[0] - rows[1]) <= _seen(first, "first", "plain")[0]["steps"]
    seeds = _seen(first, "first", "seeds")
    assert len({*seeds[0], *seeds[1]}) == len(seeds[0]) + len(seeds[1]) == 16


def test_one_process_does_not_resume_what_two_began(first: Path, tokenizer: Path) -> None:
    """Its dropout would be different."""
    student = small_training.new_student(tokenizer)
    settings = small_training.SETTINGS.replace(max_steps=8)
    rows, dev = small_training.ROWS, small_training.DEV
    with pytest.raises(RunFolderError, match="begun by 2 processes"):
        train(student, rows, dev, NLI, settings, first / "parts")


def test_two_processes_that_were_killed_end_bit_equal(first: Path, tokenizer: Path) -> None:
    assert (first / "parts" / "state.pt").exists()
    ends = _start_two(first, tokenizer, "second")
    assert [code for code, _ in ends] == [0, 0], ends
    (whole, _), (parts, _) = _seen(first, "first", "whole"), _seen(first, "second", "parts")
    assert {**parts, "seconds": 0} == {**whole, "seconds": 0}
    assert whole["steps"] > KILLED_AT
    whole_weights, parts_weights = _weights(first / "whole"), _weights(first / "parts")
    assert all(torch.equal(whole_weights[n], parts_weights[n]) for n in whole_weights)
    assert (first / "whole" / "log.jsonl").read_text(encoding="utf-8") == (
        first / "parts" / "log.jsonl"
    ).read_text(encoding="utf-8")


LAUNCH = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
LAUNCH += ["--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"]
LAUNCH += ["-m", "tutelage"]


def _accelerate(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    from accelerate.commands.launch import main

    # The launcher is a fork; the two processes that it starts are new interpreters.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [*LAUNCH, *arguments]
    return run_command(*words, cwd=cwd, environment=environment, timeout=200, main=main)


def _kill_the_second(launcher: psutil.Popen, state: Path) -> None:
    """End the process of rank 1 with SIGKILL once the training's first state is on disk."""
    deadline = time.monotonic() + 150
    while not state.exists():
        assert launcher.poll() is None, launcher.communicate()[1]
        assert time.monotonic() < deadline, "no state was written"
        time.sleep(0.01)
    (second,) = [p for p in launcher.children(recursive=True) if p.environ().get("RANK") == "1"]
    second.kill()


@pytest.mark.timeout(280)
def test_one_of_two_is_killed_under_accelerate_launch_and_both_resume(tmp_path: Path) -> None:
    """Without dropout the resumed two end with the model that one process trains undisturbed; of
    the two, one prints and writes."""
    rows = tmp_path / "rows.jsonl"
    records = [{"uid": e.uid, **e.fields, "label": e.label} for e in small_training.TRAIN]
    rows.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    options = {
        "--student": "scratch:t5-tiny",
        "--dropout": "0",
        "--learning-rate": "1e-3",
        "--batch-size": "13",
        "--epochs": "8",
        "--evaluate-every": "4",
        "--patience": "99",
    }
    words = ["train", str(rows), "--dev", str(rows), *chain.from_iterable(options.items())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone = run_command(*words, "--output", "alone", cwd=tmp_path, environment=environment)
    assert alone.returncode == 0, alone.stderr

    launch = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, *words]
    launcher = psutil.Popen(
        launch, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        _kill_the_second(launcher, tmp_path / "student" / "state.pt")
        launcher.communicate(timeout=100)
    finally:
        if launcher.poll() is None:
            for process in (*launcher.children(recursive=True), launcher):
                process.kill()
    assert launcher.returncode != 0
    undisturbed = _log(tmp_path / "alone")
    assert not (tmp_path / "student" / "done.json").exists()
    assert 0 < len(_log(tmp_path / "student")) < len(undisturbed)

    done = _accelerate(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("student/model: dev accuracy 0.")
    assert "Traceback" not in done.stderr
    predicted = (tmp_path / "student" / "dev.jsonl").read_text(encoding="utf-8")
    assert len(predicted.splitlines()) == len(records)
    # The best checkpoint may be older than the kill: the losses after it show how they resumed.
    resumed = _log(tmp_path / "student")
    assert [line["step"] for line in resumed] == [line["step"] for line in undisturbed]
    for line, other in zip(undisturbed, resumed, strict=True):
        assert other.get("loss", 0) == pytest.approx(line.get("loss", 0), rel=1e-4)
    mine, theirs = _weights(tmp_path / "alone"), _weights(tmp_path / "student")
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(theirs[name], mine[name], rtol=0, atol=1e-4)
