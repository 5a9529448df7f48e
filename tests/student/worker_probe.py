"""What a worker of the pool can see. Free of torch, as a worker is before its first job."""

from __future__ import annotations

import os
import sys
import time


def see(seconds: float) -> tuple[int, str | None, bool]:
    """Which worker this is, the GPUs that it was given, and whether torch was there first."""
    time.sleep(seconds)  # long enough for the other workers to get their share
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), "torch" in sys.modules
