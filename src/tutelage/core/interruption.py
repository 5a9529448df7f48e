"""SIGTERM, which schedulers and `docker stop` send before they kill, taken as Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM raises KeyboardInterrupt, as Ctrl-C does.

    Only in the main thread, and not in one of several processes of a launcher: these may wait for
    each other where no exception is raised, and their launcher ends them all.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or os.environ.get("WORLD_SIZE", "1") != "1"
    ):
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
