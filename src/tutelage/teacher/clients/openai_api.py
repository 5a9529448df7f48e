"""OpenAI's chat completions and batches, which many servers offer, as a dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tutelage.core.types import Completion, Request
from tutelage.teacher.clients.dialect import Result
from tutelage.teacher.clients.wire import parse_completion, request_body

ENDPOINT: Final = "/v1/chat/completions"
"""What the requests of a batch of the OpenAI protocol are."""


_LIMIT_HEADERS = (
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining",
    "ratelimit-remaining",
)


class OpenAIDialect:
    """OpenAI's chat completions, and every server that offers them."""

    scheme = "openai"
    base_url = "https://api.openai.com/v1"
    endpoints = ("/chat/completions", "/completions", "/responses")
    models_query: dict[str, str] = {}  # noqa: RUF012  never changed

    def headers(self, key: str, key_header: str | None) -> dict[str, str]:
        """`Authorization: Bearer KEY`, or the header that the settings name."""
        if not key:
            return {}
        return {key_header: key} if key_header else {"Authorization": f"Bearer {key}"}

    def path(self, model: str) -> str:
        """`chat/completions`, whatever the model."""
        return "chat/completions"

    def body(self, request: Request) -> dict[str, Any]:
        """Model, messages and parameters."""
        return request_body(request)

    def is_answer(self, value: Mapping[str, Any]) -> bool:
        """Whether there are choices and no error."""
        return "choices" in value and not value.get("error")

    def completion(self, value: dict[str, Any]) -> Completion:
        """The first choice."""
        return parse_completion(value)

    def limits(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The headers as they are."""
        for name in _LIMIT_HEADERS:  # for every answer: `any` with a generator costs as much again
            if name in headers:
                return headers
        return {}

    def batch_line(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """A line of the input file."""
        return {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}

    def batch_result(self, value: dict[str, Any]) -> Result:
        """`{"custom_id": …, "response": {"status_code": …, "body": …}, "error": …}`"""
        key = value.get("custom_id")
        key = key if isinstance(key, str) else None
        error, response = value.get("error"), value.get("response")
        if error and not response:
            # The server says that the request was not processed.
            return Result(key, 500, {"error": error}, False)
        if not isinstance(response, dict):
            return Result(key)
        status = response.get("status_code")
        return Result(key, status if isinstance(status, int) else 200, response.get("body"))


OPENAI = OpenAIDialect()
