"""A pool's workers: what they have of their parent, and that they end when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tutelage.core.interruption import sigterm_as_ctrl_c
from tutelage.student.jobs.jobs import Runner

PARENT = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from tutelage.student.jobs import worker

if __name__ == "__main__":
    worker._PRELOADED = "json"  # in place of torch, which takes seconds to import
    context = worker.start_method()
    arguments = (context.Queue(), context.Value("i", 0), (), dict(os.environ))
    with ProcessPoolExecutor(1, context, initializer=worker.start, initargs=arguments) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 60).result()
"""

STARTING = """
import sys
from tutelage.student.jobs import worker

class Fails:
    def __reduce__(self):
        return (open, ("gone",)) if sys.argv[1] == "gone" else (int, ("no number",))

if __name__ == "__main__":
    worker._PRELOADED = "json"
    process = worker.start_method().Process(target=print, args=(Fails(),))
    process.start()
    process.join()
    print(process.exitcode)
"""


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    try:
        assert _runs(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 20
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _runs(pid)
    finally:
        if _runs(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("what", ["gone", "wrong"])
def test_a_worker_that_starts_while_its_parent_ends_says_nothing(what: str, tmp_path: Path) -> None:
    """It does not find what its parent had. Any other error at the start is shown."""
    script = tmp_path / "parent.py"
    script.write_text(STARTING, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), what], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    assert ("ValueError" in done.stderr) == (what == "wrong")
    assert ("Traceback" in done.stderr) == (what == "wrong")


def test_a_worker_has_the_environment_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is when the pool starts: the process that workers are forked from may be older."""
    for value in ("one", "two", None):
        if value is None:
            monkeypatch.delenv("TUTELAGE_TEST_VARIABLE")
        else:
            monkeypatch.setenv("TUTELAGE_TEST_VARIABLE", value)
        with Runner(1) as runner:
            assert runner.on_each_worker(os.getenv, "TUTELAGE_TEST_VARIABLE") == [value]


def test_a_worker_ends_at_once_whatever_its_parent_does_at_sigterm() -> None:
    with sigterm_as_ctrl_c(), Runner(1) as runner:
        assert runner.on_each_worker(signal.getsignal, signal.SIGTERM) == [signal.SIG_DFL]
