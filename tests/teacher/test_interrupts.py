"""The first Ctrl-C asks the work to end in good order, the second one cancels it."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tutelage.teacher.engine.interrupts import Interrupted, run_interruptible


@pytest.fixture(params=["plain", "in a running loop", "a loop without signals"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`run_interruptible` from synchronous code, inside a running event loop, and where event loops
    support no signal handlers, as on Windows."""
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

        loop = asyncio.new_event_loop()  # leaves SIGINT to Python, like a notebook's loop
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


def test_work_that_ends_is_not_interrupted(run: Callable[..., None]) -> None:
    done = []

    async def begin() -> None:
        await asyncio.sleep(0.01)
        done.append(True)

    run(begin, done.clear)
    assert done == [True]


def test_an_error_of_the_work_is_raised(run: Callable[..., None]) -> None:
    async def begin() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(begin, lambda: None)


def test_the_first_interrupt_lets_the_work_end_in_good_order(run: Callable[..., None]) -> None:
    interrupted = threading.Event()
    steps: list[str] = []

    async def begin() -> None:
        press_ctrl_c()
        while not interrupted.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        steps.append("drained")
        raise Interrupted

    with pytest.raises(KeyboardInterrupt):
        run(begin, interrupted.set)
    assert steps == ["drained"]


def test_an_interrupt_at_the_very_beginning_is_noticed(run: Callable[..., None]) -> None:
    interrupted = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    async def begin() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        while not interrupted.is_set():
            await asyncio.sleep(0.01)
        raise Interrupted

    with pytest.raises(KeyboardInterrupt):
        run(begin, interrupted.set)


def test_the_second_interrupt_cancels_the_work_which_still_cleans_up(
    run: Callable[..., None],
) -> None:
    interrupted: list[bool] = []
    steps: list[str] = []

    async def begin() -> None:
        press_ctrl_c(0.1)
        press_ctrl_c(0.5)
        try:
            await asyncio.sleep(60)
        finally:
            steps.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        run(begin, lambda: interrupted.append(True))
    assert interrupted == [True] and steps == ["cleaned up"]


def test_work_that_completes_after_an_interrupt_counts_as_done(run: Callable[..., None]) -> None:
    interrupted = threading.Event()

    async def begin() -> None:
        press_ctrl_c()
        while not interrupted.is_set():
            await asyncio.sleep(0.01)

    run(begin, interrupted.set)


def test_an_earlier_handler_is_restored() -> None:
    received: list[int] = []

    def handler(number: int, frame: object) -> None:
        received.append(number)

    before = signal.signal(signal.SIGINT, handler)
    try:

        async def begin() -> None:
            await asyncio.sleep(0)

        run_interruptible(begin, lambda: None)
        assert signal.getsignal(signal.SIGINT) is handler
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT]
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


@pytest.mark.parametrize(("before", "inside"), [(700, 20_000), (50_000, 50_000), (0, 0)])
def test_the_collector_runs_rarely_and_then_as_before(
    run: Callable[..., None], before: int, inside: int
) -> None:
    first, *others = gc.get_threshold()
    seen = []

    async def fail() -> None:
        seen.append(gc.get_threshold())
        raise ValueError("a fault")

    gc.set_threshold(before, *others)
    try:
        with pytest.raises(ValueError, match="a fault"):
            run(fail, lambda: None)
        assert seen == [(inside, *others)]
        assert gc.get_threshold() == (before, *others)
    finally:
        gc.set_threshold(first, *others)
