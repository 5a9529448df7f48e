"""Has the process keep the memory of freed tensors, so that the next step can use it again."""

from __future__ import annotations

import ctypes

KEPT_BELOW = 32 << 20
"""Size in bytes from which the memory of a freed tensor goes back to the kernel."""

_MALLOC_OPTIONS = {-3: KEPT_BELOW, -1: 2**31 - 1, -2: 64 << 20, -8: 1}
"""M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD of <malloc.h>, in bytes, and M_ARENA_MAX. One
arena, because a thread's own arena returns freed memory whatever the other options say."""


def keep_freed_memory() -> None:
    """Have glibc keep the memory of freed tensors. Does nothing with another C library.

    By default each large tensor is a mapping of its own that is unmapped when the tensor is freed,
    so that every step waits for the kernel to clear the same pages again. With two processes that
    took half of the time (docs/performance.md). Tensors over 32 MiB stay mappings: if they were
    kept, they would leave holes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return
    for option, value in _MALLOC_OPTIONS.items():
        mallopt(option, value)
