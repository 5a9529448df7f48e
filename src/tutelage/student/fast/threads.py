"""Several passes at once, each on CPU threads of its own.

Large matrix products keep several threads busy; what lies between them does not, and every
operation ends when its slowest thread does. So two passes side by side on a thread each take less
time than one after the other on two threads (docs/performance.md).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch

from tutelage.student.fast.dropout import drawing_from
from tutelage.student.fast.head import forget_logits
from tutelage.student.model.student import Student

T = TypeVar("T")
R = TypeVar("R")

_LEAST_TOKENS = 1024
"""A lane's passes hold at least so many padded tokens, where there are as many: smaller ones spend
their time between the products again."""


_PART = 1 << 20
"""Values that are added at once where types differ: what a cache holds."""


@torch.no_grad()
def add_to(total: torch.Tensor, gradient: torch.Tensor) -> None:
    """total += gradient, of whatever type, without a second tensor of that size."""
    if total.dtype == gradient.dtype:
        total.add_(gradient)
        return
    flat, added = total.view(-1), gradient.reshape(-1)
    for start in range(0, len(flat), _PART):
        flat[start : start + _PART].add_(added[start : start + _PART])


def lanes_of(threads: int, tokens_per_micro_batch: int) -> int:
    """How many passes run at once on so many CPU threads."""
    return min(threads, max(tokens_per_micro_batch // _LEAST_TOKENS, 1))


class Lanes:
    """One student, and doubles of it that share its weights and have gradients of their own.

    threads:         of this process; a lane has an equal share of them
    tokens_per_micro_batch: what all lanes together may hold at once
    """

    def __init__(self, student: Student, threads: int, tokens_per_micro_batch: int) -> None:
        several = student.uses("threads") and student.device.type == "cpu"
        count = lanes_of(threads, tokens_per_micro_batch) if several else 1
        self.students = [student, *(_double(student) for _ in range(count - 1))]
        self.tokens_per_micro_batch = tokens_per_micro_batch // count
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    @property
    def count(self) -> int:
        """How many passes run at once."""
        return len(self.students)

    def run(self, work: Callable[[Student, int, T], R], items: Sequence[T]) -> list[R]:
        """What `work` returns for (a lane's student, an item's place, the item), in their order.

        An item's lane depends on its place alone, and a lane takes its items one after the other:
        gradients add up in the same order every time.
        """
        if self.count == 1:
            return [work(self.students[0], place, item) for place, item in enumerate(items)]

        def lane(number: int) -> list[R]:
            student = self.students[number]
            places = range(number, len(items), self.count)
            return [work(student, place, items[place]) for place in places]

        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                self.count, "lane", partial(torch.set_num_threads, self._threads // self.count)
            )
        futures = [self._pool.submit(lane, number) for number in range(self.count)]
        found = [future.result() for future in futures]
        return [found[place % self.count][place // self.count] for place in range(len(items))]

    @torch.no_grad()
    def add_gradients(self, weights: Sequence[torch.Tensor]) -> None:
        """Add the doubles' gradients to those of `weights`, the student's trained ones or their
        masters in fp32, and clear them."""
        for double in self.students[1:]:
            trained = [p for p in double.model.parameters() if p.requires_grad]
            for weight, twin in zip(weights, trained, strict=True):
                if twin.grad is None:
                    continue
                if weight.grad is None:
                    weight.grad = twin.grad.to(weight.dtype)
                else:
                    add_to(weight.grad, twin.grad)
                twin.grad = None

    def close(self) -> None:
        """End the threads, and give back what passes left to one another."""
        forget_logits()
        if self._pool is not None:
            self._pool.shutdown()


def _double(student: Student) -> Student:
    """A student whose model is another object with the same weights in the same memory."""
    shared: dict[int, Any] = {
        id(weight): torch.nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
        for weight in student.model.parameters()
    }
    double = copy.copy(student)  # what was found out about the model holds for its double
    double.model = copy.deepcopy(student.model, shared)
    return double


def draws_apart(student: Student) -> bool:
    """Whether all that the model draws in training can come from a generator of the pass's own
    (`kernels.drawing_from`): passes at once would share any other in an order that differs from
    run to run. Found out by trying."""
    training = student.model.training
    before = torch.get_rng_state()
    student.model.train()
    try:
        with torch.no_grad(), drawing_from(0):
            student.model(**student.probe_inputs(), use_cache=False)
        return torch.equal(before, torch.get_rng_state())
    finally:
        torch.set_rng_state(before)
        student.model.train(training)
