"""What can go wrong with an attempt at a request, and the action that each fault calls for."""

from __future__ import annotations

import email.utils
import enum
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field


class Action(enum.Enum):
    """What to do about an attempt that brought no answer."""

    RETRY = "transient: retry after a delay"
    FAIL_REQUEST = "this request is at fault: its rows fail"
    KEEP_REFUSAL = "the content filter refused: keep that as the answer"
    STOP_MODEL = "the model is not served: stop the run"
    STOP_KEY = "the API key is missing or wrong: stop the run"
    STOP_ACCOUNT = "the account cannot pay: stop the run"
    STOP_PARAMETER = "the model does not support a parameter: stop the run"


class FaultKind(enum.Enum):
    """Kinds of transient fault; the retry policy allows each its own number of attempts.

    The values are stored in the ledger as reasons of failures: they do not change.
    """

    THROTTLED = "too many requests"
    SERVER = "the server's own fault"
    TIMEOUT = "no answer in time"
    CONNECTION = "the connection broke"
    GARBLED = "an answer that cannot be read"


class Fault(Exception):
    """One attempt that brought no answer.

    action:        what it calls for
    kind:          of a transient fault
    retry_after_s: the delay that the server asks for, in seconds
    unreached:     True where the server was not even reached
    unpaid:        True where the server has certainly not answered, so that nothing is owed: it was
                   not reached, or it refused with a 4xx. Any other attempt may have been charged
    """

    def __init__(
        self,
        action: Action,
        message: str,
        *,
        kind: FaultKind = FaultKind.SERVER,
        retry_after_s: float | None = None,
        unreached: bool = False,
        unpaid: bool = False,
    ) -> None:
        super().__init__(message)
        self.action = action
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.unreached = unreached
        self.unpaid = unpaid or unreached


_CODES: Mapping[str, Action] = {
    "insufficient_quota": Action.STOP_ACCOUNT,
    "billing_not_active": Action.STOP_ACCOUNT,
    "billing_hard_limit_reached": Action.STOP_ACCOUNT,
    "account_deactivated": Action.STOP_ACCOUNT,
    "invalid_api_key": Action.STOP_KEY,
    "content_filter": Action.KEEP_REFUSAL,
    "content_policy_violation": Action.KEEP_REFUSAL,
    "context_length_exceeded": Action.FAIL_REQUEST,
    "rate_limit_exceeded": Action.RETRY,
    "unsupported_parameter": Action.STOP_PARAMETER,
    "unsupported_value": Action.STOP_PARAMETER,
    "unknown_parameter": Action.STOP_PARAMETER,
}
"""Error codes that servers are known to send. They are more specific than the status."""

_STATUSES: Mapping[int, Action] = {
    401: Action.STOP_KEY,
    402: Action.STOP_ACCOUNT,
    403: Action.STOP_KEY,
    404: Action.STOP_MODEL,
    408: Action.RETRY,
    409: Action.RETRY,
    410: Action.STOP_MODEL,
    425: Action.RETRY,
    429: Action.RETRY,
}

_MODEL_CODE = re.compile(
    r"model_?(?:is_|was_)?(?:not_?(?:found|available|supported)|decommissioned|deprecated|retired)"
)
_MODEL_MESSAGE = re.compile(
    r"\bmodel\b[^.]*?\b(?:deprecated|retired|decommissioned|shut ?down|does not exist"
    r"|no longer (?:served|available|supported)|not found)\b",
    re.IGNORECASE,
)


def action_for(status: int, code: str = "", message: str = "") -> Action:
    """The action that an error response calls for.

    The error's code decides first, then what the message says about the model, then the status.

    status: the HTTP status. code, message: of the error object in the body, empty where there is
    none.
    """
    code = code.lower()
    if code in _CODES:
        return _CODES[code]
    if _MODEL_CODE.search(code) or (status in (400, 404, 422) and _MODEL_MESSAGE.search(message)):
        return Action.STOP_MODEL
    return _STATUSES.get(status, Action.RETRY if status >= 500 else Action.FAIL_REQUEST)


def fault_kind_of(status: int) -> FaultKind:
    """The kind of a transient fault that has this HTTP status."""
    return FaultKind.THROTTLED if status in (429, 503) else FaultKind.SERVER


_ATTEMPTS: Mapping[FaultKind, int] = {
    FaultKind.THROTTLED: 20,
    FaultKind.SERVER: 6,
    FaultKind.TIMEOUT: 3,
    FaultKind.CONNECTION: 6,
    FaultKind.GARBLED: 4,
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How many attempts a request gets, and the delays between them.

    attempts:          by kind of fault; each kind has its own count
    first_attempts:    while nothing has ever answered at the address, so that a server that is down
                       is reported within seconds
    base_s, cap_s:     the delay after the n-th fault is drawn uniformly from half to all of
                       base_s · 2^(n-1), at most cap_s, so that clients that failed together do not
                       retry together
    max_retry_after_s: a longer Retry-After of the server is cut to this
    """

    attempts: Mapping[FaultKind, int] = field(default_factory=lambda: _ATTEMPTS)
    first_attempts: int = 3
    base_s: float = 0.5
    cap_s: float = 30.0
    max_retry_after_s: float = 60.0

    def delay(self, attempt: int, retry_after_s: float | None = None) -> float:
        """Seconds to wait after the given attempt, counted from 1, has failed."""
        backoff = min(self.cap_s, self.base_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        if retry_after_s is None:
            return backoff
        return max(backoff, min(retry_after_s, self.max_retry_after_s))


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """The delay that a server asks for, in seconds, or None where it asks for none.

    Read from `retry-after-ms`, then from `Retry-After`, which holds a number or a date.
    """
    for name, unit in (("retry-after-ms", 0.001), ("Retry-After", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * unit)
        except ValueError:
            pass
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        except (TypeError, ValueError):
            continue
    return None
