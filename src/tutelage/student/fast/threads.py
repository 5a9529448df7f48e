"""Several micro-batches at once, each on CPU threads of its own.

Large matrix products keep several threads busy. The operations between them do not, and each
operation ends only when its slowest thread does. So two micro-batches at once, on one thread each,
take less time than one after the other on two threads (docs/performance.md).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

import torch

from tutelage.student.fast.dropout import dropout_generator
from tutelage.student.model.executor import Executor
from tutelage.student.model.student import Student

T = TypeVar("T")
R = TypeVar("R")

_MIN_TOKENS = 1024
"""Padded tokens that each concurrent micro-batch may hold, at least. Smaller ones would spend
their time between the matrix products."""

_CHUNK = 1 << 20
"""Values that are added at once if the types differ: what a cache holds."""


def concurrency_for(threads: int, tokens_per_micro_batch: int) -> int:
    """How many micro-batches run at once on this many CPU threads.

    tokens_per_micro_batch: padded tokens that all of them together may hold
    """
    return min(threads, max(tokens_per_micro_batch // _MIN_TOKENS, 1))


class ThreadedExecutor(Executor):
    """Runs a function over micro-batches, several at once on the CPU.

    Each thread has a replica of the student: it shares the weights and has its own gradients.

    threads:                of this process; each micro-batch runs on an equal share of them
    tokens_per_micro_batch: padded tokens that all concurrent micro-batches together may hold
    """

    def __init__(self, student: Student, threads: int, tokens_per_micro_batch: int) -> None:
        concurrency = concurrency_for(threads, tokens_per_micro_batch)
        super().__init__(student, tokens_per_micro_batch // concurrency)
        self.students += [_replica(student) for _ in range(concurrency - 1)]
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def run(self, work: Callable[[Student, int, T], R], items: Sequence[T]) -> list[R]:
        """What work(student, index, item) returns for each item, in the order of `items`.

        An item's index alone decides its thread, and a thread takes its items in their order, so
        that gradients add up in the same order every time.
        """
        if self.concurrency == 1:
            return super().run(work, items)

        def run_in_thread(number: int) -> list[R]:
            student = self.students[number]
            indices = range(number, len(items), self.concurrency)
            return [work(student, index, items[index]) for index in indices]

        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                self.concurrency,
                "micro-batch",
                partial(torch.set_num_threads, self._threads // self.concurrency),
            )
        futures = [self._pool.submit(run_in_thread, n) for n in range(self.concurrency)]
        by_thread = [future.result() for future in futures]
        return [
            by_thread[index % self.concurrency][index // self.concurrency]
            for index in range(len(items))
        ]

    def seeded_dropout(self, seed: int) -> AbstractContextManager[None]:
        """Inside, dropout in this thread draws from a generator with this seed."""
        return nullcontext() if self.concurrency == 1 else dropout_generator(seed)

    @torch.no_grad()
    def collect_gradients(self, weights: Sequence[torch.Tensor]) -> None:
        """Add the replicas' gradients to those of `weights`, and clear them.

        weights: the student's trained weights, or their fp32 masters
        """
        for replica in self.students[1:]:
            trained = [p for p in replica.model.parameters() if p.requires_grad]
            for weight, twin in zip(weights, trained, strict=True):
                if twin.grad is None:
                    continue
                if weight.grad is None:
                    weight.grad = twin.grad.to(weight.dtype)
                else:
                    add_to(weight.grad, twin.grad)
                twin.grad = None

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


@torch.no_grad()
def add_to(total: torch.Tensor, gradient: torch.Tensor) -> None:
    """total += gradient, of any type, without another tensor of that size."""
    if total.dtype == gradient.dtype:
        total.add_(gradient)
        return
    flat, added = total.view(-1), gradient.reshape(-1)
    for start in range(0, len(flat), _CHUNK):
        flat[start : start + _CHUNK].add_(added[start : start + _CHUNK])


def _replica(student: Student) -> Student:
    """A student whose model is another object with the same weights in the same memory."""
    shared: dict[int, Any] = {
        id(weight): torch.nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
        for weight in student.model.parameters()
    }
    replica = copy.copy(student)  # what was tried out on the model holds for its replica
    replica.model = copy.deepcopy(student.model, shared)
    return replica


def only_fast_dropout_is_random(student: Student) -> bool:
    """Whether nothing but fast dropout draws random numbers in training.

    Concurrent micro-batches share every other generator and would draw from it in an order that
    differs from run to run. Tried out with one forward pass.
    """
    training = student.model.training
    before = torch.get_rng_state()
    student.model.train()
    try:
        with torch.no_grad(), dropout_generator(0):
            student.model(**student.probe_inputs(), use_cache=False)
        return torch.equal(before, torch.get_rng_state())
    finally:
        torch.set_rng_state(before)
        student.model.train(training)
