"""What can go wrong with an attempt at a request, and the action that each fault calls for."""

from __future__ import annotations

import email.utils
import enum
import math
import random
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tutelage.teacher.engine.fault_kinds import Action, FaultLine
from tutelage.teacher.engine.fault_table import TABLE

__all__ = [
    "Action",
    "Fault",
    "FaultKind",
    "RetryPolicy",
    "Ruling",
    "action_for",
    "exhausted_for",
    "fault_kind_of",
    "judge",
    "parse_duration",
    "parse_moment",
    "parse_retry_after",
]


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
    parameter:     the parameter that is refused, where one is named
    inferred:      True where words or a status alone say that it concerns every request
    page:          True where a web page came instead of an answer: the address may be wrong
    status:        the HTTP status; None without one
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
        parameter: str = "",
        inferred: bool = False,
        page: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.action = action
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.unreached = unreached
        self.unpaid = unpaid or unreached
        self.parameter = parameter
        self.inferred = inferred
        self.page = page
        self.status = status
        self.server: Any = None  # the teacher that it comes from, where that is one of several

    @property
    def signature(self) -> str:
        """The message without what differs from row to row: numbers, and what is quoted."""
        plain = re.sub(r"""(['"`]).*?\1""", "…", str(self).casefold())
        return re.sub(r"\d+", "0", plain)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What an error calls for.

    parameter: the one that is refused, where one is named
    inferred:  from words or from a status alone; False where one of the error's codes says it
    """

    action: Action
    line: FaultLine
    parameter: str = ""
    inferred: bool = True


def judge(
    status: int,
    codes: Collection[str] = (),
    message: str = "",
    parameters: Mapping[str, Any] | None = None,
    param: str = "",
) -> Ruling:
    """The first line of the fault table that applies to an error response.

    status:     the HTTP status; 200 for an error inside of a 200
    codes:      all codes and types of the error object
    parameters: what the request has set
    param:      the parameter that the error object names
    """
    given = parameters or {}
    named = _named_parameter(message, param, given)
    alone = _limit_is_too_large(message, given)
    for line in TABLE:
        if status not in line.statuses:
            continue
        if line.parameter:
            if named:
                return Ruling(line.action, line, named, not _coded(codes, line.action))
            continue
        if alone and line.action is Action.FAIL_REQUEST:
            continue
        if line.code is None and line.message is None:
            return Ruling(line.action, line)
        by_code = line.code is not None and any(line.code.fullmatch(code) for code in codes)
        by_message = line.message is not None and line.message.search(message) is not None
        if by_code or by_message:
            return Ruling(line.action, line, named, not by_code)
    return Ruling(Action.RETRY, TABLE[-1])


def _coded(codes: Collection[str], action: Action) -> bool:
    """Whether a code says what a line without codes of its own was found by."""
    patterns = [line.code for line in TABLE if line.action is action and line.code is not None]
    return any(pattern.fullmatch(code) for pattern in patterns for code in codes)


def action_for(
    status: int, code: str = "", message: str = "", parameters: Mapping[str, Any] | None = None
) -> Action:
    """The action that an error response calls for: see `judge`."""
    return judge(status, [code], message, parameters).action


_COMPLAINT = re.compile(
    r"support|permitted|allowed|unknown|unrecogni|unexpected|invalid|must|range|between|at most"
    r"|at least|too |deprecat|value|parameter|argument|field|propert|greater|less|larger|exceed"
    r"|only|extra",
    re.IGNORECASE,
)
_ALSO_CALLED = {
    "max_tokens": ("max_completion_tokens", "max_new_tokens", "max_output_tokens"),
    "reasoning_effort": (
        *("thinking", "effort", "output_config", "thinking_config"),
        *("thinking_level", "thinking_budget", "reasoning"),
    ),
    "response_format": ("output_config.format", "response_json_schema", "json_schema"),
}


def _named_parameter(message: str, param: str, given: Mapping[str, Any]) -> str:
    """The parameter of the request that an error is about; empty where it names none."""
    for name in given:
        spellings = (name, *_ALSO_CALLED.get(name, ()))
        if param and re.split(r"[.\[]", param)[0] in spellings:
            return name
        camel = {re.sub(r"_(\w)", lambda found: found[1].upper(), word) for word in spellings}
        words = "|".join(map(re.escape, {*spellings, *camel}))
        if _COMPLAINT.search(message) and re.search(rf"(?<![\w])(?:{words})(?![\w])", message):
            return name
    return ""


_LEAST_LIMIT = 100
"""No server allows fewer tokens than this: a smaller number in a message is something else."""


def _limit_is_too_large(message: str, given: Mapping[str, Any]) -> bool:
    """Whether `max_tokens` alone exceeds what the server allows, so that no row can fit: whether
    all other limits that the message names are smaller."""
    limit = given.get("max_tokens")
    if not isinstance(limit, int):
        return False
    named = {int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?![\d.])", message)}
    others = [n for n in named if n >= _LEAST_LIMIT and n != limit]
    return bool(others) and max(others) <= limit


def fault_kind_of(status: int) -> FaultKind:
    """The kind of a transient fault that has this HTTP status."""
    return FaultKind.THROTTLED if status in (429, 498, 503, 529) else FaultKind.SERVER


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
    max_retry_after_s: a run waits this long where the server asks for it; where it asks for longer,
                       the run ends and says when to come back
    """

    attempts: Mapping[FaultKind, int] = field(default_factory=lambda: _ATTEMPTS)
    first_attempts: int = 3
    base_s: float = 0.5
    cap_s: float = 30.0
    max_retry_after_s: float = 600.0

    def delay(self, attempt: int, retry_after_s: float | None = None) -> float:
        """Seconds to wait after the given attempt, counted from 1, has failed."""
        backoff = min(self.cap_s, self.base_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        if retry_after_s is None:
            return backoff
        return max(backoff, min(retry_after_s, self.max_retry_after_s))


def parse_retry_after(
    headers: Mapping[str, str], message: str = "", stated_s: float | None = None
) -> float | None:
    """The delay that a server asks for, in seconds, or None where it asks for none.

    Read from `retry-after-ms`, then from `Retry-After`, then from the reset of an exhausted limit,
    then from the body (stated_s), then from the message ("try again in 7m12s").
    """
    for name, unit in (("retry-after-ms", 0.001), ("Retry-After", 1.0)):
        value = headers.get(name)
        if value is not None and (seconds := parse_moment(value, unit)) is not None:
            return seconds
    resets = [exhausted_for(headers, unit) for unit in ("requests", "tokens", "")]
    if known := [seconds for seconds in resets if seconds is not None]:
        return max(known)
    if stated_s is not None:
        return stated_s
    found = _IN_WORDS.search(message)
    return None if found is None else parse_duration(found[1].replace(" ", ""))


_IN_WORDS = re.compile(
    r"(?:try again|retry|available|resets?) (?:in|after) "
    r"((?:\d+ ?d ?)?(?:\d+ ?h ?)?(?:\d+ ?m(?!s) ?)?(?:\d+(?:\.\d+)? ?s)?(?:\d+ ?ms)?)",
    re.IGNORECASE,
)


def exhausted_for(headers: Mapping[str, str], unit: str) -> float | None:
    """Seconds until a limit of `unit` (requests, tokens, or "" for both) is reset, where nothing of
    it remains; None where some remains or nothing is said."""
    end = f"-{unit}" if unit else ""
    for prefix in ("x-ratelimit", "ratelimit"):
        left = headers.get(f"{prefix}-remaining{end}")
        reset = headers.get(f"{prefix}-reset{end}")
        if left is not None and reset is not None and _is_zero(left):
            return parse_moment(reset)
    return None


def _is_zero(text: str) -> bool:
    try:
        return float(text) <= 0
    except ValueError:
        return False


_EPOCH_S, _EPOCH_MS = 10**9, 10**12
"""Larger numbers are a moment since 1970, in seconds or milliseconds, and no duration."""


def parse_moment(text: str, unit: float = 1.0) -> float | None:
    """Seconds from now until a moment; 0 for one that is past, None for what says no moment.

    text: a number of `unit` seconds, a duration (`6m0s`), seconds or milliseconds since 1970, or a
          date, as in HTTP or in ISO 8601
    """
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        duration = parse_duration(text)
        return duration if duration is not None else _until_date(text)
    if not math.isfinite(number):
        return None
    if number >= _EPOCH_MS:
        return max(0.0, number / 1000 - time.time())
    return max(0.0, number - time.time() if number >= _EPOCH_S else number * unit)


def _until_date(text: str) -> float | None:
    for parse in (datetime.fromisoformat, email.utils.parsedate_to_datetime):
        try:
            moment = parse(text)
        except (TypeError, ValueError):
            continue
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - time.time())
    return None


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_UNITS_S = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)


def parse_duration(text: str) -> float | None:
    """Seconds of `6m0s`, `12ms`, `1h2m3.5s` or a plain number; None for anything else."""
    try:
        return float(text)
    except ValueError:
        pass
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        return None
    return sum(float(n) * unit for n, unit in zip(match.groups(), _UNITS_S, strict=True) if n)
