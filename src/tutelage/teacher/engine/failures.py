"""What can go wrong with one question, and what each fault calls for."""

from __future__ import annotations

import email.utils
import enum
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field


class Verdict(enum.Enum):
    """What an answer that is none calls for."""

    RETRY = "transient: ask again after a while"
    ROW = "this question is at fault: its row fails"
    REFUSED = "the server's filter: an answer of a kind"
    MODEL = "the model is not served: stop"
    KEY = "no key, or a wrong one: stop"
    ACCOUNT = "nothing left to pay with: stop"
    PARAMETER = "the model refuses a parameter: stop"


class Kind(enum.Enum):
    """Sorts of transient fault, which differ in how often asking again is worth it."""

    THROTTLED = "too many requests"
    SERVER = "the server's own fault"
    TIMEOUT = "no answer in time"
    CONNECTION = "the connection broke"
    GARBLED = "an answer that cannot be read"


class Fault(Exception):
    """One attempt that brought no answer.

    verdict:       what it calls for
    kind:          the sort of a transient one
    retry_after_s: how long the server asks to be left alone
    unreached:     True where the server was not even reached
    unpaid:        True where the server has certainly not answered, so that nothing is owed: it was
                   not reached, or it refused with a 4xx. All else may have been charged
    """

    def __init__(
        self,
        verdict: Verdict,
        message: str,
        *,
        kind: Kind = Kind.SERVER,
        retry_after_s: float | None = None,
        unreached: bool = False,
        unpaid: bool = False,
    ) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.unreached = unreached
        self.unpaid = unpaid or unreached


_CODES: Mapping[str, Verdict] = {
    "insufficient_quota": Verdict.ACCOUNT,
    "billing_not_active": Verdict.ACCOUNT,
    "billing_hard_limit_reached": Verdict.ACCOUNT,
    "account_deactivated": Verdict.ACCOUNT,
    "invalid_api_key": Verdict.KEY,
    "content_filter": Verdict.REFUSED,
    "content_policy_violation": Verdict.REFUSED,
    "context_length_exceeded": Verdict.ROW,
    "rate_limit_exceeded": Verdict.RETRY,
    "unsupported_parameter": Verdict.PARAMETER,
    "unsupported_value": Verdict.PARAMETER,
    "unknown_parameter": Verdict.PARAMETER,
}
"""Error codes of servers seen so far; they say more than the status does."""

_STATUSES: Mapping[int, Verdict] = {
    401: Verdict.KEY,
    402: Verdict.ACCOUNT,
    403: Verdict.KEY,
    404: Verdict.MODEL,
    408: Verdict.RETRY,
    409: Verdict.RETRY,
    410: Verdict.MODEL,
    425: Verdict.RETRY,
    429: Verdict.RETRY,
}

_MODEL_CODE = re.compile(
    r"model_?(?:is_|was_)?(?:not_?(?:found|available|supported)|decommissioned|deprecated|retired)"
)
_MODEL_MESSAGE = re.compile(
    r"\bmodel\b[^.]*?\b(?:deprecated|retired|decommissioned|shut ?down|does not exist"
    r"|no longer (?:served|available|supported)|not found)\b",
    re.IGNORECASE,
)


def judge(status: int, code: str = "", message: str = "") -> Verdict:
    """The decision table: the error's code first, then what it says of the model, then the status.

    status: HTTP's. code, message: of the error object in the body, empty where there is none.
    """
    code = code.lower()
    if code in _CODES:
        return _CODES[code]
    if _MODEL_CODE.search(code) or (status in (400, 404, 422) and _MODEL_MESSAGE.search(message)):
        return Verdict.MODEL
    return _STATUSES.get(status, Verdict.RETRY if status >= 500 else Verdict.ROW)


def kind_of(status: int) -> Kind:
    """The sort of a transient fault that came as an HTTP status."""
    return Kind.THROTTLED if status in (429, 503) else Kind.SERVER


_ATTEMPTS: Mapping[Kind, int] = {
    Kind.THROTTLED: 20,
    Kind.SERVER: 6,
    Kind.TIMEOUT: 3,
    Kind.CONNECTION: 6,
    Kind.GARBLED: 4,
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long apart one question is asked.

    attempts:          by the sort of fault; each sort has its own count
    first_attempts:    while nothing at all has ever answered at the address: a server that is down
                       is said to be down within seconds
    base_s, cap_s:     the wait after the n-th fault is drawn evenly from half to all of
                       base_s · 2^(n-1), at most cap_s: so clients that failed together do not
                       come back together
    max_retry_after_s: the most of a server's own Retry-After that is waited
    """

    attempts: Mapping[Kind, int] = field(default_factory=lambda: _ATTEMPTS)
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
    """Seconds that a server asks to wait: `retry-after-ms`, or `Retry-After`, a number or date."""
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
