"""What to do about a fault: ask again, give up the row, or stop the run.

Rates, budgets and the sharing of a server's limits will come to live here.
"""

from __future__ import annotations

import email.utils
import enum
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.errors import ServerUnreachableError, TeacherError
from tutelage.teacher.base import QuestionFailedError


class Verdict(enum.Enum):
    """What an answer that is none calls for."""

    RETRY = "transient: ask again after a while"
    ROW = "this question is at fault: its row fails"
    REFUSED = "the server's filter: an answer of a kind"
    MODEL = "the model is not served: stop"
    KEY = "no key, or a wrong one: stop"
    ACCOUNT = "nothing left to pay with: stop"


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


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long apart one question is asked.

    attempts:          the first one included
    first_attempts:    while nothing at all has ever answered at the address: a server that is down
                       is said to be down within seconds
    base_s, cap_s:     the wait before attempt n + 1 is drawn evenly from half to all of
                       base_s · 2^(n-1), at most cap_s: so clients that failed together do not
                       come back together
    max_retry_after_s: the most of a server's own Retry-After that is waited
    """

    attempts: int = 5
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


class Health:
    """Tells a run that goes on failing from one with a few bad rows.

    proven: True where this teacher has answered before (an earlier run's answers were found).
    """

    FIRST = 5
    """Failures in a row after which a teacher that never answered is given up."""
    LATER = 20
    """Transient failures in a row, each after all its retries, after which any teacher is."""

    def __init__(self, *, proven: bool, max_failed: int | None) -> None:
        self._proven = proven
        self._max_failed = max_failed
        self._in_a_row = 0
        self.failed = 0

    def succeeded(self) -> None:
        """A question was answered."""
        self._proven = True
        self._in_a_row = 0

    def question_failed(self, error: QuestionFailedError, rows: int) -> None:
        """A question was not answered, which `rows` rows had asked. Raises to stop the run."""
        self.failed += rows
        if self._max_failed is not None and self.failed > self._max_failed:
            raise TeacherError(
                f"{self.failed} rows failed, more than max_failed: {self._max_failed}; "
                f"the last one: {error}"
            ) from error
        # A teacher that has answered may well refuse a row for good; one that never has is broken.
        if error.transient or not self._proven:
            self._in_a_row += 1
        if self._in_a_row >= (self.LATER if self._proven else self.FIRST):
            kind = ServerUnreachableError if error.transient else TeacherError
            raise kind(
                f"{self._in_a_row} questions in a row failed, the last one: {error}; stopped, and "
                "answers so far are kept: run again to go on"
            ) from error
