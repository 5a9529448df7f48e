"""How each kind of server is spoken to: OpenAI's protocol, Anthropic's and Gemini's own.

A dialect says where requests go and what they and their answers look like. Transport, retries,
rate limits, ledger and budget are the same for all (`http_api`, `engine/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from tutelage.core.types import Completion, Request


class Result(NamedTuple):
    """The result of one request in a batch, from one line of its results.

    key:    the request's; None where the line names none
    status: the HTTP status that the answer would have had; None where the line is not understood
    body:   of the answer or of the error
    billed: whether the server may charge for it; None: by the status
    """

    key: str | None
    status: int | None = None
    body: Any = None
    billed: bool | None = None


class Dialect(Protocol):
    """What differs between the servers' protocols."""

    @property
    def scheme(self) -> str:
        """Of `teacher.model`."""
        ...

    @property
    def base_url(self) -> str:
        """The provider's own address."""
        ...

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Ends of an address that are added to it, and that a user may have copied."""
        ...

    def headers(self, key: str, key_header: str | None) -> dict[str, str]:
        """The headers of each request. key: empty where there is none"""
        ...

    def path(self, model: str) -> str:
        """Where requests go, below the base address."""
        ...

    def body(self, request: Request) -> dict[str, Any]:
        """The body of a request."""
        ...

    def is_answer(self, value: Mapping[str, Any]) -> bool:
        """Whether the body of a 200 is an answer and no error."""
        ...

    def completion(self, value: dict[str, Any]) -> Completion:
        """Parse an answer. Raises Fault where it is none."""
        ...

    def limits(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The server's statements about rate limits under OpenAI's names; empty without any."""
        ...

    @property
    def models_query(self) -> dict[str, str]:
        """The query that makes the list of models one page."""
        ...

    def batch_line(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request of a batch."""
        ...

    def batch_result(self, value: dict[str, Any]) -> Result:
        """Parse one line of a batch's results."""
        ...
