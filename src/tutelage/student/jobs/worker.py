"""A worker process of the pool: its GPU, and its reports to the parent process.

Free of torch: the GPU must be chosen before torch looks for one.
"""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from importlib import metadata
from typing import Any

from tutelage.core.progress import JobProgress

_channel: Any = None
"""The queue for this worker's reports."""

_FIRST = "tutelage.student.jobs.start_quietly"
_PRELOADED = "tutelage.student.jobs.preloaded"

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",  # several processes' bars would overwrite each other
}
"""Of a worker, unless the user has set them."""

_server_of: int | None = None
"""The process whose workers are forked from a server; None before there is one."""


def start_method(torch: bool = True) -> Any:
    """The way in which this process starts workers: a context of `multiprocessing`.

    torch: whether the workers need it

    On Linux they are forks of a server process that has imported torch, which takes ten seconds of
    a core each time. New interpreters where there are GPUs, which torch may look for once only, and
    in a process that was itself forked: such a server would be its parent's, which it cannot use.
    """
    global _server_of
    forked = multiprocessing.parent_process() is not None or _server_of not in (None, os.getpid())
    if sys.platform != "linux" or not torch or forked or visible_gpus():
        return multiprocessing.get_context("spawn")
    _server_of = os.getpid()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_FIRST, _PRELOADED])
    return context


def submit(pool: ProcessPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Submit work to a pool that starts its processes on demand, without the main module.

    A new process would import the script that is running, to find functions that it defines. Our
    jobs need none, and a script without `if __name__ == "__main__":` would run again from its
    first line. The process that workers are forked from starts here too, and reads its number of
    threads from the environment.
    """
    main = sys.modules["__main__"]
    hidden = {name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)}
    added = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    for name in hidden:
        setattr(main, name, None)
    os.environ.update(added)
    try:
        return pool.submit(function, *arguments)
    finally:
        for variable in added:
            del os.environ[variable]
        for name, value in hidden.items():
            setattr(main, name, value)


def start(channel: Any, counter: Any, gpus: Sequence[str], environment: Mapping[str, str]) -> None:
    """Initialise a worker; the first function that runs in it.

    channel: queue for its reports
    counter: shared counter from which the worker takes its number
    gpus:    what `visible_gpus` returned in the parent
    environment: the parent's environment variables
    """
    global _channel
    _channel = channel
    # A process that workers are forked from may be older than what has been set since.
    os.environ.clear()
    os.environ.update(environment)
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    gpu = gpu_of(number, gpus)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # and ends the workers, whatever it does itself
    sys.excepthook = sys.__excepthook__  # it has started: see start_quietly
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _end_with_parent() -> None:
    """End this process when its parent ends.

    A parent that is killed cannot stop its workers. They would finish trainings whose results
    nobody collects, and hold gigabytes of memory.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def report(progress: Any) -> None:
    """Send progress to the parent."""
    _channel.put(progress)


def forward(channel: Any, report: Callable[[JobProgress], None], running: Collection[str]) -> None:
    """Forward what the workers have reported, only the newest of each job.

    running: folders of the jobs that have not ended; a late report of another is dropped
    """
    newest: dict[str, JobProgress] = {}
    while True:
        try:
            item: JobProgress = channel.get_nowait()
        except queue.Empty:
            break
        newest[item.name] = item
    for item in newest.values():
        if item.name in running:
            report(item)


def import_torch() -> None:
    """Import what a job needs, before there is a job."""
    importlib.import_module(_PRELOADED)


def gpu_of(number: int, gpus: Sequence[str]) -> str | None:
    """The one GPU that worker `number` (from 0) sees; None if there are no GPUs."""
    return gpus[number % len(gpus)] if gpus else None


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that torch would find in this process, as CUDA_VISIBLE_DEVICES names them."""
    if metadata.version("torch").endswith("+cpu"):
        return ()  # saves a second: torch need not be imported here
    import torch

    return named_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count())


def named_gpus(variable: str | None, count: int) -> tuple[str, ...]:
    """Names of the `count` GPUs that CUDA shows if CUDA_VISIBLE_DEVICES is `variable`.

    The variable's entries are numbers or identifiers; CUDA uses those before the first invalid one.
    """
    if variable is None:
        return tuple(str(number) for number in range(count))
    return tuple(entry.strip() for entry in variable.split(","))[:count]
