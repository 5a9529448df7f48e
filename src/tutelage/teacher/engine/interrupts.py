"""Run a coroutine from synchronous code, with a defined effect of Ctrl-C and of SIGTERM.

The first one asks the work to end in good order, the second one cancels it. SIGTERM is what Slurm,
Docker and systemd send before they kill.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from tutelage.core.collector import fewer_collections

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Begin = Callable[[], Coroutine[Any, Any, None]]


class Interrupted(Exception):
    """The work ended because it was asked to; `run_interruptible` raises KeyboardInterrupt."""


def run_interruptible(begin: Begin, on_interrupt: Callable[[], None]) -> None:
    """Run `begin()` on an event loop: on another thread where this thread already runs a loop.

    on_interrupt: called on the loop at the first Ctrl-C or SIGTERM; the work should then end soon
                  by raising Interrupted

    Raises KeyboardInterrupt where the work was interrupted.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        running = False
    else:
        running = True
    try:
        with fewer_collections():
            if running or threading.current_thread() is not threading.main_thread():
                _on_another_thread(begin, on_interrupt)
            else:
                asyncio.run(_on_this_thread(begin, on_interrupt))
    except (Interrupted, asyncio.CancelledError) as error:
        raise KeyboardInterrupt from error


class _CtrlC:
    """The effect of each Ctrl-C or SIGTERM on the work; used on its loop."""

    def __init__(self, task: asyncio.Task[None], on_interrupt: Callable[[], None]) -> None:
        self._task = task
        self._on_interrupt = on_interrupt
        self._times = 0

    def pressed(self) -> None:
        self._times += 1
        if self._times == 1:
            self._on_interrupt()
        else:
            self._task.cancel()


async def _on_this_thread(begin: Begin, on_interrupt: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    presses = _CtrlC(task, on_interrupt)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        for number in _SIGNALS:
            loop.add_signal_handler(number, presses.pressed)
        by_loop = True
    except NotImplementedError:  # Windows: the loop wakes up for signals but leaves them to Python
        for number in _SIGNALS:
            signal.signal(number, lambda number, frame: loop.call_soon_threadsafe(presses.pressed))
        by_loop = False
    try:
        await begin()
    finally:
        for number, handler in before.items():
            if by_loop:
                loop.remove_signal_handler(number)
            if handler is not None:  # None: the handler was not set from Python
                signal.signal(number, handler)


def _on_another_thread(begin: Begin, on_interrupt: Callable[[], None]) -> None:
    """Run the work on a thread of its own, and forward Ctrl-C to it.

    Python delivers signals to the main thread alone: where this is the main thread, a handler
    forwards them. (A KeyboardInterrupt could be raised between any two lines here, and leave the
    work running with nothing to end it.)
    """
    begun: Future[tuple[asyncio.AbstractEventLoop, _CtrlC]] = Future()

    async def on_thread() -> None:
        task = asyncio.create_task(begin())
        begun.set_result((asyncio.get_running_loop(), _CtrlC(task, on_interrupt)))
        await task

    def forward(begun: Future[tuple[asyncio.AbstractEventLoop, _CtrlC]]) -> None:
        loop, presses = begun.result()
        with suppress(RuntimeError):  # the work and its loop have just ended
            loop.call_soon_threadsafe(presses.pressed)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            before[number] = signal.signal(
                number, lambda number, frame: begun.add_done_callback(forward)
            )
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="annotate") as pool:
            pool.submit(asyncio.run, on_thread()).result()
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
