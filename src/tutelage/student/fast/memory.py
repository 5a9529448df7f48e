"""Keeping freed memory: what a training frees in one step is there for the next."""

from __future__ import annotations

import ctypes

KEPT_BELOW = 32 << 20
"""Bytes of a tensor from which on its memory goes back to the kernel when it is freed."""

_MALLOC = {-3: KEPT_BELOW, -1: 2**31 - 1, -2: 64 << 20, -8: 1}
"""M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD of <malloc.h>, in bytes, and M_ARENA_MAX: a
thread's own arena gives back what is freed, whatever the other options say."""


def keep_freed_memory() -> None:
    """Tell glibc to keep the memory of freed tensors for the next step.

    By default each large tensor is a mapping of its own, given back when freed: every step then
    waits for the kernel to clear the same pages again. With two processes that took half of the
    time (docs/performance.md). Tensors over 32 MiB stay mappings: kept, they leave holes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return
    for option, value in _MALLOC.items():
        mallopt(option, value)
