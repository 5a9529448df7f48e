"""SIGTERM ends a command as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from forked import run_command
from tutelage.core.interruption import sigterm_as_ctrl_c


def _terminated(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)


def _main() -> None:
    from tutelage import api
    from tutelage.cli.main import main

    api.plan = _terminated  # type: ignore[assignment]
    main()


def test_a_command_is_interrupted(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = run_command("plan", "quickstart", cwd=tmp_path, environment=os.environ, main=_main)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr and time.monotonic() - begun < 15


def test_what_was_set_before_is_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setenv("WORLD_SIZE", "2")
    with sigterm_as_ctrl_c():
        assert signal.getsignal(signal.SIGTERM) is before
