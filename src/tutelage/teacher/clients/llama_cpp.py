"""`gguf:PATH` and `package:PACKAGE/FILE`: a model file in this process, through `xllamacpp`.

That is llama.cpp's own server with continuous batching: several requests share each evaluation of
the model. Each of them has a slot, and all slots have the same context, which holds prompt and
answer together. Memory grows with the context. So the context starts at what most rows need; when a
row needs more, the model is loaded again with a larger one, up to what the model was trained for.
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
from tutelage.core.llama_cpp_server import start_server
from tutelage.core.model_files import find_file, find_in_package, has_chat_template, has_metadata
from tutelage.core.types import Completion, Request
from tutelage.teacher.clients.error_replies import parse_error, ruling_of
from tutelage.teacher.clients.wire import parse_completion, request_body
from tutelage.teacher.cost.prices import output_bound
from tutelage.teacher.engine.failures import Action, Fault

T = TypeVar("T")

SLOTS = 16
"""Requests that the model processes at the same time, at most."""

ANSWER = 1024
"""Tokens of an answer at most where `max_tokens` is not set: a small model may never stop."""

_PROMPT = 512
"""Tokens of a prompt that the first context has room for."""

_TOTAL = 16_384
"""Tokens in all slots together, at most; where one slot needs more, there is only one."""

_BYTES_PER_TOKEN = 3
_TEMPLATE = 64
"""The assumed length of a prompt before the model has counted it: its text, and the template."""

_STEP = 256  # llama.cpp rounds a context up to a multiple of this
_LOOK_S = 0.3


@lru_cache(maxsize=8)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LocalTeacher:
    """A model file that answers in this process. The file is loaded when the teacher is opened.

    `identity` is the file's SHA-256, so a file under two names is the same teacher.
    """

    model = "gguf"
    paid = True  # in time

    def __init__(self, path: Path, settings: TeacherSettings) -> None:
        self.settings = settings
        self._path = path
        self._slots = min(SLOTS, settings.concurrency)
        self._threads = 0
        self._server: Any = None
        self._context = self._trained = 0  # tokens of a slot: now, and as the model was trained for
        self._pool: ThreadPoolExecutor | None = None
        self._stop = threading.Event()
        self._active = 0
        self._empty = asyncio.Event()  # set while no request uses the server
        self._gate = asyncio.Lock()

    @property
    def identity(self) -> str:
        """`gguf-sha256:` and the file's digest."""
        stat = self._path.stat()
        return f"gguf-sha256:{_sha256(self._path.resolve(), stat.st_size, stat.st_mtime_ns)}"

    async def __aenter__(self) -> Self:
        self._stop = threading.Event()
        self._active, self._empty, self._gate = 0, asyncio.Event(), asyncio.Lock()
        self._empty.set()
        self._pool = ThreadPoolExecutor(self._slots, thread_name_prefix="local-teacher")
        await self._load(_PROMPT + (self.settings.max_tokens or ANSWER))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            # The model must not be freed while a thread uses it: those threads end at their next
            # token.
            self._stop.set()
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._server = None

    async def complete(self, request: Request) -> Completion:
        """The answer.

        Raises Fault where the request does not fit into the model's context, or the model's server
        reports an error.
        """
        limit = output_bound(request, unset=ANSWER)
        body = {
            **request_body(request),
            "max_tokens": limit,
            "stream": True,  # so that it can be stopped
            "stream_options": {"include_usage": True},
        }
        need = _estimated_tokens(request) + limit
        if need > self._context:  # the model is not loaded again on a guess
            need = self._room(await self._with_context(0, _count, body), limit)
        while True:
            answer = await self._with_context(need, _ask, body, self._stop)
            prompt = _overflow(answer, self._context, limit)
            if prompt is None:
                break
            if self._context >= self._trained:
                raise self._too_long(prompt, limit)
            need = max(self._room(prompt, limit), self._context + 1)
        if "error" in answer:
            error = parse_error(200, answer, "")
            raise Fault(ruling_of(error, {}).action, error.message, unpaid=True)
        return parse_completion(answer)

    async def explain(self, fault: Fault) -> TeacherError:
        """The error that ends the run."""
        return TeacherError(f"{self._path.name} answers no more requests ({fault})")

    def _room(self, prompt: int, limit: int) -> int:
        """Tokens of context that a request needs.

        A request that only fits with an answer shorter than `limit` is tried all the same, because
        most answers end earlier. Raises Fault where the prompt alone is too long.
        """
        if prompt >= self._trained:
            raise self._too_long(prompt, limit)
        return min(prompt + limit, self._trained)

    def _too_long(self, prompt: int, limit: int) -> Fault:
        return Fault(
            Action.FAIL_REQUEST,
            f"a prompt of {prompt:,} tokens and an answer of up to {limit:,} exceed the context of "
            f"{self._trained:,} tokens that the model was trained for: shorten the row, lower "
            "max_tokens, or use another model",
            unpaid=True,
        )

    async def _with_context(self, need: int, work: Callable[..., T], *values: Any) -> T:
        """Run `work` with the server, once its slots have `need` tokens of context.

        A request that needs more waits at the gate, with all later ones behind it, until the
        requests in flight have completed; then the model is loaded again.
        """
        async with self._gate:
            if self._server is None:
                raise RuntimeError("open the teacher with `async with` before the first request")
            if need > self._context:
                await self._empty.wait()
                self._server = None  # freed before the next one is loaded
                await self._load(min(max(need, 2 * self._context), self._trained))
            self._active += 1
            self._empty.clear()
        try:
            return await self._on_thread(self._with_server, work, *values)
        finally:
            self._active -= 1
            if self._active == 0:
                self._empty.set()

    async def _load(self, context: int) -> None:
        context = -(-context // _STEP) * _STEP
        slots = max(1, min(self._slots, _TOTAL // context))
        # Again at each load: trainings may have begun or ended since.
        given = self.settings.threads
        self._threads = await self._on_thread(_idle_cores) if given is None else given
        await self._on_thread(self._open, slots, context)
        self._context, self._trained = await self._on_thread(self._with_server, _contexts, context)

    # The server is neither an argument nor a result of a thread's work: a thread drops its
    # references only some time after its work is seen to be done, and until then the model would
    # stay in memory together with the next one.

    def _open(self, slots: int, context: int) -> None:
        self._server = _load(self._path, slots, context, self._threads)

    def _with_server(self, work: Callable[..., T], *values: Any) -> T:
        return work(self._server, *values)

    def _on_thread(self, work: Callable[..., T], *values: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work, *values)


def _estimated_tokens(request: Request) -> int:
    """Tokens of a prompt, estimated before the model has counted them."""
    size = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
    return size // _BYTES_PER_TOKEN + _TEMPLATE


def _ask(server: Any, body: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
    """The whole answer in the API's form; only its beginning where `stop` was set."""
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
    """The prompt's tokens where the context was too small; None where it was large enough.

    It is too small for a prompt that does not fit by itself, and for an answer that was cut at the
    end of the context before it had reached `limit` tokens.
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
    if has_metadata(path) and not has_chat_template(path):
        raise TeacherError(
            f"{path}: is the file of a base model: it has no chat template, so that the model goes "
            "on with a text and does not answer: choose an instruct model (its name often ends in "
            "-Instruct or -it)"
        )
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {path.stem}  # its name would be a path on this machine
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.cache_ram_mib = 0  # no prompt comes twice: caching them would only cost copies
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_threads_http = slots + 2
    params.verbosity = -1
    try:
        return start_server(params)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise TeacherError(
            f"{path}: the model could not be loaded ({error}): check the file, and that there is "
            f"memory for it and for a context of {slots} x {context:,} tokens"
        ) from error


def _contexts(server: Any, asked: int) -> tuple[int, int]:
    """Tokens of context: of each slot, and as the model was trained for."""
    status, found = _call(server, "/v1/models")
    try:
        meta = found["data"][0]["meta"]
        trained = int(meta["n_ctx_train"])
        return min(int(meta.get("n_ctx", asked)), trained), trained
    except (LookupError, TypeError, ValueError) as error:
        raise TeacherError(
            f"xllamacpp does not report its model's context (HTTP {status}, {error!r}): install "
            "the version in constraints.txt"
        ) from error


def _count(server: Any, body: dict[str, Any]) -> int:
    """Tokens of a prompt with the model's chat template; 0 where the template rejects it, which the
    request itself will then report."""
    status, answer = _call(server, "/apply-template", {"messages": body["messages"]})
    if status != 200:
        return 0
    asked = {"content": answer["prompt"], "add_special": True, "parse_special": True}
    return len(_call(server, "/tokenize", asked)[1]["tokens"])


def _call(server: Any, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Status and JSON of a call that the server offers only over HTTP.

    Raises TeacherError where it fails.
    """
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
    """Cores that this process may use and that no other process keeps busy; all of them where that
    is not known.

    The model's threads wait for each other at every layer, so one that shares its core delays all
    others: two threads on two busy cores answered at a third of the rate of one thread. What this
    process itself does meanwhile does not count: it would take a core from the model for good.
    """
    # Measured now: in the load average of a minute, a run that has just ended still counts.
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    before, own_before = _core_times(), _own_ticks()
    if mine is None or before is None:
        return os.cpu_count() or 1
    time.sleep(_LOOK_S)
    after, own = _core_times() or before, _own_ticks() - own_before
    busy = length = 0.0
    cores = mine & before.keys() & after.keys()
    for core in cores:
        total = after[core][1] - before[core][1]
        busy += total - (after[core][0] - before[core][0])
        length = max(length, total)
    others = max(0.0, busy - own) / length if length else 0.0
    return max(1, len(cores or mine) - round(others))


def _own_ticks() -> float:
    """CPU time of this process, in the ticks of /proc/stat."""
    spent = os.times()
    return (spent.user + spent.system) * os.sysconf("SC_CLK_TCK")


def _core_times() -> dict[int, tuple[int, int]] | None:
    """Idle ticks and all ticks of each core, as counted by Linux; None elsewhere."""
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
    """Serve a model file over HTTP on a free port of the loopback interface, inside a `with` block.

    model:   `gguf:PATH`, `package:PACKAGE/FILE`, or a path
    context: tokens of prompt and answer together in each slot

    Yields the `base_url` for an `openai:` teacher. Raises UsageError for a file that is not there
    or not a model, MissingExtraError without xllamacpp, TeacherError where the model cannot be
    loaded.
    """
    scheme, _, name = str(model).partition(":")
    finders: dict[str, Callable[[str], Path]] = {"gguf": find_file, "package": find_in_package}
    path = finders[scheme](name) if scheme in finders and name else find_file(str(model))
    server = _load(path, slots, context, _idle_cores())
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server  # its destructor stops it
