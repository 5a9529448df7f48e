"""One of several processes of a group, with the variables that torchrun sets.

`first` tries the group's operations, trains, and is killed in the middle of another training;
`second` finishes that one. Each process writes what it saw to FOLDER/SCENARIO-RANK.json.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from small_training import small_training

import tutelage.student.training.trainer as train_module
from tutelage.core.errors import DataError, StudentError
from tutelage.student.training.distributed import ProcessGroup, process_group

KILLED_AT = 5

PLAIN: dict[str, Any] = {"dropout": 0.0, "learning_rate": 1e-3, "epochs": 2, "patience": 9}
"""A training that is the same with one process and with several: without dropout, and in steps so
small that Adam, which divides by the gradient, does not amplify the last bits."""


def try_operations(group: ProcessGroup) -> dict[str, Any]:
    """Results of the group's operations, as plain values."""
    rank = group.rank

    def fails_in_the_second() -> None:
        if rank == 1:
            raise DataError("a row is missing")

    failure = ""
    try:
        group.gather_all(fails_in_the_second)
    except (DataError, StudentError) as error:
        failure = f"{type(error).__name__}: {error}"

    both, one, none = (torch.zeros(2, 2, requires_grad=True) for _ in range(3))
    both.grad = torch.full((2, 2), 1.0 + rank)
    if rank == 1:
        one.grad = torch.full((2, 2), 7.0)
    group.sum_gradients([both, one, none])

    equal = torch.ones(3)
    group.check_equal([equal])
    drift = ""
    try:
        group.check_equal([equal, torch.tensor([1.0, 1.0 + rank * 2.0**-23])])
    except StudentError as error:
        drift = str(error)
    return {
        "failure": failure,
        "gradients": [None if w.grad is None else w.grad.tolist() for w in (both, one, none)],
        "drift": drift,
        "total": group.sum_values(rank + 1, 0.5),
        "on_main": group.on_main(lambda: f"from {rank}"),
        "gathered": group.gather_shards(lambda: group.shard(list("abcdefg")), 7),
    }


def main(folder: Path, tokenizer: Path, scenario: str) -> None:
    torch.set_num_threads(1)
    group = process_group()
    seen: dict[str, Any] = {}
    rows: list[int] = []
    seeds: list[int] = []
    collate = train_module.collate

    def counting(student: Any, examples: Any) -> Any:
        rows.append(len(examples))
        return collate(student, examples)

    train_module.collate = counting
    if scenario == "first":
        seen["operations"] = try_operations(group)
        plain = small_training(tokenizer, folder / "plain", **PLAIN)
        seen["plain"] = asdict(plain)
        seen["rows"] = sum(rows)

        def note_seed(step: int, total: int) -> None:
            seeds.append(torch.initial_seed())

        whole = small_training(tokenizer, folder / "whole", note_seed, max_steps=8)
        seen["whole"], seen["seeds"] = asdict(whole), seeds
    (folder / f"{scenario}-{group.rank}.json").write_text(json.dumps(seen), encoding="utf-8")

    def die(step: int, total: int) -> None:
        if scenario == "first" and step == KILLED_AT:
            group.sum_values(0)  # so that neither is killed before the other has reached this step
            os.kill(os.getpid(), signal.SIGKILL)

    seen["parts"] = asdict(small_training(tokenizer, folder / "parts", die, max_steps=8))
    (folder / f"{scenario}-{group.rank}.json").write_text(json.dumps(seen), encoding="utf-8")
    group.close()
