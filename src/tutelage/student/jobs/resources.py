"""How many jobs this machine carries at once.

On a CPU each process takes its setting's threads, one unless told otherwise, and so many run at
once as have cores of their own: two processes of two threads on two cores slow each other by ten.
"""

from __future__ import annotations

import os

from tutelage.student.jobs import worker

_BYTES_PER_WEIGHT = 30
_BYTES_BESIDES = 3 * 2**30
"""Memory of a training process: weights, masters, gradients, two moments, and what passes; and
torch itself with the activations (a SmolLM2-135M came to 7.4 GB)."""

_BYTES_PER_FROZEN_WEIGHT = 12
"""With adapters instead: weights in fp32, at a reading of dev their merged copy, and what is left
for adapters of a high rank. (SmolLM2-135M, bf16, steps of 617 tokens: at most 2.0 GiB resident,
3.6 where all weights were trained.)"""


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def side_by_side(threads: int) -> int:
    """How many jobs of so many threads run at once where memory is no matter: one a GPU, else as
    many as have cores of their own."""
    return len(worker.visible_gpus()) or max(1, cores() // threads)


def workers_for(parameters: int, adapters: bool = False, threads: int = 1) -> int:
    """How many jobs run at once: as `side_by_side`, on a CPU as far as memory carries.

    adapters: whether the weights stay frozen and adapters are trained
    """
    if worker.visible_gpus():
        return side_by_side(threads)
    import psutil

    each = _BYTES_PER_FROZEN_WEIGHT if adapters else _BYTES_PER_WEIGHT
    # What could be had, the files that the kernel keeps included.
    free = psutil.virtual_memory().available
    fitting = int(free * 0.8 / (parameters * each + _BYTES_BESIDES))
    return max(1, min(side_by_side(threads), fitting))
