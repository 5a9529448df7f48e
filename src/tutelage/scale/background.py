"""The results of Ray Data, taken on a thread, so that this one can do something else meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class Background:
    """Takes all results of a job. error: what ended it early; None where nothing did"""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, results: Callable[[], Iterable[Any]]) -> None:
        """Begin. results: one for each block"""
        self._thread = threading.Thread(target=self._run, args=(results,), daemon=True)
        self._thread.start()

    def _run(self, results: Callable[[], Iterable[Any]]) -> None:
        try:
            for _ in results():
                if self._ends.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  raised by whoever waits
            self.error = error

    @property
    def is_alive(self) -> bool:
        """Whether results are still to come."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Wait for all results. Ctrl-C is noticed meanwhile. Raises what ended the job early."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.2)
        if self.error is not None:
            raise self.error

    def end(self) -> None:
        """End after the next result at the latest."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join(30)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM, which schedulers send before they kill, acts as Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
