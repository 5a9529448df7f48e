"""Running a coroutine to its end from ordinary code, and what Ctrl-C does meanwhile.

The first Ctrl-C asks the work to end well, the second ends it where it stands.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

Begin = Callable[[], Coroutine[Any, Any, None]]


class InterruptedWork(Exception):
    """The work was asked to end, and did; `run_to_end` raises KeyboardInterrupt for it."""


def run_to_end(begin: Begin, on_interrupt: Callable[[], None]) -> None:
    """Run `begin()` on an event loop, on a thread of its own where this one's is running already.

    on_interrupt: called on the loop at the first Ctrl-C; the work should end soon with
                  InterruptedWork
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        running = False
    else:
        running = True
    try:
        if running or threading.current_thread() is not threading.main_thread():
            _on_another_thread(begin, on_interrupt)
        else:
            asyncio.run(_on_this_thread(begin, on_interrupt))
    except (InterruptedWork, asyncio.CancelledError) as error:
        raise KeyboardInterrupt from error


class _Presses:
    """What each Ctrl-C does to the work; called on its loop."""

    def __init__(self, task: asyncio.Task[None], on_interrupt: Callable[[], None]) -> None:
        self._task = task
        self._on_interrupt = on_interrupt
        self._times = 0

    def one_more(self) -> None:
        self._times += 1
        if self._times == 1:
            self._on_interrupt()
        else:
            self._task.cancel()


async def _on_this_thread(begin: Begin, on_interrupt: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    presses = _Presses(task, on_interrupt)
    before = signal.getsignal(signal.SIGINT)
    try:
        loop.add_signal_handler(signal.SIGINT, presses.one_more)
        by_loop = True
    except NotImplementedError:  # Windows: its loop wakes up for signals, and leaves them to Python
        signal.signal(
            signal.SIGINT, lambda number, frame: loop.call_soon_threadsafe(presses.one_more)
        )
        by_loop = False
    try:
        await begin()
    finally:
        if by_loop:
            loop.remove_signal_handler(signal.SIGINT)
        if before is not None:  # None: it was not Python that set it
            signal.signal(signal.SIGINT, before)


def _on_another_thread(begin: Begin, on_interrupt: Callable[[], None]) -> None:
    """Python hands signals to the main thread alone: where this is it, a handler passes them on.
    (A KeyboardInterrupt raised here could come between any two lines, and leave the work running
    with nobody to ask it to end.)"""
    begun: Future[tuple[asyncio.AbstractEventLoop, _Presses]] = Future()

    async def on_thread() -> None:
        task = asyncio.create_task(begin())
        begun.set_result((asyncio.get_running_loop(), _Presses(task, on_interrupt)))
        await task

    def pass_on(begun: Future[tuple[asyncio.AbstractEventLoop, _Presses]]) -> None:
        loop, presses = begun.result()
        with suppress(RuntimeError):  # the work has just ended, and its loop with it
            loop.call_soon_threadsafe(presses.one_more)

    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(
            signal.SIGINT, lambda number, frame: begun.add_done_callback(pass_on)
        )
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="annotate") as pool:
            pool.submit(asyncio.run, on_thread()).result()
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
