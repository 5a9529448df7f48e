"""Debian's Chromium, through playwright, for the tests that look at a page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install it")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: `apt-get install -y chromium` brings it"
)


@contextmanager
def launched() -> Iterator[Any]:
    """The browser, until the end of the block. It calls nobody of its own accord."""
    flags = ["--headless", "--no-sandbox"]
    flags += ["--disable-background-networking", "--disable-component-update"]
    flags += ["--disable-gpu"]  # emulating one takes more time than drawing the pages without
    kept = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    if kept is not None:
        # The browser's own processes use all cores, even where the tests keep to one.
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        if kept is not None:
            os.sched_setaffinity(0, kept)
        yield browser
        browser.close()
