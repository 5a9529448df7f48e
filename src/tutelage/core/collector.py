"""When Python looks for cycles of objects that nothing else refers to.

It looks again and again while many objects are made, and each time goes over objects that have
none; once the heavy packages are imported, those alone are a million.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_ALLOCATIONS = 20_000
"""New objects, less freed ones, after which the collector looks for cycles; Python's default is
700 to 2,000. Nearly all objects are freed without it."""


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Inside, the collector of cyclic garbage runs more rarely: it took a tenth to a fifth of the
    time of what asks or predicts."""
    first, *others = gc.get_threshold()
    gc.set_threshold(max(first, _ALLOCATIONS) if first else 0, *others)  # 0: it is off
    try:
        yield
    finally:
        gc.set_threshold(first, *others)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Inside, the collector does not run: for what makes millions of objects without cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
