"""Running a coroutine to its end from ordinary code, and what Ctrl-C does meanwhile.

The first Ctrl-C asks the work to end well, the second ends it where it stands.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
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


async def _on_this_thread(begin: Begin, on_interrupt: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    times = 0

    def handle() -> None:
        nonlocal times
        times += 1
        if times == 1:
            on_interrupt()
        else:
            task.cancel()

    before = signal.getsignal(signal.SIGINT)
    try:
        loop.add_signal_handler(signal.SIGINT, handle)
        by_loop = True
    except NotImplementedError:  # Windows: its loop wakes up for signals, and leaves them to Python
        signal.signal(signal.SIGINT, lambda number, frame: loop.call_soon_threadsafe(handle))
        by_loop = False
    try:
        await begin()
    finally:
        if by_loop:
            loop.remove_signal_handler(signal.SIGINT)
        if before is not None:  # None: it was not Python that set it
            signal.signal(signal.SIGINT, before)


def _on_another_thread(begin: Begin, on_interrupt: Callable[[], None]) -> None:
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def on_thread() -> None:
        task = asyncio.create_task(begin())
        begun.set_result((asyncio.get_running_loop(), task))
        await task

    with ThreadPoolExecutor(1, thread_name_prefix="annotate") as pool:
        outcome = pool.submit(asyncio.run, on_thread())
        loop, task = begun.result()
        try:
            outcome.result()
        except KeyboardInterrupt:  # it reaches this thread; the work is on the other
            loop.call_soon_threadsafe(on_interrupt)
            try:
                outcome.result()
            except KeyboardInterrupt:
                loop.call_soon_threadsafe(task.cancel)
                raise
