"""What a worker process of the pool is: its GPU, and where it reports to.

Free of torch: the GPU must be chosen before torch looks for one.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Sequence
from importlib import metadata
from typing import Any

_channel: Any = None
"""Where this worker's progress goes."""


def start(channel: Any, places: Any, gpus: Sequence[str]) -> None:
    """Run first in each worker.

    channel: a queue for its reports
    places:  a shared counter: a worker's number is what it finds there
    gpus:    what `visible_gpus` gave in the parent
    """
    global _channel
    _channel = channel
    with places.get_lock():
        number, places.value = places.value, places.value + 1
    gpu = gpu_of(number, gpus)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of several processes write over each other


def _end_with_parent() -> None:
    """End this process when its parent has: one that was killed could not tell its workers, which
    would train to their end, for nobody, in gigabytes of memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def report(progress: Any) -> None:
    """Tell the parent."""
    _channel.put(progress)


def import_torch() -> None:
    """What a worker can do before there is a job."""
    import transformers.models.auto  # noqa: F401

    import tutelage.student.training.trainer  # noqa: F401


def gpu_of(number: int, gpus: Sequence[str]) -> str | None:
    """The one GPU that worker `number` (from 0) sees; None where there is none to choose from."""
    return gpus[number % len(gpus)] if gpus else None


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that torch would find in this process, as CUDA_VISIBLE_DEVICES names them."""
    if metadata.version("torch").endswith("+cpu"):
        return ()  # a second saved: torch need not be imported here
    import torch

    return named_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count())


def named_gpus(variable: str | None, count: int) -> tuple[str, ...]:
    """Names of the `count` GPUs that CUDA shows where CUDA_VISIBLE_DEVICES is `variable`.

    The variable's entries are numbers or identifiers; CUDA reads them up to the first bad one.
    """
    if variable is None:
        return tuple(str(number) for number in range(count))
    return tuple(entry.strip() for entry in variable.split(","))[:count]
