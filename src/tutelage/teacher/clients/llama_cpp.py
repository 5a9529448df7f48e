"""`gguf:PATH` and `package:PACKAGE/FILE`: a model file in this process, through `xllamacpp`.

That is llama.cpp's own server with continuous batching: several questions share one pass of the
model. It gives each of them a slot, and every slot the same context: tokens of prompt and answer
together. Memory grows with it, so it begins at what most rows need and grows, by loading the model
again, when a row needs more: up to what the model was trained for.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import MissingExtraError, TeacherError
from tutelage.core.model_files import find_file, find_in_package
from tutelage.core.types import Completion, Request
from tutelage.teacher.clients.wire import encode, read_answer, read_error
from tutelage.teacher.cost.prices import output_bound
from tutelage.teacher.engine.failures import Fault, Verdict, judge

T = TypeVar("T")

SLOTS = 8
"""Questions that the model works on at once, at most."""

ANSWER = 1024
"""Tokens of an answer at most where no `max_tokens` is set: a small model may never end."""

_PROMPT = 512
"""Tokens of a prompt that there is room for from the beginning."""

_TOTAL = 16_384
"""Tokens that all slots hold together at most; where one needs more there is one slot."""

_BYTES_PER_TOKEN = 3
_TEMPLATE = 64
"""What a prompt is taken for before the model has read it: text, and the template around it."""

_STEP = 256  # llama.cpp rounds a context up to a multiple of this
_LOOK_S = 0.2


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
        self._threads = 0
        self._server: Any = None
        self._context = self._trained = 0  # tokens of a slot; and at most, for it learnt no more
        self._pool: ThreadPoolExecutor | None = None
        self._stop = threading.Event()
        self._inside = 0
        self._empty = asyncio.Event()  # nobody is inside
        self._door = asyncio.Lock()

    @property
    def identity(self) -> str:
        """`gguf-sha256:` and the file's digest."""
        stat = self._path.stat()
        return f"gguf-sha256:{_sha256(self._path.resolve(), stat.st_size, stat.st_mtime_ns)}"

    async def __aenter__(self) -> Self:
        self._stop = threading.Event()
        self._inside, self._empty, self._door = 0, asyncio.Event(), asyncio.Lock()
        self._empty.set()
        self._pool = ThreadPoolExecutor(self._slots, thread_name_prefix="local-teacher")
        self._threads = await self._on_thread(_idle_cores)
        await self._load(_PROMPT + (self.settings.max_tokens or ANSWER))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            # The model must not go while a thread is inside it: those there end at the next token.
            self._stop.set()
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._server = None

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises Fault for a row that the model has no room for, and for what the
        model itself refuses."""
        limit = output_bound(request, unset=ANSWER)
        body = {
            **encode(request),
            "max_tokens": limit,
            "stream": True,  # so that it can be stopped
            "stream_options": {"include_usage": True},
        }
        need = _guess(request) + limit
        if need > self._context:  # nothing is loaded anew on a guess
            need = self._room(await self._inside_of(0, _count, body), limit)
        while True:
            answer = await self._inside_of(need, _ask, body, self._stop)
            prompt = _overflow(answer, self._context, limit)
            if prompt is None:
                break
            if self._context >= self._trained:
                raise self._too_long(prompt, limit)
            need = max(self._room(prompt, limit), self._context + 1)
        if "error" in answer:
            status, code, message = read_error(200, answer, "")
            raise Fault(judge(status, code, message), message, unpaid=True)
        return read_answer(answer)

    async def explain(self, fault: Fault) -> TeacherError:
        """Why no question will be answered any more."""
        return TeacherError(f"{self._path.name} cannot be asked any more ({fault})")

    def _room(self, prompt: int, limit: int) -> int:
        """Tokens of context for a row. Where an answer of `limit` would be too long it is tried all
        the same: most end earlier. Raises Fault where the prompt alone is too long."""
        if prompt >= self._trained:
            raise self._too_long(prompt, limit)
        return min(prompt + limit, self._trained)

    def _too_long(self, prompt: int, limit: int) -> Fault:
        return Fault(
            Verdict.ROW,
            f"a prompt of {prompt:,} tokens and an answer of up to {limit:,} are more than the "
            f"context of {self._trained:,} that the model was made for: shorten the row, lower "
            "max_tokens, or take another model",
            unpaid=True,
        )

    async def _inside_of(self, need: int, work: Callable[..., T], *values: Any) -> T:
        """Some work with the server, once its slots have `need` tokens of context.

        Whoever needs more waits at the door, and the others behind, until those inside are home.
        """
        async with self._door:
            if self._server is None:
                raise RuntimeError("a teacher is opened with `async with` before it is asked")
            if need > self._context:
                await self._empty.wait()
                self._server = None  # gone before the next one takes its room
                await self._load(min(max(need, 2 * self._context), self._trained))
            self._inside += 1
            self._empty.clear()
        try:
            return await self._on_thread(self._with_server, work, *values)
        finally:
            self._inside -= 1
            if self._inside == 0:
                self._empty.set()

    async def _load(self, context: int) -> None:
        context = -(-context // _STEP) * _STEP
        slots = max(1, min(self._slots, _TOTAL // context))
        await self._on_thread(self._open, slots, context)
        self._context, self._trained = await self._on_thread(self._with_server, _contexts, context)

    # The server is neither handed to a thread nor returned by one: a thread lets go of what it was
    # given and gave back only some time after others have seen that it is done, and until then the
    # model would stay in memory beside the next one.

    def _open(self, slots: int, context: int) -> None:
        self._server = _load(self._path, slots, context, self._threads)

    def _with_server(self, work: Callable[..., T], *values: Any) -> T:
        return work(self._server, *values)

    def _on_thread(self, work: Callable[..., T], *values: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work, *values)


def _guess(request: Request) -> int:
    """Tokens of a prompt, before the model has counted them."""
    size = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
    return size // _BYTES_PER_TOKEN + _TEMPLATE


def _ask(server: Any, body: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
    """The answer in one piece, as the API has it; what there is of it where `stop` was set."""
    texts: list[str] = []
    choice: dict[str, Any] = {"finish_reason": None}
    answer: dict[str, Any] = {"choices": [choice]}

    def take(chunk: dict[str, Any]) -> bool:
        if "error" in chunk:
            answer["error"] = chunk["error"]
        for part in chunk.get("choices") or ():
            texts.append(part.get("delta", {}).get("content") or "")
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
        if chunk.get("usage"):
            answer["usage"] = chunk["usage"]
        return stop.is_set()  # True: no more

    server.handle_chat_completions(body, take)
    choice["message"] = {"content": "".join(texts)}
    return answer


def _overflow(answer: dict[str, Any], context: int, limit: int) -> int | None:
    """The prompt's tokens where the context was too small; None where it was not.

    That is a prompt which alone does not fit, or an answer that ended for want of room before it
    had all the tokens that it may have.
    """
    error = answer.get("error")
    if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
        return int(error.get("n_prompt_tokens") or context)
    usage = answer.get("usage") or {}
    written = int(usage.get("completion_tokens") or 0)
    prompt = int(usage.get("prompt_tokens") or 0)
    cut = answer["choices"][0]["finish_reason"] == "length" and written < limit
    return prompt if cut and prompt + written >= context else None


def _load(path: Path, slots: int, context: int, threads: int) -> Any:
    """llama.cpp's server over a file, listening on a free port of loopback.

    context: tokens of each slot
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingExtraError("xllamacpp", "local", "a model file as teacher") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {path.stem}  # its name would be a path on this machine
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.cache_ram_mib = 0  # prompts are asked once: keeping them would be copying for nothing
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_threads_http = slots + 2
    params.verbosity = -1
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise TeacherError(
            f"{path}: the model cannot be loaded ({error}): check the file, and that there is "
            f"memory for it and a context of {slots} x {context:,} tokens"
        ) from error


def _contexts(server: Any, asked: int) -> tuple[int, int]:
    """Tokens of context that each slot has, and that the model was trained for."""
    status, found = _call(server, "/v1/models")
    try:
        meta = found["data"][0]["meta"]
        trained = int(meta["n_ctx_train"])
        return min(int(meta.get("n_ctx", asked)), trained), trained
    except (LookupError, TypeError, ValueError) as error:
        raise TeacherError(
            f"xllamacpp says nothing of its model's context (HTTP {status}, {error!r}): install "
            "the version that constraints.txt names"
        ) from error


def _count(server: Any, body: dict[str, Any]) -> int:
    """Tokens of a prompt, with the model's template around it; 0 for one that the template does
    not take, which asking it will tell."""
    status, answer = _call(server, "/apply-template", {"messages": body["messages"]})
    if status != 200:
        return 0
    asked = {"content": answer["prompt"], "add_special": True, "parse_special": True}
    return len(_call(server, "/tokenize", asked)[1]["tokens"])


def _call(server: Any, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """What the server tells over HTTP alone: status and JSON. Raises TeacherError."""
    address = urlsplit(server.listening_address)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(body).encode(), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TeacherError(f"xllamacpp: {path}: {error!r}") from error
    finally:
        connection.close()


def _idle_cores() -> int:
    """Cores that this process may use and that nobody keeps busy; all where that is not told.

    The model's threads wait for each other at every layer: one that must share its core holds up
    the rest, and two threads on two busy cores answered at a third of one thread's rate.
    """
    # As of now, and not on the average of a minute: there, a run before this one still counts.
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    before = _core_times()
    if mine is None or before is None:
        return os.cpu_count() or 1
    time.sleep(_LOOK_S)
    after = _core_times() or before
    idle = 0.0
    for core in mine & before.keys() & after.keys():
        total = after[core][1] - before[core][1]
        idle += (after[core][0] - before[core][0]) / total if total else 1.0
    return max(1, round(idle))


def _core_times() -> dict[int, tuple[int, int]] | None:
    """Ticks that each core was idle, and all ticks, as Linux counts them."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    times = {}
    for name, *ticks in (line.split() for line in lines):
        if name[:3] == "cpu" and name[3:].isdigit():
            counts = [int(tick) for tick in ticks[:8]]
            times[int(name[3:])] = (sum(counts[3:5]), sum(counts))
    return times


@contextmanager
def serve_local(model: str | Path, *, slots: int = 4, context: int = 2048) -> Iterator[str]:
    """Serve a model file over HTTP on a free port of loopback, for as long as the block lasts.

    model:   `gguf:PATH`, `package:PACKAGE/FILE`, or a path
    context: tokens of prompt and answer together that each of the slots holds

    Yields the `base_url` for an `openai:` teacher. Raises UsageError, MissingExtraError or
    TeacherError.
    """
    scheme, _, name = str(model).partition(":")
    finders: dict[str, Callable[[str], Path]] = {"gguf": find_file, "package": find_in_package}
    path = finders[scheme](name) if scheme in finders and name else find_file(str(model))
    server = _load(path, slots, context, _idle_cores())
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server  # its destructor stops it
