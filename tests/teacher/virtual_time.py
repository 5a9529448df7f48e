"""An event loop whose clock jumps to the next event: hours of waiting in milliseconds."""

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
    """Advances the clock instead of waiting; no file is ever ready."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("every task waits, and no event is scheduled")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run_virtually(work: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """The result of the work, and its duration on the virtual clock (the limiter's, too)."""
    loop = VirtualLoop()
    begun = loop.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limits, "time", SimpleNamespace(monotonic=loop.time))
        try:
            result = loop.run_until_complete(work)
            return result, loop.time() - begun
        finally:
            loop.close()
