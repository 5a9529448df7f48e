"""Files and batches of the OpenAI protocol: the calls, through the `openai` client.

Its own retries are off: a call that changes nothing is repeated here, as `faults` says; the one
that creates a batch never is, since a batch that was created unheard would be paid twice. What a
server says is cleaned of the key before anybody reads it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit, urlunsplit

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import AuthenticationError, ServerUnreachableError, TeacherError
from tutelage.teacher.batch.jsonl import ENDPOINT, TAG, WINDOW, RemoteBatch, read_batch
from tutelage.teacher.clients.openai_api import DEFAULT_BASE_URL, is_loopback, normalise_url
from tutelage.teacher.clients.wire import parse_json, read_error
from tutelage.teacher.engine.failures import (
    Fault,
    Kind,
    RetryPolicy,
    Verdict,
    judge,
    kind_of,
    parse_retry_after,
)

if TYPE_CHECKING:
    import openai

SENDING = "take a batch"
_UNKNOWN_CALL = (404, 405, 501)
_PAGE = 100  # batches listed at once, at most
_MESSAGE_LIMIT = 300
_BLOCK = 1 << 20

T = TypeVar("T")


class CallFault(Fault):
    """One call that failed. status: HTTP's; None where no answer came, or none to be read.

    Where it is None, or 500 and above, the server may have done what it was asked.
    """

    def __init__(
        self,
        verdict: Verdict,
        message: str,
        *,
        status: int | None = None,
        kind: Kind = Kind.SERVER,
        retry_after_s: float | None = None,
    ) -> None:
        unpaid = status is not None and (400 <= status < 500 or status in _UNKNOWN_CALL)
        super().__init__(verdict, message, kind=kind, retry_after_s=retry_after_s, unpaid=unpaid)
        self.status = status


class CannotListError(TeacherError):
    """A server that does not list its batches, so that nobody can say what it has accepted."""


class BatchServer:
    """The server that `settings` names, asked in turn; a connection is made with the first call.

    Every call raises AuthenticationError for a key that is missing or refused, TeacherError where
    the server has no such call or the account cannot pay, and CallFault for anything transient
    that went on after the attempts that `policy` allows.
    """

    def __init__(
        self, settings: TeacherSettings, policy: RetryPolicy, *, page: int = _PAGE
    ) -> None:
        self.shown = normalise_url((settings.base_url or DEFAULT_BASE_URL).strip())
        self._settings = settings
        self._policy = policy
        self._page_size = page
        self._key = ""
        self._client: openai.OpenAI | None = None

    def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _open(self) -> openai.OpenAI:
        if self._client is not None:
            return self._client
        import openai

        settings = self._settings
        variable = settings.api_key_env
        self._key = os.environ.get(variable, "").strip()
        if not self._key and self.shown == DEFAULT_BASE_URL:
            raise AuthenticationError(
                f"no key for {self.shown}: set the environment variable {variable}, or name "
                "another one in teacher.api_key_env, or another server in teacher.base_url"
            )
        if not (self._key.isascii() and self._key.isprintable()):
            raise AuthenticationError(
                f"the environment variable {variable} holds characters that no key has"
            )
        parts = urlsplit((settings.base_url or DEFAULT_BASE_URL).strip())
        self._client = openai.OpenAI(
            api_key=self._key or "none",
            base_url=urlunsplit(parts._replace(query="", fragment="")),
            default_query={name: values[-1] for name, values in parse_qs(parts.query).items()},
            max_retries=0,
            timeout=settings.timeout_s,
            http_client=openai.DefaultHttpxClient(
                timeout=settings.timeout_s,
                trust_env=not is_loopback(self.shown),
                event_hooks={"request": [self._trim]},
            ),
        )
        return self._client

    def _trim(self, request: Any) -> None:
        """Leave out what the client adds of its own accord: a made-up key, where there is none,
        and an organisation from the environment, for whatever server it is."""
        unasked = ("OpenAI-Organization", "OpenAI-Project")
        for name in unasked if self._key else (*unasked, "Authorization"):
            request.headers.pop(name, None)

    def upload(self, file: IO[bytes], name: str) -> str:
        """Put a file of requests there; its id. It is read from its start, not held in memory."""

        def call() -> str:
            file.seek(0)
            files = self._open().files.with_raw_response
            answer = self._value(
                files.create(file=(name, file, "application/jsonl"), purpose="batch")
            )
            if not isinstance(answer.get("id"), str):
                raise _garbled("an answer to an upload that names no file")
            return str(answer["id"])

        return self._repeated(call)

    def create(self, file_id: str, tag: str) -> RemoteBatch:
        """Have a batch made of a file, in one attempt: after a fault whose `unpaid` is False
        nobody knows whether it was made."""
        return self._attempt(
            lambda: _batch(
                self._value(
                    self._open().batches.with_raw_response.create(
                        completion_window=WINDOW,
                        endpoint=ENDPOINT,
                        input_file_id=file_id,
                        metadata={TAG: tag},
                    )
                )
            )
        )

    def retrieve(self, batch_id: str) -> RemoteBatch:
        """How a batch is doing."""
        return self._repeated(
            lambda: _batch(
                self._value(self._open().batches.with_raw_response.retrieve(batch_id)), batch_id
            )
        )

    def cancel(self, batch_id: str) -> bool:
        """Have a batch ended early; False where the server says that it cannot be any more."""
        try:
            self._repeated(
                lambda: self._value(self._open().batches.with_raw_response.cancel(batch_id))
            )
        except CallFault as fault:
            if fault.status in (400, 409):
                return False
            raise
        return True

    def batches(self) -> Iterator[RemoteBatch]:
        """All batches there, page by page. Raises CannotListError where that is not to be had."""
        seen: set[str] = set()
        after: str | None = None
        while True:
            rows, more = self._page(after)
            new = [row for row in rows if row.id not in seen]
            yield from new
            seen |= {row.id for row in new}
            if not rows or not more:
                return
            if not new:
                raise CannotListError(f"{self.shown} lists the same batches on every page")
            after = rows[-1].id

    def _page(self, after: str | None) -> tuple[list[RemoteBatch], bool]:
        import openai

        cursor = openai.omit if after is None else after

        def call() -> tuple[list[RemoteBatch], bool]:
            listed = self._open().batches.with_raw_response.list(
                limit=self._page_size, after=cursor
            )
            answer = self._value(listed)
            data = answer.get("data")
            if not isinstance(data, list):
                raise _garbled("a list of batches that holds none")
            rows = [_batch(row) for row in data if isinstance(row, dict)]
            return rows, bool(answer.get("has_more", len(rows) >= self._page_size))

        try:
            return self._repeated(call)
        except CallFault as fault:
            if fault.status in _UNKNOWN_CALL:
                raise CannotListError(f"{self.shown} cannot list its batches ({fault})") from fault
            raise

    def download(self, file_id: str, into: IO[bytes]) -> None:
        """Write a file's content to `into`, whole."""

        def call() -> None:
            import httpx2
            import openai

            into.seek(0)
            into.truncate()
            files = self._open().files.with_streaming_response
            try:
                with files.content(file_id) as response:
                    for block in response.iter_bytes(_BLOCK):
                        into.write(block)
            except openai.APIError:
                raise
            except httpx2.HTTPError as error:
                raise CallFault(
                    Verdict.RETRY,
                    f"the connection broke: {self._line(str(error) or type(error).__name__)}",
                    kind=Kind.CONNECTION,
                ) from error

        self._repeated(call)

    def _value(self, response: Any) -> dict[str, Any]:
        answer = parse_json(self.clean(response.text))
        if not isinstance(answer, dict):
            raise _garbled("an answer that is no JSON object")
        return answer

    def _repeated(self, call: Callable[[], T]) -> T:
        """A call that may be made twice."""
        faults: dict[Kind, int] = {}
        while True:
            try:
                return self._attempt(call)
            except CallFault as fault:
                if fault.verdict is not Verdict.RETRY:
                    raise
                count = faults[fault.kind] = faults.get(fault.kind, 0) + 1
                if count >= self._policy.attempts[fault.kind]:
                    raise
                time.sleep(self._policy.delay(sum(faults.values()), fault.retry_after_s))

    def _attempt(self, call: Callable[[], T]) -> T:
        """One call, its errors turned into ours."""
        import openai

        try:
            return call()
        except openai.APIStatusError as error:
            raise self._fault(error.status_code, error.response) from error
        except openai.APITimeoutError as error:
            message = f"no answer within {self._settings.timeout_s:g} s"
            raise CallFault(Verdict.RETRY, message, kind=Kind.TIMEOUT) from error
        except openai.APIConnectionError as error:
            reason = str(error.__cause__ or "") or type(error.__cause__ or error).__name__
            message = f"the connection failed: {self._line(reason)}"
            raise CallFault(Verdict.RETRY, message, kind=Kind.CONNECTION) from error

    def _fault(self, status: int, response: Any) -> CallFault:
        text = self.clean(response.text)
        _, code, message = read_error(status, parse_json(text), text)
        verdict = Verdict.MODEL if status in _UNKNOWN_CALL else judge(status, code, message)
        if verdict is Verdict.KEY:
            variable = self._settings.api_key_env
            held = f"refuses the key in {variable}" if self._key else "wants a key"
            raise AuthenticationError(
                f"{self.shown} {held} ({self._line(f'HTTP {status}: {message}')}): set the "
                f"environment variable {variable}, or name another one in teacher.api_key_env"
            )
        if verdict is Verdict.ACCOUNT:
            raise TeacherError(
                f"{self.shown} cannot be asked any more ({self._line(f'HTTP {status}: {message}')})"
            )
        return CallFault(
            verdict,
            self._line(f"HTTP {status}: {message}"),
            status=status,
            kind=kind_of(status),
            retry_after_s=parse_retry_after(response.headers),
        )

    def explain(self, doing: str, fault: CallFault) -> TeacherError:
        """A fault that went on, as the error that ends a run. doing: what was tried."""
        if fault.status in _UNKNOWN_CALL and doing == SENDING:
            return TeacherError(
                f"{self.shown} has no batch API ({fault}): set mode: live for this teacher"
            )
        if fault.verdict is Verdict.RETRY:
            return ServerUnreachableError(
                f"{self.shown} cannot {doing} now ({fault}): nothing is lost; run again to go on"
            )
        return TeacherError(f"{self.shown} does not {doing} ({fault})")

    def clean(self, text: str) -> str:
        """A server's words without our key, should it repeat it."""
        return text.replace(self._key, "[key]") if len(self._key) >= 8 else text

    def _line(self, text: str) -> str:
        line = " ".join(self.clean(text).split())
        return line if len(line) <= _MESSAGE_LIMIT else line[: _MESSAGE_LIMIT - 1] + "…"


def _garbled(message: str) -> CallFault:
    return CallFault(Verdict.RETRY, message, kind=Kind.GARBLED)


def _batch(value: dict[str, Any], batch_id: str | None = None) -> RemoteBatch:
    """A batch object. batch_id: the one asked for, where it must be this."""
    batch = read_batch(value)
    if batch is None or batch_id not in (None, batch.id):
        raise _garbled("an answer that is not the batch asked for")
    return batch
