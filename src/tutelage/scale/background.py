"""The results of Ray Data, taken on a thread, so that this one can do something else meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any


class Background:
    """Takes all results of a job. error: what ended it early; None where nothing did"""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._ends = threading.Event()
        # Not the thread itself: a `join` that Ctrl-C interrupts takes it for ended.
        self._done = threading.Event()
        self._done.set()

    def begin(self, results: Callable[[], Iterable[Any]]) -> None:
        """Begin. results: one for each block"""
        self._done.clear()
        threading.Thread(target=self._run, args=(results,), daemon=True).start()

    def _run(self, results: Callable[[], Iterable[Any]]) -> None:
        try:
            for _ in results():
                if self._ends.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  raised by whoever waits
            self.error = error
        finally:
            self._done.set()

    @property
    def is_alive(self) -> bool:
        """Whether results are still to come."""
        return not self._done.is_set()

    def wait(self) -> None:
        """Wait for all results. Ctrl-C is noticed meanwhile. Raises what ended the job early."""
        while not self._done.wait(0.2):
            pass
        if self.error is not None:
            raise self.error

    def end(self) -> None:
        """End after the next result at the latest."""
        self._ends.set()
        self._done.wait(30)
