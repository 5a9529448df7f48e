"""`openai:MODEL`, `anthropic:MODEL`, `gemini:MODEL`: a server, over aiohttp.

What differs between the three is in their dialects (`dialect`).

One call is one attempt. The engine decides when to make it and how often; the fault table decides
what a fault calls for.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import (
    AuthenticationError,
    ModelNotServedError,
    ServerUnreachableError,
    TeacherError,
)
from tutelage.core.types import Completion, Request
from tutelage.teacher.clients.access import Access, normalise_url
from tutelage.teacher.clients.error_replies import is_page, parse_error, ruling_of
from tutelage.teacher.clients.server_models import (
    ListedModel,
    list_models,
    models_hint,
    other_address,
)
from tutelage.teacher.clients.values import parse_json
from tutelage.teacher.clients.wire import parse_stream
from tutelage.teacher.engine.failures import (
    Action,
    Fault,
    FaultKind,
    fault_kind_of,
    parse_retry_after,
)

if TYPE_CHECKING:
    import aiohttp


_NEWER_NAME = re.compile(
    r"\bmax_tokens\b.*\bmax_completion_tokens\b|\buse\W+max_completion_tokens", re.I | re.S
)
"""An error that names both, or says which one to use."""


class ServerTeacher:
    """A model behind a server, in the dialect of the settings' scheme.

    Nothing is sent and no key is needed until it is opened with `async with`, which raises
    AuthenticationError where the address is the provider's own and the key's variable is not set.

    responses:  HTTP responses received so far
    on_headers: called with the headers of each response that states rate limits
    """

    paid = True

    def __init__(self, model: str, settings: TeacherSettings) -> None:
        self.model = model
        self.settings = settings
        self._access = Access(settings)
        self._dialect = self._access.dialect
        self.identity = settings.provider or identity_of(self._access)
        self._proxy: str | None = None
        self._session: aiohttp.ClientSession | None = None
        self._url = self._access.endpoint(self._dialect.path(model))
        self.responses = 0
        self.on_headers: Callable[[Mapping[str, str]], None] | None = None
        self._renames_max_tokens = False

    @property
    def address(self) -> str:
        """The server's address, as it is shown and stored."""
        return self._access.address

    async def listed_models(self) -> list[ListedModel]:
        """The models that the server lists; empty where it lists none."""
        assert self._session is not None
        return await list_models(self._session, self._access)

    async def __aenter__(self) -> Self:
        import aiohttp

        self._access.open()
        self._proxy = self._access.proxy()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self.settings.concurrency, ssl=self._access.certificates()
            ),
            timeout=aiohttp.ClientTimeout(total=self.settings.timeout_s),
            headers={"Content-Type": "application/json", **self._access.headers},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def complete(self, request: Request) -> Completion:
        """One attempt at the answer. Raises Fault where there is none."""
        if self._session is None:
            raise RuntimeError("open the teacher with `async with` before the first request")
        body = self._dialect.body(request)
        if self._renames_max_tokens and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        status, headers, text = await self._post(json.dumps(body).encode())
        self.responses += 1
        limits = self._dialect.limits(headers)
        if self.on_headers is not None and limits:
            self.on_headers(limits)
        answer = parse_json(text)
        if answer is None and text.lstrip().startswith("data:"):
            answer = parse_stream(text)
        if 200 < status < 300 and isinstance(answer, dict) and self._dialect.is_answer(answer):
            status = 200
        if status == 200 and isinstance(answer, dict):
            if self._dialect.is_answer(answer):
                return self._dialect.completion(answer)
        elif status == 200:
            page = is_page(text, headers.get("Content-Type", ""))
            raise Fault(
                Action.RETRY,
                "a web page instead of an answer" if page else "an answer that is not JSON",
                kind=FaultKind.GARBLED,
                page=page,
                status=200,
            )
        raise self._refusal(status, {**headers, **limits}, answer, text, request, body)

    async def _post(self, data: bytes) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and text of the reply. Raises Fault where none comes."""
        import aiohttp

        assert self._session is not None
        line = self._access.line
        try:
            async with self._session.post(
                self._url,
                data=data,
                proxy=self._proxy,
                allow_redirects=False,  # the key is for this address alone
            ) as response:
                data = await response.read()
                text = data.decode("utf-8", "replace").removeprefix("\ufeff")
                if "\ufffd" in text and response.status == 200 and data.lstrip()[:1] == b"{":
                    data.decode("utf-8")  # a model may write replacement characters itself
                return response.status, response.headers, self._access.clean(text)
        except UnicodeDecodeError as error:
            raise Fault(
                Action.RETRY, "an answer that is not UTF-8", kind=FaultKind.GARBLED
            ) from error
        except TimeoutError as error:
            raise Fault(
                Action.RETRY,
                f"no answer within {self.settings.timeout_s:g} s",
                kind=FaultKind.TIMEOUT,
            ) from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise Fault(
                Action.STOP_SERVER,
                f"its certificate was rejected: {line(str(error))}",
                unreached=True,
            ) from error
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or str(error.os_error)
            raise Fault(
                Action.RETRY, f"cannot connect: {reason}", kind=FaultKind.CONNECTION, unreached=True
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: an address or a header that aiohttp refuses to send or to read.
            what = str(error) or type(error).__name__
            raise Fault(
                Action.RETRY, f"the connection broke: {line(what)}", kind=FaultKind.CONNECTION
            ) from error

    def _refusal(
        self,
        status: int,
        headers: Mapping[str, str],
        answer: Any,
        text: str,
        request: Request,
        body: dict[str, Any],
    ) -> Fault:
        error = parse_error(status, answer, text)
        prompt = "\n".join(message.content for message in request.messages)
        ruling = ruling_of(error, request.parameters, prompt)
        action, message = ruling.action, error.message
        if "max_tokens" in body and status == 400 and _NEWER_NAME.search(message):
            # Some models accept only the newer name of the limit, and say so.
            self._renames_max_tokens = True
            action = Action.RETRY
        if 300 <= status < 400:
            to = urlsplit(urljoin(self._url, headers.get("Location", "")))
            message = f"a redirect to {to.scheme}://{to.netloc.rpartition('@')[2]}{to.path}"
        return Fault(
            action,
            self._access.line(f"{error.shown}: {message}"),
            kind=fault_kind_of(error.status),
            retry_after_s=parse_retry_after(headers, error.message, error.wait_s),
            unpaid=300 <= status < 500,
            parameter=ruling.parameter,
            inferred=ruling.inferred,
            page=is_page(text, headers.get("Content-Type", "")) and status >= 500,
            status=error.status,
        )

    async def explain(self, fault: Fault) -> TeacherError:
        """The error that ends the run: why no request can be answered, and what to do."""
        address, variable = self._access.address, self.settings.key_variable
        if fault.action is Action.STOP_MODEL:
            assert self._session is not None
            served = await list_models(self._session, self._access)
            if not served and (hint := await self._address_hint()):
                return ModelNotServedError(f"{address} does not answer requests ({fault}): {hint}")
            return ModelNotServedError(
                f"{address} does not serve the model {self.model!r} ({fault}); "
                + models_hint(self.model, served)
            )
        if fault.action is Action.STOP_KEY or (
            fault.action is Action.JUDGE and fault.status == 403
        ):
            problem = f"refuses the key in {variable}" if self._access.key else "requires a key"
            return AuthenticationError(
                f"{address} {problem} ({fault}): set the environment variable {variable}, or "
                f"name another one in teacher.api_key_env{self._header_hint()}"
            )
        if fault.action is Action.STOP_PARAMETER:
            return TeacherError(self._parameter_message(fault))
        if fault.action is Action.STOP_LATER:
            return TeacherError(
                f"{address} answers no more requests for now ({fault}): {come_back(fault)}. The "
                "answers so far are kept: run again then"
            )
        if fault.action is Action.STOP_SERVER or fault.page:
            hint = await self._address_hint() or self._server_hint(fault)
            return ServerUnreachableError(
                f"{address} is not the address of an API ({fault}): {hint}"
            )
        if fault.action is Action.RETRY:
            return ServerUnreachableError(
                f"{address} does not answer ({fault}): check that the server runs and that "
                "teacher.base_url is its address"
            )
        return TeacherError(
            f"{address} answers no more requests ({fault}): the answers so far are kept; correct "
            "that and run again"
        )

    def _header_hint(self) -> str:
        host = urlsplit(self._access.address).hostname or ""
        if host.endswith((".azure.com", ".azure-api.net")) and not self.settings.api_key_header:
            return "; Azure's classic endpoint takes it with teacher.api_key_header: api-key"
        return ""

    def _parameter_message(self, fault: Fault) -> str:
        address = self._access.address
        if not fault.parameter:
            sent = ", ".join(f"teacher.{name}" for name in self._set()) or "none"
            return (
                f"{address}: the model {self.model!r} does not support a parameter ({fault}): "
                f"remove it from the recipe or change it (parameters set: {sent})"
            )
        key = f"teacher.{self._key_of(fault.parameter)}"
        return (
            f"{address}: the model {self.model!r} does not support a parameter as it is set, "
            f"{fault.parameter} ({fault}): remove {key} from the recipe, or change it"
        )

    def _set(self) -> list[str]:
        return [self._key_of(name) for name in self.settings.parameters]

    def _key_of(self, parameter: str) -> str:
        if parameter == "response_format":
            return "structured"
        return (
            f"extra_body.{parameter}"
            if parameter in (self.settings.extra_body or {})
            else parameter
        )

    async def _address_hint(self) -> str:
        assert self._session is not None
        found = await other_address(self._session, self._access)
        return f"set teacher.base_url to {found!r}, which does" if found else ""

    def _server_hint(self, fault: Fault) -> str:
        if "certificate" in str(fault):
            return "name the file of its certificates in teacher.ca_file, if you trust it"
        if 300 <= (fault.status or 0) < 400:
            return (
                "set teacher.base_url to the address that it redirects to, without "
                "/chat/completions; or sign in first, if a network's sign-in page does this"
            )
        if fault.page:
            return (
                "check that teacher.base_url ends as the server's manual says (often in /v1), and "
                "that no sign-in page of this network is in between"
            )
        return "check the end of teacher.base_url in the server's manual (often /v1)"


def identity_of(access: Access) -> str:
    """Whose answers they are: the address, and the dialect where it is not OpenAI's."""
    scheme = access.dialect.scheme
    return access.address if scheme == "openai" else f"{scheme}:{access.address}"


_A_YEAR_S = 366 * 86_400.0


def come_back(fault: Fault) -> str:
    """When a limit that lasts ends, as far as the server says."""
    if not fault.retry_after_s or fault.retry_after_s > _A_YEAR_S:
        return "the limit is by the day or longer, and the server does not say when it ends"
    moment = time.localtime(time.time() + fault.retry_after_s)
    hours, minutes = divmod(max(1, round(fault.retry_after_s / 60)), 60)
    return f"come back at {time.strftime('%Y-%m-%d %H:%M', moment)}, in {hours} h {minutes} min"


__all__ = ["ServerTeacher", "come_back", "identity_of", "normalise_url"]
