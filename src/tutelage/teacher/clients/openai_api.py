"""`openai:MODEL`: any server that speaks OpenAI's chat completions, over aiohttp.

One call is one attempt: when to try, and how often, is the governor's business, and what a fault
calls for stands in `faults`. The key goes into one header and nowhere else: whatever a server says
is cleaned of it before it is read.
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
from tutelage.teacher.clients.wire import encode, parse_json, read_answer, read_error
from tutelage.teacher.engine.failures import Fault, Kind, Verdict, judge, kind_of, parse_retry_after

if TYPE_CHECKING:
    import aiohttp

DEFAULT_BASE_URL = "https://api.openai.com/v1"
_MESSAGE_LIMIT = 300  # characters of a server's message that ours repeats
_MODELS_TIMEOUT_S = 10.0
_MIN_SECRET = 8  # shorter "keys" are words like EMPTY, which an answer may hold


class OpenAITeacher:
    """A model behind `POST {base_url}/chat/completions`.

    Nothing is sent, and no key is needed, before it is opened with `async with`; that raises
    AuthenticationError where the address is OpenAI's own and the key's variable is not set.
    """

    paid = True

    def __init__(self, model: str, settings: TeacherSettings) -> None:
        self.model = model
        self.settings = settings
        self._base = (settings.base_url or DEFAULT_BASE_URL).strip()
        self._shown = normalise_url(self._base)
        self.identity = settings.provider or self._shown
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
        if not self._key and self._shown == DEFAULT_BASE_URL:
            raise AuthenticationError(
                f"no key for {self._shown}: set the environment variable {variable}, or name "
                "another one in teacher.api_key_env, or another server in teacher.base_url"
            )
        if not (self._key.isascii() and self._key.isprintable()):
            raise AuthenticationError(
                f"the environment variable {variable} holds characters that no key has"
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
        """One attempt at the answer. Raises Fault for anything else."""
        import aiohttp

        if self._session is None:
            raise RuntimeError("a teacher is opened with `async with` before it is asked")
        body = encode(request)
        if self._renames_max_tokens and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        try:
            async with self._session.post(
                self._url,
                data=json.dumps(body).encode(),
                proxy=self._proxy,
                allow_redirects=False,  # a key is for the address that was given
            ) as response:
                text = self._clean((await response.read()).decode("utf-8", "replace"))
                status, headers = response.status, response.headers
        except TimeoutError as error:
            raise Fault(
                Verdict.RETRY,
                f"no answer within {self.settings.timeout_s:g} s",
                kind=Kind.TIMEOUT,
            ) from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise Fault(
                Verdict.ACCOUNT, f"its certificate is refused: {error}", unreached=True
            ) from error
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or str(error.os_error)
            raise Fault(
                Verdict.RETRY, f"cannot connect: {reason}", kind=Kind.CONNECTION, unreached=True
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            what = str(error) or type(error).__name__
            raise Fault(
                Verdict.RETRY, f"the connection broke: {self._line(what)}", kind=Kind.CONNECTION
            ) from error
        self.responses += 1
        if self.on_headers is not None and (
            "x-ratelimit-limit-requests" in headers or "x-ratelimit-limit-tokens" in headers
        ):
            self.on_headers(headers)
        answer = parse_json(text)
        if status == 200 and isinstance(answer, dict) and not answer.get("error"):
            return read_answer(answer)
        if status == 200 and answer is None:
            raise Fault(Verdict.RETRY, "an answer that is no JSON", kind=Kind.GARBLED)
        shown, code, message = read_error(status, answer, text)
        verdict = judge(shown, code, message)
        if "max_tokens" in body and "max_completion_tokens" in message:
            # Some models take the limit of tokens under its newer name only, and say so.
            self._renames_max_tokens = True
            verdict = Verdict.RETRY
        raise Fault(
            verdict,
            self._line(f"HTTP {shown}: {message}"),
            kind=kind_of(shown),
            retry_after_s=parse_retry_after(headers),
            unpaid=400 <= status < 500,
        )

    async def explain(self, fault: Fault) -> TeacherError:
        """Why no question will be answered any more, and what to do about it."""
        variable = self.settings.api_key_env
        if fault.verdict is Verdict.MODEL:
            return ModelNotServedError(
                f"{self._shown} does not serve the model {self.model!r} ({fault}); "
                + _name_served(self.model, await self._served_models())
            )
        if fault.verdict is Verdict.KEY:
            held = f"refuses the key in {variable}" if self._key else "wants a key"
            return AuthenticationError(
                f"{self._shown} {held} ({fault}): set the environment variable {variable}, or name "
                "another one in teacher.api_key_env"
            )
        if fault.verdict is Verdict.PARAMETER:
            sent = ", ".join(f"teacher.{name}" for name in self.settings.parameters) or "none"
            return TeacherError(
                f"{self._shown}: the model {self.model!r} refuses a parameter ({fault}): take it "
                f"out of the recipe, or change it (set are: {sent})"
            )
        if fault.verdict is Verdict.RETRY:
            return ServerUnreachableError(
                f"{self._shown} does not answer ({fault}): check that the server runs and that "
                "teacher.base_url is its address"
            )
        return TeacherError(f"{self._shown} cannot be asked any more ({fault})")

    async def _served_models(self) -> list[str]:
        """What `GET {base_url}/models` lists; empty where it does not answer."""
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
        except (aiohttp.ClientError, OSError):  # it is only for a better message
            return []
        answer = parse_json(text)
        rows = answer.get("data") if isinstance(answer, dict) else None
        ids = [row.get("id") for row in rows or [] if isinstance(row, dict)]
        return [_without_folder(name) for name in ids if isinstance(name, str)]

    def _clean(self, text: str) -> str:
        """A server's words without our key, should it repeat it."""
        return text.replace(self._key, "[key]") if len(self._key) >= _MIN_SECRET else text

    def _line(self, text: str) -> str:
        """A server's message as a part of one line of ours."""
        line = " ".join(text.split())
        if self._key:
            line = line.replace(self._key, "[key]")
        return line if len(line) <= _MESSAGE_LIMIT else line[: _MESSAGE_LIMIT - 1] + "…"


def normalise_url(url: str) -> str:
    """An address as it is shown and kept: without user, password, query and default port.

    Raises UsageError for what is no http address.
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
    """The address of one call; a query of the base (an `api-version`) is kept."""
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}", fragment=""))


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
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
    # llama.cpp's server gives a file's path on its machine as the model's name.
    return PurePath(name).name if name.startswith(("/", ".", "~")) or "\\" in name else name


def _name_served(model: str, served: list[str]) -> str:
    if not served:
        return "check teacher.model, and that teacher.base_url ends as the server's manual says"
    near = difflib.get_close_matches(model, served, n=3)
    shown = [*near, *(name for name in sorted(served) if name not in near)][:8]
    more = f" and {len(served) - len(shown)} more" if len(served) > len(shown) else ""
    return f"it serves {', '.join(shown)}{more}: name one of these in teacher.model"
