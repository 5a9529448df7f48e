"""The first Ctrl-C asks the work to end well, the second ends it where it stands."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tutelage.teacher.engine.interrupts import Interrupted, run_interruptible


@pytest.fixture(params=["plain", "in a running loop", "a loop without signals"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Calls `run_interruptible` from ordinary code, from inside an event loop, and where event
    loops take no handlers, as on Windows."""
    if request.param == "a loop without signals":

        def refuse(*_: object) -> None:
            raise NotImplementedError

        for name in ("add_signal_handler", "remove_signal_handler"):
            monkeypatch.setattr(asyncio.SelectorEventLoop, name, refuse)

    def plainly(begin: Any, on_interrupt: Any) -> None:
        run_interruptible(begin, on_interrupt)

    def inside(begin: Any, on_interrupt: Any) -> None:
        async def notebook() -> None:
            run_interruptible(begin, on_interrupt)

        loop = asyncio.new_event_loop()  # leaves SIGINT to Python, as a notebook's does
        try:
            loop.run_until_complete(notebook())
        finally:
            loop.close()

    return inside if request.param == "in a running loop" else plainly


@pytest.fixture(autouse=True)
def same_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


def press_ctrl_c(after_s: float = 0.1) -> None:
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(after_s, signal.pthread_kill, (main, signal.SIGINT)).start()


def test_work_that_ends_is_left_alone(run: Callable[..., None]) -> None:
    done = []

    async def begin() -> None:
        await asyncio.sleep(0.01)
        done.append(True)

    run(begin, done.clear)
    assert done == [True]


def test_an_error_of_the_work_is_the_callers(run: Callable[..., None]) -> None:
    async def begin() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(begin, lambda: None)


def test_the_first_asks_and_the_work_ends_in_its_own_time(run: Callable[..., None]) -> None:
    asked = threading.Event()
    steps: list[str] = []

    async def begin() -> None:
        press_ctrl_c()
        while not asked.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        steps.append("drained")
        raise Interrupted

    with pytest.raises(KeyboardInterrupt):
        run(begin, asked.set)
    assert steps == ["drained"]


def test_a_press_at_the_very_beginning_is_heard(run: Callable[..., None]) -> None:
    asked = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    async def begin() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        while not asked.is_set():
            await asyncio.sleep(0.01)
        raise Interrupted

    with pytest.raises(KeyboardInterrupt):
        run(begin, asked.set)


def test_the_second_ends_it_where_it_stands_and_its_cleaning_up_is_done(
    run: Callable[..., None],
) -> None:
    asked: list[bool] = []
    steps: list[str] = []

    async def begin() -> None:
        press_ctrl_c(0.1)
        press_ctrl_c(0.5)
        try:
            await asyncio.sleep(60)
        finally:
            steps.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        run(begin, lambda: asked.append(True))
    assert asked == [True] and steps == ["cleaned up"]


def test_work_that_is_done_all_the_same_is_done(run: Callable[..., None]) -> None:
    asked = threading.Event()

    async def begin() -> None:
        press_ctrl_c()
        while not asked.is_set():
            await asyncio.sleep(0.01)

    run(begin, asked.set)


def test_another_handler_is_there_again_afterwards() -> None:
    heard: list[int] = []

    def handler(number: int, frame: object) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGINT, handler)
    try:

        async def begin() -> None:
            await asyncio.sleep(0)

        run_interruptible(begin, lambda: None)
        assert signal.getsignal(signal.SIGINT) is handler
        signal.raise_signal(signal.SIGINT)
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_it_works_on_any_thread() -> None:
    done: list[bool] = []

    async def begin() -> None:
        done.append(True)

    thread = threading.Thread(target=run_interruptible, args=(begin, done.clear))
    thread.start()
    thread.join(10)
    assert done == [True]
