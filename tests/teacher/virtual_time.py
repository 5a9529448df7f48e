"""An event loop whose clock jumps to whatever comes next: hours of waiting in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from tutelage.teacher.engine import rate_limits

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Nobody writes to it: instead of waiting it moves the clock."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run_virtually(work: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """What the work returns, and how long it took by a clock that the limiter reads too."""
    loop = VirtualLoop()
    begun = loop.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limits, "time", SimpleNamespace(monotonic=loop.time))
        try:
            outcome = loop.run_until_complete(work)
            return outcome, loop.time() - begun
        finally:
            loop.close()
