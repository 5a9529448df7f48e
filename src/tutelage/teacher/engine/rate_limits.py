"""The governor: the one place that says when the next request may leave.

It owns the rates (given, or learnt from the server's headers), how many requests are in flight
(additive increase, multiplicative decrease, as in TCP), the pauses that a server asks for, and the
breaker that ends a run against a server that is gone.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.core.errors import ServerUnreachableError, TeacherError
from tutelage.teacher.engine.failures import Fault, Kind
from tutelage.teacher.teacher import RequestFailedError

_DECREASE = 0.7
"""What a sign of congestion leaves of the number in flight."""
_UNTIL_BREAK = 16
"""Faults without an answer between them, beyond those in flight, that open the breaker."""
_PROBE_S, _PROBE_CAP_S = 1.0, 30.0
"""Seconds between two questions to a server that seems gone: at first, and at most."""
_LEAST_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Limits:
    """What the governor keeps to.

    concurrency:         requests in flight at most
    requests_per_minute: None: as the server's headers say, if they do
    tokens_per_minute:   likewise; prompt and answer together
    minute_s:            seconds in a minute (servers under test have short ones)
    max_pause_s:         the longest pause that a server is granted, whatever it asks for
    give_up_s:           seconds without one answer after which a failing server is given up
    """

    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    minute_s: float = 60.0
    max_pause_s: float = 60.0
    give_up_s: float = 180.0


class Rate:
    """At most `limit` units in any stretch of `seconds`, whenever the other side counts them.

    The server counts a request at some moment between its leaving and its answer, unknown to us.
    So an amount counts from its leaving until `seconds` after its end: no stretch of the server's
    can then hold more than ours. Besides, they leave evenly, no more than a sixtieth of the limit
    (or one request) ahead of the even pace: servers also count in seconds.
    """

    def __init__(self, limit: float, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._open = 0.0
        self._ended: deque[tuple[float, float]] = deque()
        self._recent = 0.0
        self._even = 0.0

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may leave; 0: now; a guess where it hangs on others to end."""
        while self._ended and self._ended[0][0] <= now:
            self._recent -= self._ended.popleft()[1]
        if not self._ended:
            self._recent = 0.0  # sums of floats drift
        used = self._open + self._recent
        # What is above the limit all by itself goes alone.
        if used > 0 and used + amount > self.limit:
            return max(self._ended[0][0] - now, _LEAST_PAUSE_S) if self._ended else _LEAST_PAUSE_S
        ahead = self._even - now - self.seconds / 60
        return ahead if ahead > 0 else 0.0

    def leave(self, amount: float, now: float) -> None:
        """`amount` leaves."""
        self._open += amount
        self._even = max(self._even, now) + amount * self.seconds / self.limit

    def end(self, held: float, used: float, now: float) -> None:
        """What left as `held` has ended, and was `used` in truth."""
        self._open = max(0.0, self._open - held)
        self._recent += used
        self._ended.append((now + self.seconds, used))


@dataclass(slots=True)
class Permit:
    """One request's leave to go. tokens: what it was taken for."""

    tokens: int
    left: float


class Governor:
    """Lets requests go, one `admit` each, and hears of each of them how it ended."""

    def __init__(self, limits: Limits, *, patient: bool = True) -> None:
        """patient: False for a teacher in this process, which no pause can help."""
        self.limits = limits
        self.in_flight = 0
        self.answered = 0
        # One goes first: a wrong key or model is found out for the price of one request.
        self.allowed = 1.0 if patient else float(limits.concurrency)
        self._climbing = True  # doubles each round trip until the first sign of congestion
        self._waiting: deque[tuple[asyncio.Future[Permit], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._paused_until = 0.0
        self._cut_at = 0.0
        self.faults = 0
        self._failing_since: float | None = None
        self._probe_s = _PROBE_S
        minute = limits.minute_s
        self._requests = (
            None if limits.requests_per_minute is None else Rate(limits.requests_per_minute, minute)
        )
        self._tokens = (
            None if limits.tokens_per_minute is None else Rate(limits.tokens_per_minute, minute)
        )

    async def admit(self, tokens: int) -> Permit:
        """Wait until a request of at most `tokens` may leave. Each is followed by one of the four
        below."""
        if not self._waiting and self._delay(tokens, time.monotonic()) == 0:
            return self._let_go(tokens)
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, tokens))
        self._pump()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.withdrawn(future.result())
            raise

    def withdrawn(self, permit: Permit) -> None:
        """The request did not leave after all."""
        self._ended(permit, 0)

    def close(self) -> None:
        """Let nobody go any more."""
        self._closed = True

    def refused(self, permit: Permit) -> None:
        """The server will not answer this question: it works, and has counted what was asked."""
        self._heard()
        self._ended(permit, permit.tokens)

    def succeeded(self, permit: Permit, tokens: int | None) -> None:
        """An answer, with so many tokens where it is known what the server's limit was charged."""
        self._heard()
        top = self.limits.concurrency
        if self.allowed < top:
            self.allowed = min(top, self.allowed + (1.0 if self._climbing else 1 / self.allowed))
        self._ended(permit, permit.tokens if tokens is None else tokens)

    def _heard(self) -> None:
        self.answered += 1
        self.faults = 0
        self._failing_since = None
        self._probe_s = _PROBE_S

    def failed(self, permit: Permit, fault: Fault) -> None:
        """No answer. Raises ServerUnreachableError where there has been none for too long."""
        now = time.monotonic()
        if fault.kind in (Kind.THROTTLED, Kind.TIMEOUT) and permit.left >= self._cut_at:
            # Once a round trip: all that were in flight together tell of the same congestion.
            self.allowed = max(1.0, self.allowed * _DECREASE)
            self._climbing = False
            self._cut_at = now
        if fault.kind is Kind.THROTTLED and fault.retry_after_s:
            self._pause(fault.retry_after_s, now)
        self.faults += 1
        self._failing_since = self._failing_since or now
        if self.faults >= _UNTIL_BREAK + self.in_flight:
            self.allowed, self._climbing = 1.0, True
            self._pause(self._probe_s, now)
            self._probe_s = min(2 * self._probe_s, _PROBE_CAP_S)
        self._ended(permit, permit.tokens)
        if self.faults > _UNTIL_BREAK and now - self._failing_since > self.limits.give_up_s:
            raise ServerUnreachableError(
                f"no answer for {now - self._failing_since:.0f} s: {self.faults} faults in a row, "
                f"the last one: {fault}; answers so far are kept: run again to go on"
            )

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take the server's word for its limits: OpenAI's `x-ratelimit-*` headers.

        A limit that was given is kept where it is the lower one.
        """
        now = time.monotonic()
        for unit, given in (
            ("requests", self.limits.requests_per_minute),
            ("tokens", self.limits.tokens_per_minute),
        ):
            stated = _number(headers.get(f"x-ratelimit-limit-{unit}"))
            if stated is not None and stated > 0:  # some say -1 for none
                limit = stated if given is None else min(stated, given)
                name = f"_{unit}"
                rate: Rate | None = getattr(self, name)
                if rate is None:
                    setattr(self, name, Rate(limit, self.limits.minute_s))
                else:
                    rate.limit = limit
            if _number(headers.get(f"x-ratelimit-remaining-{unit}")) == 0:
                reset = parse_duration(headers.get(f"x-ratelimit-reset-{unit}", ""))
                if reset is not None:
                    self._pause(reset, now)

    def _pause(self, seconds: float, now: float) -> None:
        self._paused_until = max(self._paused_until, now + min(seconds, self.limits.max_pause_s))

    def _delay(self, tokens: int, now: float) -> float:
        """Seconds until a request may leave; -1: when another has ended."""
        if self._closed or self.in_flight >= int(self.allowed):
            return -1
        wait = max(0.0, self._paused_until - now)
        if self._requests is not None:
            wait = max(wait, self._requests.wait(1, now))
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(tokens, now))
        return wait

    def _let_go(self, tokens: int) -> Permit:
        now = time.monotonic()
        self.in_flight += 1
        if self._requests is not None:
            self._requests.leave(1, now)
        if self._tokens is not None:
            self._tokens.leave(tokens, now)
        return Permit(tokens, now)

    def _ended(self, permit: Permit, tokens: int) -> None:
        now = time.monotonic()
        self.in_flight -= 1
        if self._requests is not None:
            self._requests.end(1, 1, now)
        if self._tokens is not None:
            self._tokens.end(permit.tokens, tokens, now)
        if self._waiting:
            self._pump()

    def _pump(self) -> None:
        """Let go whoever may; come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            future, tokens = self._waiting[0]
            if future.done():
                self._waiting.popleft()
                continue
            delay = self._delay(tokens, time.monotonic())
            if delay == 0:
                self._waiting.popleft()
                future.set_result(self._let_go(tokens))
                continue
            if delay > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(max(delay, _LEAST_PAUSE_S / 4), self._pump)
            return


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_UNITS_S = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)


def parse_duration(text: str) -> float | None:
    """Seconds of `6m0s`, `12ms`, `1h2m3.5s` or a plain number; None for anything else."""
    plain = _number(text)
    if plain is not None:
        return plain
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        return None
    return sum(float(n) * unit for n, unit in zip(match.groups(), _UNITS_S, strict=True) if n)


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
        """A question was answered, now or before."""
        self._proven = True
        self._in_a_row = 0

    def rows_failed(self, error: RequestFailedError, rows: int) -> None:
        """So many rows have no answer, from now or before. Raises where that is too many."""
        self.failed += rows
        if self._max_failed is not None and self.failed > self._max_failed:
            raise TeacherError(
                f"{self.failed} rows failed, more than max_failed: {self._max_failed}; "
                f"the last one: {error}"
            ) from error

    def question_failed(self, error: RequestFailedError, rows: int) -> None:
        """A question was not answered, which `rows` rows had asked. Raises to stop the run."""
        self.rows_failed(error, rows)
        # A teacher that has answered may well refuse a row for good; one that never has is broken.
        if error.transient or not self._proven:
            self._in_a_row += 1
        if self._in_a_row >= (self.LATER if self._proven else self.FIRST):
            kind = ServerUnreachableError if error.transient else TeacherError
            raise kind(
                f"{self._in_a_row} questions in a row failed, the last one: {error}; stopped, and "
                "answers so far are kept: run again to go on"
            ) from error
