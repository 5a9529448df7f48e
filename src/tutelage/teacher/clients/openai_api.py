"""`openai:MODEL`: any server with OpenAI's chat completions API, over aiohttp.

One call is one attempt. The engine decides when to make it and how often; `failures` decides what a
fault calls for. The API key goes into one header and nowhere else: it is removed from everything
that a server sends before that is parsed.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit, urlunsplit

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import (
    AuthenticationError,
    ModelNotServedError,
    ServerUnreachableError,
    TeacherError,
    UsageError,
)
from tutelage.core.types import Completion, Request
from tutelage.teacher.clients.wire import parse_completion, parse_error, parse_json, request_body
from tutelage.teacher.engine.failures import (
    Action,
    Fault,
    FaultKind,
    action_for,
    fault_kind_of,
    parse_retry_after,
)

if TYPE_CHECKING:
    import aiohttp

DEFAULT_BASE_URL = "https://api.openai.com/v1"
_MESSAGE_LIMIT = 300  # characters of a server's message that are repeated in an error of ours
_MODELS_TIMEOUT_S = 10.0
_MIN_SECRET = 8  # shorter "keys" are words such as EMPTY, which may be part of an answer


class OpenAITeacher:
    """A model behind `POST {base_url}/chat/completions`.

    Nothing is sent and no key is needed until it is opened with `async with`, which raises
    AuthenticationError where the address is OpenAI's own and the key's variable is not set.

    responses:  HTTP responses received so far
    on_headers: called with the headers of each response that states rate limits
    """

    paid = True

    def __init__(self, model: str, settings: TeacherSettings) -> None:
        self.model = model
        self.settings = settings
        self._base = (settings.base_url or DEFAULT_BASE_URL).strip()
        self._address = normalise_url(self._base)
        self.identity = settings.provider or self._address
        self._key = ""
        self._proxy: str | None = None
        self._session: aiohttp.ClientSession | None = None
        self._url = endpoint(self._base, "chat/completions")
        self.responses = 0
        self.on_headers: Callable[[Mapping[str, str]], None] | None = None
        self._renames_max_tokens = False

    async def __aenter__(self) -> Self:
        import aiohttp

        variable = self.settings.api_key_env
        self._key = os.environ.get(variable, "").strip()
        if not self._key and self._address == DEFAULT_BASE_URL:
            raise AuthenticationError(
                f"no key for {self._address}: set the environment variable {variable}, or name "
                "another one in teacher.api_key_env, or another server in teacher.base_url"
            )
        if not (self._key.isascii() and self._key.isprintable()):
            raise AuthenticationError(
                f"the environment variable {variable} contains characters that no key has"
            )
        self._proxy = _proxy_for(self._base)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.settings.concurrency),
            timeout=aiohttp.ClientTimeout(total=self.settings.timeout_s),
            headers={
                "Content-Type": "application/json",
                **({"Authorization": f"Bearer {self._key}"} if self._key else {}),
            },
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def complete(self, request: Request) -> Completion:
        """One attempt at the answer. Raises Fault where there is none."""
        import aiohttp

        if self._session is None:
            raise RuntimeError("open the teacher with `async with` before the first request")
        body = request_body(request)
        if self._renames_max_tokens and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        try:
            async with self._session.post(
                self._url,
                data=json.dumps(body).encode(),
                proxy=self._proxy,
                allow_redirects=False,  # the key is for this address alone
            ) as response:
                text = self._clean((await response.read()).decode("utf-8", "replace"))
                status, headers = response.status, response.headers
        except TimeoutError as error:
            raise Fault(
                Action.RETRY,
                f"no answer within {self.settings.timeout_s:g} s",
                kind=FaultKind.TIMEOUT,
            ) from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise Fault(
                Action.STOP_ACCOUNT, f"its certificate was rejected: {error}", unreached=True
            ) from error
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or str(error.os_error)
            raise Fault(
                Action.RETRY, f"cannot connect: {reason}", kind=FaultKind.CONNECTION, unreached=True
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            what = str(error) or type(error).__name__
            raise Fault(
                Action.RETRY, f"the connection broke: {self._line(what)}", kind=FaultKind.CONNECTION
            ) from error
        self.responses += 1
        if self.on_headers is not None and (
            "x-ratelimit-limit-requests" in headers or "x-ratelimit-limit-tokens" in headers
        ):
            self.on_headers(headers)
        answer = parse_json(text)
        if status == 200 and isinstance(answer, dict) and not answer.get("error"):
            return parse_completion(answer)
        if status == 200 and answer is None:
            raise Fault(Action.RETRY, "an answer that is not JSON", kind=FaultKind.GARBLED)
        shown, code, message = parse_error(status, answer, text)
        action = action_for(shown, code, message)
        if "max_tokens" in body and "max_completion_tokens" in message:
            # Some models accept only the newer name of the limit, and say so.
            self._renames_max_tokens = True
            action = Action.RETRY
        raise Fault(
            action,
            self._line(f"HTTP {shown}: {message}"),
            kind=fault_kind_of(shown),
            retry_after_s=parse_retry_after(headers),
            unpaid=400 <= status < 500,
        )

    async def explain(self, fault: Fault) -> TeacherError:
        """The error that ends the run: why no request can be answered, and what to do."""
        variable = self.settings.api_key_env
        if fault.action is Action.STOP_MODEL:
            return ModelNotServedError(
                f"{self._address} does not serve the model {self.model!r} ({fault}); "
                + _models_hint(self.model, await self._served_models())
            )
        if fault.action is Action.STOP_KEY:
            problem = f"refuses the key in {variable}" if self._key else "requires a key"
            return AuthenticationError(
                f"{self._address} {problem} ({fault}): set the environment variable {variable}, or "
                "name another one in teacher.api_key_env"
            )
        if fault.action is Action.STOP_PARAMETER:
            sent = ", ".join(f"teacher.{name}" for name in self.settings.parameters) or "none"
            return TeacherError(
                f"{self._address}: the model {self.model!r} does not support a parameter "
                f"({fault}): remove it from the recipe or change it (parameters set: {sent})"
            )
        if fault.action is Action.RETRY:
            return ServerUnreachableError(
                f"{self._address} does not answer ({fault}): check that the server runs and that "
                "teacher.base_url is its address"
            )
        return TeacherError(f"{self._address} answers no more requests ({fault})")

    async def _served_models(self) -> list[str]:
        """The models that `GET {base_url}/models` lists; empty where it does not answer."""
        import aiohttp

        assert self._session is not None
        try:
            async with self._session.get(
                endpoint(self._base, "models"),
                proxy=self._proxy,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=_MODELS_TIMEOUT_S),
            ) as response:
                text = self._clean((await response.read()).decode("utf-8", "replace"))
        except (aiohttp.ClientError, OSError):  # the list only improves an error message
            return []
        answer = parse_json(text)
        rows = answer.get("data") if isinstance(answer, dict) else None
        ids = [row.get("id") for row in rows or [] if isinstance(row, dict)]
        return [_without_folder(name) for name in ids if isinstance(name, str)]

    def _clean(self, text: str) -> str:
        """A server's text without the API key, in case it repeats it."""
        return text.replace(self._key, "[key]") if len(self._key) >= _MIN_SECRET else text

    def _line(self, text: str) -> str:
        """A server's message as part of a one-line message."""
        line = " ".join(text.split())
        if self._key:
            line = line.replace(self._key, "[key]")
        return line if len(line) <= _MESSAGE_LIMIT else line[: _MESSAGE_LIMIT - 1] + "…"


def normalise_url(url: str) -> str:
    """An address as it is shown and stored: without user, password, query and default port.

    Raises UsageError where it is not an http or https address.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in ("http", "https") or not host:
        guess = f": did you mean 'http://{url}'?" if "://" not in url else ""
        raise UsageError(
            f"teacher.base_url {_without_userinfo(url)!r}: expected an address like "
            f"'http://127.0.0.1:8000/v1'{guess}"
        )
    place = f"[{host}]" if ":" in host else host
    if port is not None and port != {"http": 80, "https": 443}[parts.scheme]:
        place += f":{port}"
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))


def endpoint(base: str, path: str) -> str:
    """The address of an endpoint. A query of the base (an `api-version`) is kept."""
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}", fragment=""))


def is_loopback(url: str) -> bool:
    """Whether an address is the loopback interface of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    if is_loopback(url) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _without_userinfo(url: str) -> str:
    return url.rpartition("@")[2]


def _without_folder(name: str) -> str:
    # llama.cpp's server lists a path on its machine as the model's name.
    return PurePath(name).name if name.startswith(("/", ".", "~")) or "\\" in name else name


def _models_hint(model: str, served: list[str]) -> str:
    if not served:
        return "check teacher.model, and the end of teacher.base_url in the server's manual"
    near = difflib.get_close_matches(model, served, n=3)
    shown = [*near, *(name for name in sorted(served) if name not in near)][:8]
    more = f" and {len(served) - len(shown)} more" if len(served) > len(shown) else ""
    return f"it serves {', '.join(shown)}{more}: set teacher.model to one of these"
