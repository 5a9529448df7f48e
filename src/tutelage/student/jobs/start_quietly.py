"""Makes the process that imports it, and workers that are forked from it, end without a word when
the run is stopped while they start.

For the process that workers are forked from, which imports it before anything else. Ctrl-C reaches
all processes of a terminal, and the parent decides: a worker ignores it from its first moment. A
worker that starts while its parent ends finds the parent's files and semaphores gone.
"""

from __future__ import annotations

import signal
import sys
from types import TracebackType


def _unless_the_parent_ends(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Show an error, but none that says that what the parent had is gone.

    Where the parent is still there, it reports the lost worker itself.
    """
    if not issubclass(kind, FileNotFoundError | ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.excepthook = _unless_the_parent_ends
