"""One training over several processes, as `accelerate launch` or `torchrun` started them.

Every process holds the whole student and builds the same optimiser steps, takes its share of each
step's rows, and adds its gradients to the others'. As the loss is divided by what the whole step
holds, the update is that of one process up to rounding. Every process makes it for itself: their
weights stay equal to the last bit, which is checked at each reading of dev.

The first process leads: it alone reads recipes, asks teachers and writes files. The others wait for
its jobs (`student.jobs.leading`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from tutelage.core.errors import StudentError, TutelageError, UsageError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables in which torchrun and the MPI launchers say how many processes there are."""

_PATIENCE = timedelta(days=30)
"""How long a process waits for the first one, which may be asking a teacher meanwhile. One that has
died is noticed at once."""

_BUCKET = 32 * 2**20
"""Gradient values that are added up in one go."""


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of one training, as one of them sees them. Alone unless told otherwise.

    rank, size: this process's number, and how many there are
    own:        this process's device; None: the one that `choose_device` finds
    words:      the torch.distributed group for everything but gradients; always over CPU

    An error must be raised by all of them or through `together`: else some wait for ever.
    """

    rank: int = 0
    size: int = 1
    own: torch.device | None = None
    words: Any = None

    @property
    def device(self) -> torch.device:
        """Where this process's student belongs."""
        from tutelage.student.model.precision import choose_device

        return choose_device() if self.own is None else self.own

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def together(self, work: Callable[[], T]) -> list[T]:
        """What `work` returned in each process, in their order, when all have done it.

        If it raised one of our errors in any of them it raises in all: the first process raises the
        error itself, the others one that says so.
        """
        if self.size == 1:
            return [work()]
        import torch.distributed as distributed

        error: TutelageError | None = None
        done: tuple[str | None, Any]
        try:
            done = None, work()
        except TutelageError as raised:
            error, done = raised, (f"process {self.rank}: {raised}", None)
        everyone: list[Any] = [None] * self.size
        distributed.all_gather_object(everyone, done, group=self.words)
        failed = next((message for message, _ in everyone if message is not None), None)
        if error is not None:
            raise error
        if failed is not None:
            raise StudentError(failed)
        return [result for _, result in everyone]

    def first(self, work: Callable[[], T]) -> T:
        """What `work` returned in the first process, which alone does it."""
        return self.together(work if self.main else lambda: None)[0]  # type: ignore[return-value]

    def share(self, rows: Sequence[T]) -> list[T]:
        """This process's part of rows that are sorted by length: see `deal`."""
        return deal(rows, self.rank, self.size)

    def gather(self, part: Callable[[], Sequence[T]], count: int) -> list[T]:
        """The whole of which each process has worked out its `share`, in the whole's order."""
        parts = self.together(part)
        rows = [deal(range(count), rank, self.size) for rank in range(self.size)]
        placed = {
            i: row
            for at, part in zip(rows, parts, strict=True)
            for i, row in zip(at, part, strict=True)
        }
        return [placed[i] for i in range(count)]

    def total(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the processes."""
        if self.size == 1:
            return values
        import torch
        import torch.distributed as distributed

        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums, group=self.words)
        return tuple(sums.tolist())

    def add_gradients(self, weights: Sequence[torch.Tensor]) -> None:
        """Put the sum over the processes in the place of each weight's gradient (fp32).

        A process that had no row has no gradient, and adds nothing; a weight that has none in any
        process keeps none.
        """
        if self.size == 1:
            return
        import torch
        import torch.distributed as distributed

        for bucket in _buckets(weights):
            there = torch.tensor(
                [float(w.grad is not None) for w in bucket], device=bucket[0].device
            )
            gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in bucket]
            flat = torch.cat([g.reshape(-1) for g in (*gradients, there)])
            distributed.all_reduce(flat)
            sizes = [w.numel() for w in bucket]
            *sums, anywhere = torch.split(flat, [*sizes, len(bucket)])
            for i, (weight, total) in enumerate(zip(bucket, sums, strict=True)):
                # A device need only be waited for where this process cannot know by itself.
                if weight.grad is not None or float(anywhere[i]) > 0:
                    weight.grad = total.view_as(weight)

    def check_equal(self, weights: Sequence[torch.Tensor]) -> None:
        """Raise StudentError where the processes' weights (fp32) are not equal bit by bit."""
        if self.size == 1:
            return
        import torch

        def print_of_bits() -> int:
            return sum(int(w.detach().view(torch.int32).sum(dtype=torch.int64)) for w in weights)

        prints = self.together(print_of_bits)
        if len(set(prints)) > 1:
            raise StudentError(
                f"the weights of the {self.size} processes have drifted apart: expected equal "
                "ones; run all of them on the same kind of device, with the same packages"
            )

    def send(self, job: Any) -> None:
        """From the first process: what the others are to do now; None: nothing more."""
        if self.size > 1:
            self._pass_on(job)

    def receive(self) -> Any:
        """In the others: what the first process sends."""
        try:
            return self._pass_on(None)
        except RuntimeError as error:
            raise StudentError(
                "the first process has ended, and with it the training: its message says why"
            ) from error

    def close(self) -> None:
        """Part, when all has been done."""
        if self.size > 1:
            import torch.distributed as distributed

            distributed.destroy_process_group()

    def _pass_on(self, job: Any) -> Any:
        import torch.distributed as distributed

        box = [job]
        distributed.broadcast_object_list(box, src=0, group=self.words)
        return box[0]


def deal(rows: Sequence[T], player: int, players: int) -> list[T]:
    """The rows that `player` of `players` gets when they are dealt out to and fro.

    Of rows sorted by length everyone gets the same number, but for one, and much the same lengths.
    """
    hand = []
    for i, row in enumerate(rows):
        turn, seat = divmod(i, players)
        if player == (seat if turn % 2 == 0 else players - 1 - seat):
            hand.append(row)
    return hand


def _buckets(weights: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Weights in their order, some `_BUCKET` values at a time: one message each, bounded memory."""
    bucket: list[torch.Tensor] = []
    held = 0
    for weight in weights:
        if bucket and held + weight.numel() > _BUCKET:
            yield bucket
            bucket, held = [], 0
        bucket.append(weight)
        held += weight.numel()
    if bucket:
        yield bucket


def launched(environment: Mapping[str, str]) -> int:
    """How many processes the launcher that started this one says there are; 1 without a launcher.

    Raises UsageError where `accelerate launch` was asked for several and, seeing no second GPU,
    started one without a word.
    """
    size = max((int(environment[name]) for name in _SIZES if environment.get(name)), default=0)
    if not size and "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_PORT" in environment:
        raise UsageError(
            "accelerate launch was asked for several processes and started one: on CPUs, say "
            "`accelerate launch --multi_gpu --num_processes N …` or `torchrun --nproc-per-node N …`"
        )
    return max(size, 1)


@cache
def processes() -> Group:
    """The group that this process belongs to; its connections are made by the first call."""
    if launched(os.environ) == 1:
        return Group()
    import torch
    import torch.distributed as distributed
    from accelerate import PartialState

    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    on_cpu = on_cpu or not torch.cuda.is_available()
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if not on_cpu and here > gpus:
        raise UsageError(f"{here} processes on this machine, and {gpus} GPUs: start one a GPU")
    state = PartialState(cpu=on_cpu)
    if state.num_processes == 1:
        raise UsageError(
            "several processes were started in a way that accelerate does not know on this device: "
            "start them with `accelerate launch --multi_gpu` or `torchrun`"
        )
    words = distributed.new_group(backend="gloo", timeout=_PATIENCE)
    return Group(state.process_index, state.num_processes, state.device, words)
