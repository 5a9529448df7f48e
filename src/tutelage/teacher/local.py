"""`gguf:PATH` and `package:PACKAGE/FILE`: a model file in this process, through `xllamacpp`.

That is llama.cpp's own server with continuous batching: several questions share one pass of the
model. It splits its context over its slots, so the context asked of it is a slot's times their
number.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from tutelage.errors import MissingExtraError, TeacherError
from tutelage.modelfiles import find_file, find_in_package
from tutelage.records import Completion, Request
from tutelage.teacher.base import TeacherSettings
from tutelage.teacher.faults import Fault, judge
from tutelage.teacher.wire import encode, read_answer, read_error

SLOTS = 8
"""Questions that the model works on at once, at most."""

CONTEXT = 2048
"""Tokens of prompt and answer together that a slot holds."""


@lru_cache(maxsize=8)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LocalTeacher:
    """A model file, answering in this process. The file is loaded when the teacher is opened.

    `identity` is the file's SHA-256, so one file under two names is one teacher.
    """

    model = "gguf"
    paid = True  # in time

    def __init__(self, path: Path, settings: TeacherSettings) -> None:
        self.settings = settings
        self._path = path
        self._slots = min(SLOTS, settings.concurrency)
        self._server: Any = None
        self._pool: ThreadPoolExecutor | None = None

    @property
    def identity(self) -> str:
        """`gguf-sha256:` and the file's digest."""
        stat = self._path.stat()
        return f"gguf-sha256:{_sha256(self._path.resolve(), stat.st_size, stat.st_mtime_ns)}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(self._slots, thread_name_prefix="local-teacher")
        self._server = await loop.run_in_executor(self._pool, _load, self._path, self._slots)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            # The model must not go while a thread is inside it; what has not begun is dropped.
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._server = None

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises Fault, for one where a prompt does not fit a slot's context."""
        if self._server is None:
            raise RuntimeError("a teacher is opened with `async with` before it is asked")
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(
            self._pool, self._server.handle_chat_completions, encode(request)
        )
        if "error" in answer:
            status, code, message = read_error(200, answer, "")
            raise Fault(judge(status, code, message), message, unpaid=True)
        return read_answer(answer)

    async def explain(self, fault: Fault) -> TeacherError:
        """Why no question will be answered any more."""
        return TeacherError(f"{self._path.name} cannot be asked any more ({fault})")


def _load(path: Path, slots: int) -> Any:
    """llama.cpp's server over a file, listening on a free port of loopback."""
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingExtraError("xllamacpp", "local", "a model file as teacher") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {path.stem}  # its name would be a path on this machine
    params.n_parallel = slots
    params.n_ctx = slots * CONTEXT
    params.cpuparams.n_threads = _free_cores()
    params.cpuparams_batch.n_threads = params.cpuparams.n_threads
    params.n_threads_http = slots + 2
    params.verbosity = -1
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise TeacherError(f"{path}: the model cannot be loaded ({error})") from error


def _free_cores() -> int:
    # The model's threads wait for each other at every layer: one that must share its core holds up
    # the rest, and two threads on two busy cores answered at a third of one thread's rate.
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, (os.cpu_count() or 1) - round(load))


@contextmanager
def serve_local(model: str | Path, *, slots: int = 4) -> Iterator[str]:
    """Serve a model file over HTTP on a free port of loopback, for as long as the block lasts.

    model: `gguf:PATH`, `package:PACKAGE/FILE`, or a path. Yields the `base_url` for an `openai:`
    teacher. Raises UsageError, MissingExtraError or TeacherError.
    """
    scheme, _, name = str(model).partition(":")
    finders: dict[str, Callable[[str], Path]] = {"gguf": find_file, "package": find_in_package}
    path = finders[scheme](name) if scheme in finders and name else find_file(str(model))
    server = _load(path, slots)
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server  # its destructor stops it
