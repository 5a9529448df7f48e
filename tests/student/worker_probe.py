"""Reports what a worker of the pool sees. Free of torch, as a worker before its first job."""

from __future__ import annotations

import os
import sys
import time


def see(seconds: float) -> tuple[int, str | None, bool]:
    """The worker's process id, its GPUs, and whether torch is imported already."""
    time.sleep(seconds)  # long enough for the other worker to take a call
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), "torch" in sys.modules
