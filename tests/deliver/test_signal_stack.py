"""A signal still finds its stack when an export was dropped by another thread than the first."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from students import Made

from tutelage.deliver.label_engine import GRAPH

CODE = """
import os, signal, sys, threading, time
from pathlib import Path
from tutelage.deliver.label_engine import LabelEngine

engines = [LabelEngine(Path(sys.argv[1]))]
dropping = threading.Thread(target=engines.clear)
dropping.start()
dropping.join()
assert not engines
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="alternate signal stacks are Linux's")
@pytest.mark.parametrize("options", [[], ["-X", "faulthandler"]], ids=["none", "faulthandler"])
def test_ctrl_c_after_another_thread_has_dropped_an_export(
    made: Callable[[str], Made], options: list[str]
) -> None:
    """Without its stack the process ends with SIGSEGV. With faulthandler the first thread had a
    stack before."""
    folder: Path = made("t5").export.folder
    assert (folder / GRAPH).exists()
    call = [sys.executable, *options, "-c", CODE, str(folder)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
