"""The rate limiter decides when the next request may be sent; nothing else does.

It keeps the rates (given, or read from the server's headers), adapts how many requests are in
flight (additive increase, multiplicative decrease, as in TCP), honours the pauses that a server
asks for, and ends a run against a server that has stopped answering (a circuit breaker).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tutelage.core.errors import ServerUnreachableError, TeacherError
from tutelage.teacher.engine.failures import Fault, FaultKind, exhausted_for
from tutelage.teacher.engine.requests import ActiveRequest
from tutelage.teacher.teacher import PoolServer, RequestFailedError

_DECREASE = 0.7
"""Factor for the number in flight at each sign of congestion."""
_UNTIL_BREAK = 16
"""Faults in a row, beyond those in flight, that open the circuit breaker."""
_PROBE_S, _PROBE_CAP_S = 1.0, 30.0
"""Seconds between two requests to a server that seems to be down: at first, and at most."""
_LEAST_PAUSE_S = 0.02
_SHOWN_PAUSE_S = 5.0
"""A pause of this many seconds or more is shown."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits that a rate limiter keeps.

    concurrency:         requests in flight at most
    requests_per_minute: None: as the server's headers say, if they do
    tokens_per_minute:   likewise; prompt and answer together
    minute_s:            seconds in a minute (test servers have shorter ones)
    max_pause_s:         a longer pause that a server asks for is not kept, but ends the run
    give_up_s:           seconds without an answer after which a failing server is given up
    """

    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    minute_s: float = 60.0
    max_pause_s: float = 600.0
    give_up_s: float = 180.0


class RateWindow:
    """At most `limit` units in any window of `seconds`, whenever the server counts them.

    The server counts a request at an unknown moment between its sending and its answer. So an
    amount counts from its start until `seconds` after its end: then no window of the server's holds
    more than one of ours. In addition, requests are spaced evenly, at most a sixtieth of the
    limit (or one request) ahead of the even pace: servers also count by the second.
    """

    def __init__(self, limit: float, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._open = 0.0
        self._ended: deque[tuple[float, float]] = deque()
        self._recent = 0.0
        self._even = 0.0

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may start; 0: now. A guess where other requests must end first."""
        while self._ended and self._ended[0][0] <= now:
            self._recent -= self._ended.popleft()[1]
        if not self._ended:
            self._recent = 0.0  # sums of floats drift
        used = self._open + self._recent
        # An amount above the whole limit goes alone.
        if used > 0 and used + amount > self.limit:
            return max(self._ended[0][0] - now, _LEAST_PAUSE_S) if self._ended else _LEAST_PAUSE_S
        ahead = self._even - now - self.seconds / 60
        return ahead if ahead > 0 else 0.0

    def start(self, amount: float, now: float) -> None:
        """Count `amount` from now on."""
        self._open += amount
        self._even = max(self._even, now) + amount * self.seconds / self.limit

    def resume(self, amount: float) -> None:
        """Count `amount` that was started before this window was made."""
        self._open += amount

    def end(self, held: float, used: float, now: float) -> None:
        """End a request that was started with the amount `held` and turned out to use `used`."""
        self._open = max(0.0, self._open - held)
        self._recent += used
        self._ended.append((now + self.seconds, used))


@dataclass(slots=True)
class Permit:
    """Permission to send one request.

    tokens:     the bound that it was admitted with
    started_at: on the monotonic clock, in seconds
    server:     the one that it is for, of several (`balancer`); None where there is one
    """

    tokens: int
    started_at: float
    server: PoolServer | None = None


class RateLimiter:
    """Admits requests one by one, and learns how each of them ended.

    slow_start: begin with one request in flight; False for a teacher in this process, which has no
                server to spare
    on_pause:   called with the seconds of each longer pause, and whether the server asks for it;
                otherwise the server has stopped answering
    window:     makes the window of a limit, of `requests` or `tokens` a minute; None: one that this
                limiter alone uses
    """

    def __init__(
        self,
        limits: RateLimits,
        *,
        slow_start: bool = True,
        on_pause: Callable[[float, bool], None] | None = None,
        window: Callable[[str, float], RateWindow] | None = None,
    ) -> None:
        self.limits = limits
        self.on_pause = on_pause
        self.in_flight = 0
        self.answered = 0
        # One goes first: a wrong key or model costs one request.
        self.allowed = 1.0 if slow_start else float(limits.concurrency)
        self._doubling = True  # each round trip, until the first sign of congestion
        self._waiting: deque[tuple[asyncio.Future[Permit], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.paused_until = 0.0
        self._decreased_at = 0.0
        self.faults = 0
        self.failing_since: float | None = None
        self._probe_s = _PROBE_S
        self._window = window or (lambda unit, limit: RateWindow(limit, limits.minute_s))
        asked, read = limits.requests_per_minute, limits.tokens_per_minute
        self._requests = None if asked is None else self._window("requests", asked)
        self._tokens = None if read is None else self._window("tokens", read)

    async def admit(self, tokens: int, active: ActiveRequest | None = None) -> Permit:
        """Wait until a request of at most `tokens` may be sent, whichever it is.

        Each permit is given back through `not_sent`, `refused`, `succeeded` or `failed`.
        """
        if not self._waiting and self._delay(tokens, time.monotonic()) == 0:
            return self._start(tokens)
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, tokens))
        self._admit_waiting()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.not_sent(future.result())
            raise

    def not_sent(self, permit: Permit) -> None:
        """The request was not sent after all."""
        self._end(permit, 0)

    def close(self) -> None:
        """Admit nothing any more."""
        self._closed = True

    def refused(self, permit: Permit) -> None:
        """The server refused this request: it works, and has counted the request."""
        self._server_answered()
        self._end(permit, permit.tokens)

    def undecided(self, permit: Permit) -> None:
        """The server refused this request, and it is not known whether the request is at fault."""
        self._end(permit, permit.tokens)

    def succeeded(self, permit: Permit, tokens: int | None) -> None:
        """The request was answered.

        tokens: that count towards the server's limit; None where that is not known
        """
        self._server_answered()
        top = self.limits.concurrency
        if self.allowed < top:
            self.allowed = min(top, self.allowed + (1.0 if self._doubling else 1 / self.allowed))
        self._end(permit, permit.tokens if tokens is None else tokens)

    def _server_answered(self) -> None:
        self.answered += 1
        self.faults = 0
        self.failing_since = None
        self._probe_s = _PROBE_S

    def goes_elsewhere(self, permit: Permit, fault: Fault, *, judged: bool) -> bool:
        """Whether a request that was refused is made at another server: there is none."""
        return False

    def has_another(self, active: ActiveRequest) -> bool:
        """Whether another server can take a request that has failed: there is none."""
        return False

    def failed(self, permit: Permit, fault: Fault) -> None:
        """The request met a transient fault.

        Raises ServerUnreachableError where there has been no answer for too long.
        """
        now = time.monotonic()
        congested = fault.kind in (FaultKind.THROTTLED, FaultKind.TIMEOUT)
        if congested and permit.started_at >= self._decreased_at:
            # Once a round trip: all requests that were in flight together meet the same congestion.
            self.allowed = max(1.0, self.allowed * _DECREASE)
            self._doubling = False
            self._decreased_at = now
        if fault.kind is FaultKind.THROTTLED and fault.retry_after_s:
            self._pause(fault.retry_after_s, now)
        self.faults += 1
        self.failing_since = self.failing_since or now
        if self.faults >= _UNTIL_BREAK + self.in_flight:
            self.restart_slowly()
            self._pause(self._probe_s, now, asked=False)
            self._probe_s = min(2 * self._probe_s, _PROBE_CAP_S)
        self._end(permit, permit.tokens)
        if self.faults > _UNTIL_BREAK and now - self.failing_since > self.limits.give_up_s:
            raise ServerUnreachableError(
                f"no answer for {now - self.failing_since:.0f} s: {self.faults} faults in a row, "
                f"the last one: {fault}; the answers so far are kept: run again to continue"
            )

    def apply_headers(self, headers: Mapping[str, str]) -> None:
        """Take over the limits that a server states in OpenAI's `x-ratelimit-*` headers.

        A limit that was given stays where it is the lower one.
        """
        now = time.monotonic()
        for unit, given in (
            ("requests", self.limits.requests_per_minute),
            ("tokens", self.limits.tokens_per_minute),
        ):
            stated = _number(headers.get(f"x-ratelimit-limit-{unit}"))
            if stated is not None and stated > 0:  # some servers state -1 for no limit
                limit = stated if given is None else min(stated, given)
                name = f"_{unit}"
                window: RateWindow | None = getattr(self, name)
                if window is None:
                    setattr(self, name, self._window(unit, limit))
                else:
                    window.limit = limit
        for unit in ("requests", "tokens", ""):
            reset = exhausted_for(headers, unit)
            if reset is not None and reset <= self.limits.max_pause_s:
                # A longer one ends the run, when the server refuses the next request.
                self._pause(reset, now)

    def _pause(self, seconds: float, now: float, *, asked: bool = True) -> None:
        seconds = min(seconds, self.limits.max_pause_s)
        if now + seconds <= self.paused_until:
            return
        announced = self.paused_until - now >= _SHOWN_PAUSE_S
        self.paused_until = now + seconds
        if seconds >= _SHOWN_PAUSE_S and not announced and self.on_pause is not None:
            self.on_pause(seconds, asked)

    def restart_slowly(self) -> None:
        """Begin again with one request in flight."""
        self.allowed, self._doubling = 1.0, True

    def try_admit(self, tokens: int) -> Permit | float:
        """A permit, or the seconds until there may be one; -1: when a request has ended."""
        delay = self._delay(tokens, time.monotonic())
        return self._start(tokens) if delay == 0 else delay

    def _delay(self, tokens: int, now: float) -> float:
        """Seconds until a request may be sent; -1: when another one has ended."""
        if self._closed or self.in_flight >= int(self.allowed):
            return -1
        wait = max(0.0, self.paused_until - now)
        if self._requests is not None:
            wait = max(wait, self._requests.wait(1, now))
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(tokens, now))
        return wait

    def _start(self, tokens: int) -> Permit:
        now = time.monotonic()
        self.in_flight += 1
        if self._requests is not None:
            self._requests.start(1, now)
        if self._tokens is not None:
            self._tokens.start(tokens, now)
        return Permit(tokens, now)

    def _end(self, permit: Permit, tokens: int) -> None:
        now = time.monotonic()
        self.in_flight -= 1
        if self._requests is not None:
            self._requests.end(1, 1, now)
        if self._tokens is not None:
            self._tokens.end(permit.tokens, tokens, now)
        if self._waiting:
            self._admit_waiting()

    def _admit_waiting(self) -> None:
        """Admit every waiting request that may go, and set a timer for the next one."""
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
                future.set_result(self._start(tokens))
                continue
            if delay > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(max(delay, _LEAST_PAUSE_S / 4), self._admit_waiting)
            return


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


class FailureMonitor:
    """Ends a run in which requests keep failing, but not one with a few bad rows.

    proven: True where this teacher has answered before
    """

    FIRST = 5
    """Failures in a row that end the run of a teacher that has never answered."""
    LATER = 20
    """Transient failures in a row, each after all its retries, that end any run."""

    def __init__(self, *, proven: bool, max_failed: int | None) -> None:
        self._proven = proven
        self._max_failed = max_failed
        self._in_a_row = 0
        self.failed = 0

    def succeeded(self) -> None:
        """A request was answered, now or earlier."""
        self._proven = True
        self._in_a_row = 0

    def rows_failed(self, error: RequestFailedError, rows: int) -> None:
        """Count rows without an answer. Raises TeacherError above `max_failed`."""
        self.failed += rows
        if self._max_failed is not None and self.failed > self._max_failed:
            raise TeacherError(
                f"{self.failed} rows failed, more than max_failed: {self._max_failed}; "
                f"the last one: {error}"
            ) from error

    def request_failed(self, error: RequestFailedError, rows: int) -> None:
        """Count a request that failed now, and its rows.

        Raises TeacherError, or ServerUnreachableError after transient failures, to end the run.
        """
        self.rows_failed(error, rows)
        # A working teacher may refuse single rows for good; one that has never answered is broken.
        if error.transient or not self._proven:
            self._in_a_row += 1
        if self._in_a_row >= (self.LATER if self._proven else self.FIRST):
            kind = ServerUnreachableError if error.transient else TeacherError
            raise kind(
                f"{self._in_a_row} requests in a row failed, the last one: {error}; stopped. The "
                "answers so far are kept: run again to continue"
            ) from error
