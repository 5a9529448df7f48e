"""How a server is reached: its address, the key, further headers, certificates and the proxy.

The key and the headers go into requests and nowhere else: `clean` removes them from everything that
a server sends, before it is parsed, stored or shown.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.environment import expand_variables
from tutelage.core.errors import AuthenticationError, UsageError
from tutelage.teacher.clients.anthropic_api import ANTHROPIC
from tutelage.teacher.clients.dialect import Dialect
from tutelage.teacher.clients.gemini_api import GEMINI
from tutelage.teacher.clients.openai_api import OPENAI

_MESSAGE_LIMIT = 300  # characters of a server's message that are repeated in an error of ours
_KEY_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})
_MIN_SECRET = 8  # shorter "keys" are words such as EMPTY, which may be part of an answer


def dialect_of(settings: TeacherSettings) -> Dialect:
    """The dialect of a teacher that is a server."""
    found: tuple[Dialect, ...] = (OPENAI, ANTHROPIC, GEMINI)
    return next((one for one in found if one.scheme == settings.scheme), OPENAI)


class Access:
    """The address and the secrets of one server. Constructing it needs no key.

    settings: with one address (`TeacherSettings.each_server`)
    dialect: how the server is spoken to
    base:    the address as given, with its query; address: the same as it is shown and stored
    headers: of each request, the key included; empty until `open`
    secrets: the key and the values of headers, except short ones

    Raises UsageError for an address that cannot be one, and for a missing file of certificates.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings
        self.dialect = dialect_of(settings)
        self.base = (settings.addresses[0] or self.dialect.base_url).strip()
        self.address = normalise_url(self.base)
        self.key = ""
        self.headers: dict[str, str] = {}
        self.secrets: tuple[str, ...] = ()
        path = urlsplit(self.address).path
        if (end := next((e for e in self.dialect.endpoints if path.endswith(e)), None)) is not None:
            raise UsageError(
                f"teacher.base_url {self.address!r}: the endpoint is added to it: leave out {end}, "
                f"such as {self.address.removesuffix(end)!r}"
            )
        self._certificates()

    def open(self) -> None:
        """Read the key and the headers.

        Raises AuthenticationError where the address is the provider's own and the key's variable is
        not set, and for a key that no header can carry; UsageError for an unset variable in
        `headers`.
        """
        variable = self.settings.key_variable
        self.key = os.environ.get(variable, "").strip()
        given = {name: expand_variables(v) for name, v in (self.settings.headers or {}).items()}
        names = {name.lower() for name in given}
        if not self.key and self.address == self.dialect.base_url and not names & _KEY_HEADERS:
            raise AuthenticationError(
                f"no key for {self.address}: set the environment variable {variable}, or name "
                "another one in teacher.api_key_env, or another server in teacher.base_url"
            )
        if not (self.key.isascii() and self.key.isprintable()):
            raise AuthenticationError(
                f"the environment variable {variable} contains characters that no key has"
            )
        if wrong := [n for n, v in given.items() if not (v.isascii() and v.isprintable())]:
            raise UsageError(f"teacher.headers: the value of {wrong[0]!r} is not one line of text")
        own = self.dialect.headers(self.key, self.settings.api_key_header)
        self.headers = {name: own[name] for name in own if name.lower() not in names} | given
        self.secrets = tuple(
            secret for secret in (self.key, *given.values()) if len(secret) >= _MIN_SECRET
        )

    def endpoint(self, path: str) -> str:
        """The address of an endpoint. A query of the base (an `api-version`) is kept."""
        return endpoint(self.base, path)

    def certificates(self) -> ssl.SSLContext | bool:
        """What a connection trusts: `ca_file`, or the system's certificates (True)."""
        return self._certificates() or True

    def _certificates(self) -> ssl.SSLContext | None:
        if self.settings.ca_file is None:
            return None
        path = Path(expand_variables(self.settings.ca_file)).expanduser()
        try:
            return ssl.create_default_context(cafile=str(path))
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"teacher.ca_file {str(path)!r}: cannot be read as certificates "
                f"({error.strerror or error}): expected a PEM file"
            ) from error

    def proxy(self) -> str | None:
        """The proxy that the environment names for this address."""
        parts = urlsplit(self.base)
        if is_loopback(self.base) or urllib.request.proxy_bypass(parts.hostname or ""):
            return None
        return urllib.request.getproxies().get(parts.scheme)

    def clean(self, text: str) -> str:
        """A server's text without the secrets, in case it repeats them."""
        for secret in self.secrets:
            text = text.replace(secret, "[key]")
        return text

    def line(self, text: str) -> str:
        """A server's message as part of a one-line message."""
        line = self.clean(" ".join(text.split()))
        if self.key:
            line = line.replace(self.key, "[key]")
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


def _without_userinfo(url: str) -> str:
    return url.rpartition("@")[2]
