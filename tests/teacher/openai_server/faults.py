"""Every kind of reply by name: answers, unusual answers, refusals and broken connections.

`Chaos` draws a kind from a request's prompt and from how often that prompt was asked before, not
from the order of arrival. So with one seed a prompt meets the same faults however many requests are
in flight. A fault of the prompt itself (too long, filtered) comes every time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from openai_server.options import Options


@dataclass(frozen=True)
class Reply:
    """The reply to one request: an answer or a fault.

    billed: whether the model's work is charged, even if the client does not receive it. None: if
            the status is 200 and nothing is sent in place of the answer
    """

    text: str | None = None  # None: by Options.text
    status: int = 200
    body: Any = None  # sent instead of an answer: bytes unchanged, anything else as JSON
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float | None = None  # before the first byte; None: as in Options
    finish_reason: str = "stop"
    refusal: str | None = None  # message.refusal; the content is then null
    usage: bool = True
    zero_usage: bool = False  # zero tokens are reported, whatever is billed
    completion_tokens: int | None = None  # None: random, 1..max_tokens
    choices: int = 1
    copies: int = 1  # of the whole JSON in one body
    keep: float = 1.0  # share of the body's bytes that is sent as if it were the whole
    cut: float | None = None  # share of the body after which the connection breaks
    reset: bool = False  # the connection breaks by RST; without a `cut`, before any byte
    stall: bool = False  # nothing is sent until the client disconnects
    content_type: str = "application/json"
    lines: int = 1  # in a batch: how often its line is in the output file
    billed: bool | None = None

    @property
    def is_billed(self) -> bool:
        return self.billed if self.billed is not None else self.status == 200 and self.body is None

    @property
    def is_answer(self) -> bool:
        """Whether the client receives a completion that it can parse."""
        broken = self.reset or self.stall or self.cut is not None
        whole = self.copies == 1 and self.keep == 1.0 and self.choices >= 1
        whole = whole and self.finish_reason != "error"
        plain = self.status == 200 and self.body is None and self.lines > 0
        return plain and whole and not broken and self.content_type == "application/json"


def error(
    status: int,
    message: str,
    code: str | None = None,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """A refusal in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""
    value = {"message": message, "type": kind, "param": param, "code": code}
    return Reply(status=status, body={"error": value}, headers=dict(headers or {}))


def rate_limited(headers: Mapping[str, str], what: str = "requests") -> Reply:
    message = f"Rate limit reached for m on {what} per min. Please try again later."
    return error(429, message, "rate_limit_exceeded", kind=what, headers=headers)


def unsupported(parameter: str) -> Reply:
    """A model's error for a parameter that it does not support."""
    if parameter == "max_tokens":
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead."
        )
        return error(400, message, "unsupported_parameter", param=parameter)
    if parameter == "temperature":
        message = (
            "Unsupported value: 'temperature' does not support this value with this model. "
            "Only the default (1) value is supported."
        )
        return error(400, message, "unsupported_value", param=parameter)
    if parameter == "response_format":
        message = (
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with "
            "this model."
        )
        return error(400, message)
    message = f"Unsupported parameter: '{parameter}' is not supported with this model."
    return error(400, message, "unsupported_parameter", param=parameter)


_HTML = b"<html><head><title>Welcome</title></head><body>Please sign in.</body></html>"
_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


def _limit_headers(options: Options) -> dict[str, str]:
    wait = f"{options.retry_after_s * 1000:.0f}ms"
    return {
        "x-ratelimit-limit-requests": "60000",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": wait,
        "x-ratelimit-limit-tokens": "100000000",
        "x-ratelimit-remaining-tokens": "99999000",
        "x-ratelimit-reset-tokens": "1ms",
    }


Make = Callable[[Options], Reply]

# A temporary problem of the account or the network: the same request can be retried.
TRANSIENT: dict[str, Make] = {
    "429": lambda o: rate_limited({}),
    "429_retry_after": lambda o: rate_limited({"Retry-After": f"{o.retry_after_s:g}"}),
    "429_headers": lambda o: rate_limited(_limit_headers(o)),
    "500": lambda o: error(500, "The server had an error.", kind="server_error"),
    "502": lambda o: Reply(status=502, body=_GATEWAY, content_type="text/html", billed=True),
    "503": lambda o: error(503, "The engine is overloaded, try again.", kind="server_error"),
    "stall": lambda o: Reply(stall=True),
    "reset": lambda o: Reply(reset=True),
    "reset_body": lambda o: Reply(reset=True, cut=0.5),
    "short_body": lambda o: Reply(cut=0.5),
    "truncated": lambda o: Reply(keep=0.6),
    "invalid_json": lambda o: Reply(body=b"{'choices': because,}", billed=True),
    "html": lambda o: Reply(body=_HTML, content_type="text/html", billed=True),
    "empty_choices": lambda o: Reply(choices=0),
    "twice": lambda o: Reply(copies=2),
    "finish_error": lambda o: Reply(finish_reason="error"),
    "choice_error": lambda o: Reply(
        body={"choices": [{"message": {"content": "Bec"}, "error": {"code": 502, "message": "x"}}]},
        billed=True,
    ),
    "error_in_200": lambda o: replace(
        error(500, "The upstream server failed.", kind="server_error"), status=200
    ),
}
# Answers, but unusual ones.
ODD: dict[str, Make] = {
    "slow": lambda o: Reply(delay_s=o.slow_s),
    "length": lambda o: Reply(finish_reason="length"),
    "content_filter": lambda o: Reply(text="", finish_reason="content_filter"),
    "refusal": lambda o: Reply(refusal="I'm sorry, I cannot help with that."),
    "refusal_text": lambda o: Reply(text="I'm sorry, but I can't assist with that request."),
    "no_usage": lambda o: Reply(usage=False),
    "zero_usage": lambda o: Reply(zero_usage=True),
    "two_choices": lambda o: Reply(choices=2),
    "reasoning_in_text": lambda o: Reply(text="<think>Perhaps.</think>Because of that."),
}
# This prompt is refused every time.
ROW: dict[str, Make] = {
    "context_length": lambda o: error(
        400,
        "This model's maximum context length is 8 tokens. Please shorten the messages.",
        "context_length_exceeded",
        param="messages",
    ),
    "400_filter": lambda o: error(
        400, "The prompt was flagged by the content policy.", "content_filter", param="prompt"
    ),
    "400": lambda o: error(400, "Invalid 'messages[0].content'.", "invalid_value"),
    "403_moderated": lambda o: error(403, "Your input was flagged by moderation."),
    "422_unknown": lambda o: error(422, "Zork."),
}
# No request will be answered.
ACCOUNT: dict[str, Make] = {
    "401": lambda o: error(401, "Incorrect API key provided.", "invalid_api_key"),
    "404_model": lambda o: error(
        404, "The model does not exist or you do not have access to it.", "model_not_found"
    ),
    "400_parameter": lambda o: error(
        400, "Unknown parameter: 'frob'.", "unknown_parameter", param="frob"
    ),
    "400_account": lambda o: error(400, "Your credit balance is too low."),
    "insufficient_quota": lambda o: error(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        kind="insufficient_quota",
    ),
}
# Only in a batch's output.
LINE: dict[str, Make] = {
    "line_missing": lambda o: Reply(lines=0),
    "line_twice": lambda o: Reply(lines=2),
    "line_mangled": lambda o: Reply(keep=0.5),
}
KINDS: dict[str, Make] = {**TRANSIENT, **ODD, **ROW, **ACCOUNT, **LINE}


def spread(share: float, kinds: Iterable[str]) -> dict[str, float]:
    """Probabilities that sum to `share`, equal for all kinds."""
    names = list(kinds)
    return {name: share / len(names) for name in names}


class Chaos:
    """Draws a fault, or none. Raises KeyError for an unknown kind, ValueError above 1."""

    def __init__(self, options: Options, faults: Mapping[str, float]) -> None:
        if sum(faults.values()) > 1 + 1e-9:
            raise ValueError(f"faults' probabilities sum to {sum(faults.values())}, not <= 1")
        self._options = options
        self._own = [(KINDS[kind], share) for kind, share in faults.items() if kind in ROW]
        self._other = [(KINDS[kind], share) for kind, share in faults.items() if kind not in ROW]

    def draw(self, prompt: str, before: int) -> Reply:
        own = sum(share for _, share in self._own)
        place = random.Random(f"{self._options.seed}:{prompt}").random()
        if place < own:
            return self._pick(self._own, place)
        if not self._other:
            return Reply()
        # Scaled to what is left, so that each kind has its own probability.
        again = random.Random(f"{self._options.seed}:{before}:{prompt}").random()
        return self._pick(self._other, again * (1 - own))

    def _pick(self, kinds: list[tuple[Make, float]], place: float) -> Reply:
        for make, share in kinds:
            if place < share:
                return make(self._options)
            place -= share
        return Reply()
