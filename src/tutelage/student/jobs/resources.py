"""Decides how many jobs run at once on this machine.

On a CPU each process uses the threads of its settings, by default one, and as many processes run at
once as there are cores for their threads. Two processes of two threads each on two cores slow each
other down tenfold.
"""

from __future__ import annotations

import os

from tutelage.student.jobs import worker

_BYTES_PER_WEIGHT = 30
_BYTES_PER_PROCESS = 3 * 2**30
"""Memory of a training process: per weight the weight, its master, gradient, two moments and
temporary copies; per process torch and the activations. (SmolLM2-135M needs 7.4 GB.)"""

_BYTES_PER_FROZEN_WEIGHT = 12
"""The same with adapters: weights in fp32, their merged copy during an evaluation on dev, and room
for adapters of a high rank. (SmolLM2-135M in bf16, steps of 617 tokens: at most 2.0 GiB resident,
against 3.6 GiB with all weights trained.)"""


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def concurrent_jobs(threads: int) -> int:
    """How many jobs of this many threads run at once, whatever memory they need.

    One per GPU; without a GPU, as many as there are cores for their threads.
    """
    return len(worker.visible_gpus()) or max(1, cores() // threads)


def workers_for(parameters: int, adapters: bool = False, threads: int = 1) -> int:
    """How many jobs run at once: `concurrent_jobs`, on a CPU limited by the free memory.

    parameters: number of weights of the student
    adapters:   whether the weights stay frozen and adapters are trained
    """
    if worker.visible_gpus():
        return concurrent_jobs(threads)
    import psutil

    per_weight = _BYTES_PER_FROZEN_WEIGHT if adapters else _BYTES_PER_WEIGHT
    # Available memory includes what the kernel uses for its file cache.
    free = psutil.virtual_memory().available
    fitting = int(free * 0.8 / (parameters * per_weight + _BYTES_PER_PROCESS))
    return max(1, min(concurrent_jobs(threads), fitting))
