"""One training over several processes, as `accelerate launch` or `torchrun` start them.

Every process holds the whole student and builds the same optimiser steps. It takes its share of
each step's rows and adds its gradients to those of the others. The loss is divided by the counts of
the whole step, so the update is that of a single process up to rounding. Each process makes the
update itself. Their weights stay equal bit by bit, which is checked at each evaluation on dev.

Only the main process loads recipes, calls teachers and writes files. The others wait for its jobs
(`student.jobs.jobs.main_process`).
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
"""Variables in which torchrun and the MPI launchers give the number of processes."""

_TIMEOUT = timedelta(days=30)
"""How long a process waits for the main one, which may be calling a teacher meanwhile. A process
that has died is noticed at once."""

_BUCKET = 32 * 2**20
"""Gradient values that are summed in one message."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes of one training, as one of them sees them. By default there is only one.

    rank, size:    number of this process, from 0, and of all processes
    fixed_device:  this process's device; None: the one that `choose_device` finds
    control_group: the torch.distributed group for everything but gradients; always over CPU

    An error must be raised in all processes, or through `gather_all`; otherwise some wait for ever.
    """

    rank: int = 0
    size: int = 1
    fixed_device: torch.device | None = None
    control_group: Any = None

    @property
    def device(self) -> torch.device:
        """The device of this process's student."""
        from tutelage.student.model.precision import choose_device

        return choose_device() if self.fixed_device is None else self.fixed_device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def gather_all(self, work: Callable[[], T]) -> list[T]:
        """What `work` returned in each process, by rank, once all have finished it.

        If one of our errors is raised in any process, all raise one: the process itself its own
        error, the others a StudentError with its message.
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
        distributed.all_gather_object(everyone, done, group=self.control_group)
        failed = next((message for message, _ in everyone if message is not None), None)
        if error is not None:
            raise error
        if failed is not None:
            raise StudentError(failed)
        return [result for _, result in everyone]

    def on_main(self, work: Callable[[], T]) -> T:
        """Run `work` in the main process only; all processes return its result."""
        return self.gather_all(work if self.is_main else lambda: None)[0]  # type: ignore[return-value]

    def shard(self, rows: Sequence[T]) -> list[T]:
        """This process's share of rows that are sorted by length; see `shard`."""
        return shard(rows, self.rank, self.size)

    def gather_shards(self, work: Callable[[], Sequence[T]], count: int) -> list[T]:
        """The results of all processes, each for its shard of `count` rows, in the rows' order."""
        parts = self.gather_all(work)
        indices = [shard(range(count), rank, self.size) for rank in range(self.size)]
        by_index = {
            i: result
            for shard_indices, part in zip(indices, parts, strict=True)
            for i, result in zip(shard_indices, part, strict=True)
        }
        return [by_index[i] for i in range(count)]

    def sum_values(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the processes."""
        if self.size == 1:
            return values
        import torch
        import torch.distributed as distributed

        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums, group=self.control_group)
        return tuple(sums.tolist())

    def sum_gradients(self, weights: Sequence[torch.Tensor]) -> None:
        """Replace each weight's gradient (fp32) by its sum over the processes.

        A process that had no rows has no gradients and adds nothing. A weight without a gradient
        in every process keeps none.
        """
        if self.size == 1:
            return
        import torch
        import torch.distributed as distributed

        for bucket in _buckets(weights):
            present = torch.tensor(
                [float(w.grad is not None) for w in bucket], device=bucket[0].device
            )
            gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in bucket]
            flat = torch.cat([g.reshape(-1) for g in (*gradients, present)])
            distributed.all_reduce(flat)
            sizes = [w.numel() for w in bucket]
            *sums, anywhere = torch.split(flat, [*sizes, len(bucket)])
            for i, (weight, total) in enumerate(zip(bucket, sums, strict=True)):
                # `anywhere` is on the device: wait for it only if there is no gradient here.
                if weight.grad is not None or float(anywhere[i]) > 0:
                    weight.grad = total.view_as(weight)

    def check_equal(self, weights: Sequence[torch.Tensor]) -> None:
        """Raise StudentError unless the processes' weights (fp32) are equal bit by bit."""
        if self.size == 1:
            return
        import torch

        def checksum() -> int:
            return sum(int(w.detach().view(torch.int32).sum(dtype=torch.int64)) for w in weights)

        checksums = self.gather_all(checksum)
        if len(set(checksums)) > 1:
            raise StudentError(
                f"the weights of the {self.size} processes have diverged: expected equal weights; "
                "run all processes on the same kind of device, with the same packages"
            )

    def send_job(self, job: Any) -> None:
        """From the main process: the job that the others run next; None: no further job."""
        if self.size > 1:
            self._broadcast(job)

    def receive_job(self) -> Any:
        """In the other processes: the job that the main process sends.

        Raises StudentError if the main process has ended.
        """
        try:
            return self._broadcast(None)
        except RuntimeError as error:
            raise StudentError(
                "the main process has ended, and with it the training: its message says why"
            ) from error

    def close(self) -> None:
        """End the connections between the processes."""
        if self.size > 1:
            import torch.distributed as distributed

            distributed.destroy_process_group()

    def _broadcast(self, job: Any) -> Any:
        import torch.distributed as distributed

        box = [job]
        distributed.broadcast_object_list(box, src=0, group=self.control_group)
        return box[0]


def shard(rows: Sequence[T], rank: int, size: int) -> list[T]:
    """The rows of process `rank` of `size`.

    Rows are dealt out in snake order: 0, 1, …, size − 1, size − 1, …, 1, 0, 0, 1, … If they are
    sorted by length, all processes get similar lengths, and the same number of rows give or take
    one.
    """
    share = []
    for i, row in enumerate(rows):
        turn, place = divmod(i, size)
        if rank == (place if turn % 2 == 0 else size - 1 - place):
            share.append(row)
    return share


def _buckets(weights: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """The weights in their order, about `_BUCKET` values at a time: one message per bucket, and
    bounded memory."""
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


def world_size(environment: Mapping[str, str]) -> int:
    """Number of processes, according to the launcher that started this one; 1 without a launcher.

    Raises UsageError if `accelerate launch` was given several processes and, finding no second GPU,
    started one without saying so.
    """
    size = max((int(environment[name]) for name in _SIZES if environment.get(name)), default=0)
    if not size and "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_PORT" in environment:
        raise UsageError(
            "accelerate launch was given several processes and started one: on CPUs, use "
            "`accelerate launch --multi_gpu --num_processes N …` or `torchrun --nproc-per-node N …`"
        )
    return max(size, 1)


@cache
def process_group() -> ProcessGroup:
    """The group that this process belongs to. The first call makes its connections.

    Raises UsageError for a group that cannot work: more processes than GPUs, or a launcher that
    accelerate does not recognise.
    """
    if world_size(os.environ) == 1:
        return ProcessGroup()
    import torch
    import torch.distributed as distributed
    from accelerate import PartialState

    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    on_cpu = on_cpu or not torch.cuda.is_available()
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if not on_cpu and here > gpus:
        raise UsageError(
            f"got {here} processes on a machine with {gpus} GPUs, expected one process per GPU at "
            f"most: start {gpus}"
        )
    state = PartialState(cpu=on_cpu)
    if state.num_processes == 1:
        raise UsageError(
            "several processes were started in a way that accelerate does not recognise on this "
            "device: start them with `accelerate launch --multi_gpu` or `torchrun`"
        )
    control = distributed.new_group(backend="gloo", timeout=_TIMEOUT)
    return ProcessGroup(state.process_index, state.num_processes, state.device, control)
