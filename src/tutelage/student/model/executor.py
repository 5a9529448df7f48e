"""Runs a function over micro-batches, one after the other.

`student.fast.threads` has an executor that runs several of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch

from tutelage.student.model.student import Student

T = TypeVar("T")
R = TypeVar("R")


class Executor:
    """Runs a function over micro-batches, one after the other.

    students:               the students that run at once; the first one is the original
    tokens_per_micro_batch: padded tokens that a micro-batch may hold
    """

    def __init__(self, student: Student, tokens_per_micro_batch: int) -> None:
        self.students = [student]
        self.tokens_per_micro_batch = tokens_per_micro_batch

    @property
    def concurrency(self) -> int:
        """How many micro-batches run at once."""
        return len(self.students)

    def run(self, work: Callable[[Student, int, T], R], items: Sequence[T]) -> list[R]:
        """What work(student, index, item) returns for each item, in the order of `items`."""
        return [work(self.students[0], index, item) for index, item in enumerate(items)]

    def seeded_dropout(self, seed: int) -> AbstractContextManager[None]:
        """Nothing to do: dropout draws from the default generator, which the caller has seeded."""
        return nullcontext()

    def collect_gradients(self, weights: Sequence[torch.Tensor]) -> None:
        """Nothing to do: all gradients are in the student itself."""

    def close(self) -> None:
        """Nothing to do."""
