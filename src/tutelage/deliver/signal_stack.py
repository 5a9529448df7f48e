"""Keeps this thread's alternate signal stack while OpenVINO begins.

OpenVINO's CPU plugin (2026.4) gives the thread that creates it a signal stack of its own, and frees
that when the plugin is dropped, also where another thread drops it. The first thread then handles
its next signal, such as Ctrl-C, on memory that is gone: the process ends with SIGSEGV.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """`stack_t` of Linux: sigaltstack(2)."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Gives the calling thread its alternate signal stack back at the end. Only Linux needs it.

    Where the system refuses that, because a processor's registers need more room than the old stack
    has, the new one stays.
    """
    if sys.platform != "linux":
        yield
        return
    before = _Stack()
    sigaltstack = ctypes.CDLL(None).sigaltstack
    known = sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            sigaltstack(ctypes.byref(before), None)
