"""Runs the command line in a fork of this process.

A new interpreter would spend most of a test importing torch, which a fork has already. Everything
else is as in a terminal: working directory, environment, output, exit code.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path


def run_command(
    *arguments: str | Path, cwd: Path, environment: Mapping[str, str], timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """`tutelage ARGUMENTS`, with its exit code and what it wrote."""
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = multiprocessing.get_context("fork").Process(
            target=_child, args=(words, cwd, dict(environment), out, err)
        )
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"tutelage {' '.join(words)}: no end after {timeout} s")
        assert process.exitcode is not None
        texts = [path.read_text(encoding="utf-8") for path in (out, err)]
    return subprocess.CompletedProcess(words, process.exitcode, *texts)


def _child(words: list[str], cwd: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((0, Path(os.devnull)), (1, out), (2, err)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(path, flags), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = ["tutelage", *words]
    from tutelage.cli.main import main

    main()  # multiprocessing takes an exit code from SystemExit, and prints any other error
