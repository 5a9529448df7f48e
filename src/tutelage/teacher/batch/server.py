"""The calls for files and batches of the OpenAI protocol, through the `openai` client.

The client's own retries are off. Calls that can be repeated safely are retried here, by the policy
of `failures`. The call that creates a batch is never repeated: a batch that was created without our
knowledge would be paid for twice. The API key is removed from everything that a server sends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit, urlunsplit

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import AuthenticationError, ServerUnreachableError, TeacherError
from tutelage.teacher.batch.jsonl import TAG, WINDOW, RemoteBatch, parse_batch
from tutelage.teacher.clients.access import Access, is_loopback
from tutelage.teacher.clients.error_replies import parse_error, ruling_of
from tutelage.teacher.clients.openai_api import ENDPOINT
from tutelage.teacher.clients.values import parse_json
from tutelage.teacher.engine.failures import (
    Action,
    Fault,
    FaultKind,
    RetryPolicy,
    fault_kind_of,
    parse_retry_after,
)

if TYPE_CHECKING:
    import openai

SENDING = "accept a batch"
STATUS = "report on its batches"
"""What a server may fail to do, as `BatchServer.explain` puts it."""

_UNKNOWN_CALL = (404, 405, 501)
_PAGE = 100  # batches listed at once, at most
_BLOCK = 1 << 20

T = TypeVar("T")


class CallFault(Fault):
    """One call that failed. status: the HTTP status; None without an answer that can be parsed.

    Where it is None, or 500 and above, the server may have done what was requested.
    """

    def __init__(
        self,
        action: Action,
        message: str,
        *,
        status: int | None = None,
        kind: FaultKind = FaultKind.SERVER,
        retry_after_s: float | None = None,
    ) -> None:
        unpaid = status is not None and (400 <= status < 500 or status in _UNKNOWN_CALL)
        super().__init__(action, message, kind=kind, retry_after_s=retry_after_s, unpaid=unpaid)
        self.status = status


class CannotListError(TeacherError):
    """The server does not list its batches, so it is not known which ones it has accepted."""


class BatchServer:
    """The server in `settings`; one call at a time, and a connection with the first one.

    Every call raises AuthenticationError for a key that is missing or refused, TeacherError where
    the server does not offer the call or the account cannot pay, and CallFault for a transient
    fault that outlasted the attempts in `policy`.
    """

    def __init__(
        self, settings: TeacherSettings, policy: RetryPolicy, *, page: int = _PAGE
    ) -> None:
        self._access = Access(settings)
        self.dialect = self._access.dialect
        self.address = self._access.address
        self._settings = settings
        self._policy = policy
        self._page_size = page
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

        settings, access = self._settings, self._access
        access.open()
        parts = urlsplit(access.base)
        self._client = openai.OpenAI(
            api_key=access.key or "none",
            base_url=urlunsplit(parts._replace(query="", fragment="")),
            default_query={name: values[-1] for name, values in parse_qs(parts.query).items()},
            default_headers=access.headers,
            max_retries=0,
            timeout=settings.timeout_s,
            http_client=openai.DefaultHttpxClient(
                timeout=settings.timeout_s,
                trust_env=not is_loopback(self.address),
                verify=access.certificates(),
                event_hooks={"request": [self._trim]},
            ),
        )
        return self._client

    def _trim(self, request: Any) -> None:
        """Remove headers that the client adds by itself: a placeholder key where there is none, and
        an organisation from the environment, whatever the server."""
        given = {name.lower() for name in self._access.headers}
        for name in ("OpenAI-Organization", "OpenAI-Project", "Authorization"):
            if name.lower() not in given:
                request.headers.pop(name, None)

    def upload(self, file: IO[bytes], name: str) -> str:
        """Upload a file of requests, from its start, without loading it into memory; returns its
        id."""

        def call() -> str:
            file.seek(0)
            files = self._open().files.with_raw_response
            answer = self._value(
                files.create(file=(name, file, "application/jsonl"), purpose="batch")
            )
            if not isinstance(answer.get("id"), str):
                raise garbled("an answer to an upload without a file id")
            return str(answer["id"])

        return self._repeated(call)

    def create(self, file_id: str, tag: str, file: IO[bytes]) -> RemoteBatch:
        """Create a batch from a file, in one attempt.

        file: what `upload` was given, for servers that take the requests with this call

        After a fault whose `unpaid` is False, it is not known whether the batch was created.
        """
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
        """The current state of a batch."""
        return self._repeated(
            lambda: _batch(
                self._value(self._open().batches.with_raw_response.retrieve(batch_id)), batch_id
            )
        )

    def cancel(self, batch_id: str) -> bool:
        """Cancel a batch; returns False where the server says that it is too late."""
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
        """All batches on the server, page by page. Raises CannotListError where it lists none."""
        seen: set[str] = set()
        after: str | None = None
        while True:
            rows, after = self._page(after)
            new = [row for row in rows if row.id not in seen]
            yield from new
            seen |= {row.id for row in new}
            if not rows or after is None:
                return
            if not new:
                raise CannotListError(f"{self.address} lists the same batches on every page")

    def _list(self, after: str | None) -> tuple[list[RemoteBatch], str | None]:
        """One page of the list, and where the next one begins; None: there is none."""
        import openai

        cursor = openai.omit if after is None else after
        listed = self._open().batches.with_raw_response.list(limit=self._page_size, after=cursor)
        answer = self._value(listed)
        data = answer.get("data")
        if not isinstance(data, list):
            raise garbled("a list of batches without data")
        rows = [_batch(row) for row in data if isinstance(row, dict)]
        more = bool(answer.get("has_more", len(rows) >= self._page_size))
        return rows, rows[-1].id if rows and more else None

    def _page(self, after: str | None) -> tuple[list[RemoteBatch], str | None]:
        try:
            return self._repeated(lambda: self._list(after))
        except CallFault as fault:
            if fault.status in _UNKNOWN_CALL:
                raise CannotListError(
                    f"{self.address} cannot list its batches ({fault})"
                ) from fault
            raise

    def download(self, file_id: str, into: IO[bytes]) -> None:
        """Write the whole content of a file to `into`."""

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
                    Action.RETRY,
                    f"the connection broke: {self._line(str(error) or type(error).__name__)}",
                    kind=FaultKind.CONNECTION,
                ) from error

        self._repeated(call)

    def _value(self, response: Any) -> dict[str, Any]:
        answer = parse_json(self.clean(response.text))
        if not isinstance(answer, dict):
            raise garbled("an answer that is not a JSON object")
        return answer

    def _repeated(self, call: Callable[[], T]) -> T:
        """Make a call that can be repeated safely, with retries."""
        faults: dict[FaultKind, int] = {}
        while True:
            try:
                return self._attempt(call)
            except CallFault as fault:
                if fault.action is not Action.RETRY:
                    raise
                count = faults[fault.kind] = faults.get(fault.kind, 0) + 1
                if count >= self._policy.attempts[fault.kind]:
                    raise
                time.sleep(self._policy.delay(sum(faults.values()), fault.retry_after_s))

    def _attempt(self, call: Callable[[], T]) -> T:
        """Make one call; the client's errors become ours."""
        import openai

        try:
            return call()
        except openai.APIStatusError as error:
            raise self._fault(error.status_code, error.response) from error
        except openai.APITimeoutError as error:
            message = f"no answer within {self._settings.timeout_s:g} s"
            raise CallFault(Action.RETRY, message, kind=FaultKind.TIMEOUT) from error
        except openai.APIConnectionError as error:
            reason = str(error.__cause__ or "") or type(error.__cause__ or error).__name__
            message = f"the connection failed: {self._line(reason)}"
            raise CallFault(Action.RETRY, message, kind=FaultKind.CONNECTION) from error

    def _fault(self, status: int, response: Any) -> CallFault:
        text = self.clean(response.text)
        error = parse_error(status, parse_json(text), text)
        message = error.message
        unknown = status in _UNKNOWN_CALL
        action = Action.STOP_MODEL if unknown else ruling_of(error, {}).action
        if action is Action.STOP_KEY:
            variable = self._settings.key_variable
            problem = f"refuses the key in {variable}" if self._access.key else "requires a key"
            raise AuthenticationError(
                f"{self.address} {problem} ({self._line(f'HTTP {status}: {message}')}): set the "
                f"environment variable {variable}, or name another one in teacher.api_key_env"
            )
        if action is Action.STOP_ACCOUNT:
            shown = self._line(f"HTTP {status}: {message}")
            raise TeacherError(f"{self.address} answers no more requests ({shown})")
        return CallFault(
            action,
            self._line(f"HTTP {status}: {message}"),
            status=status,
            kind=fault_kind_of(status),
            retry_after_s=parse_retry_after(response.headers),
        )

    def explain(self, doing: str, fault: CallFault) -> TeacherError:
        """A persistent fault as the error that ends a run. doing: what the server failed to do."""
        if fault.status in _UNKNOWN_CALL and doing == SENDING:
            return TeacherError(
                f"{self.address} has no batch API ({fault}): set mode: live for this teacher"
            )
        if fault.action is Action.RETRY:
            return ServerUnreachableError(
                f"{self.address} cannot {doing} now ({fault}): nothing is lost; run again to "
                "continue"
            )
        return TeacherError(f"{self.address} does not {doing} ({fault})")

    def clean(self, text: str) -> str:
        """A server's text without the API key, in case it repeats it."""
        return self._access.clean(text)

    def _line(self, text: str) -> str:
        return self._access.line(text)


def garbled(message: str) -> CallFault:
    """A reply that cannot be understood."""
    return CallFault(Action.RETRY, message, kind=FaultKind.GARBLED)


def _batch(value: dict[str, Any], batch_id: str | None = None) -> RemoteBatch:
    """Parse a batch object. batch_id: the id that it must have, if any."""
    batch = parse_batch(value)
    if batch is None or batch_id not in (None, batch.id):
        raise garbled("an answer that is not the requested batch")
    return batch
