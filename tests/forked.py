"""Runs the command line, or the workers of a run, in forks of this process.

A new interpreter would spend most of a test importing torch, which a fork has already. Everything
else is as in a terminal: working directory, environment, output, exit code.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def run_command(
    *arguments: str | Path,
    cwd: Path,
    environment: Mapping[str, str],
    timeout: float = 240,
    given: str = "",
    main: Callable[[], object] | None = None,
) -> subprocess.CompletedProcess[str]:
    """`tutelage ARGUMENTS`, with its exit code and what it wrote.

    given: comes through a pipe to its standard input; at most a pipe holds (64 KiB)
    main: of another command, which finds the arguments in `sys.argv`
    """
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        pipe = os.pipe()
        process = multiprocessing.get_context("fork").Process(
            target=_child, args=(words, cwd, dict(environment), pipe, out, err, main)
        )
        process.start()
        os.close(pipe[0])
        with open(pipe[1], "w", encoding="utf-8") as standard_input:  # noqa: PTH123
            standard_input.write(given)
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"tutelage {' '.join(words)}: no end after {timeout} s")
        assert process.exitcode is not None
        texts = [path.read_text(encoding="utf-8") for path in (out, err)]
    return subprocess.CompletedProcess(words, process.exitcode, *texts)


def start_method(torch: bool = True) -> Any:
    """In the place of `worker.start_method`: a run's workers are forks of this process too, for
    tests that are not about how they start."""
    return multiprocessing.get_context("fork")


def _child(
    words: list[str],
    cwd: Path,
    environment: dict[str, str],
    pipe: tuple[int, int],
    out: Path,
    err: Path,
    other: Callable[[], object] | None,
) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(pipe[0], 0)
    os.close(pipe[1])  # whoever reads to the end would wait for this process itself
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = ["tutelage", *words]
    from tutelage.cli.main import main

    # multiprocessing takes an exit code from SystemExit, and prints any other error.
    (other or main)()
