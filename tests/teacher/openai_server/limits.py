"""Limits of requests and tokens in a sliding window, and the headers that report them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from openai_server.options import Options


def duration(seconds: float) -> str:
    """A time as OpenAI's headers write it: '12ms', '1.5s', '6m0s', '1h0m0s'."""
    milliseconds = max(0, math.ceil(seconds * 1000 - 1e-9))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    parts = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{parts}"
    return f"{minutes}m{parts}" if minutes else parts


@dataclass
class Window:
    """The last `window_s` seconds. allowed: None for no limit, and then nothing is recorded."""

    allowed: int | None
    window_s: float
    used: int = 0
    _taken: deque[tuple[float, int]] = field(default_factory=deque)

    def take(self, amount: int, now: float) -> None:
        if self.allowed is not None:
            self._taken.append((now, amount))
            self.used += amount

    def wait(self, amount: int, now: float) -> float:
        """Seconds until `amount` fits: 0 if it fits now, inf if it never will."""
        if self.allowed is None:
            return 0.0
        self._forget(now)
        if amount > self.allowed:
            return math.inf
        too_many, wait = self.used + amount - self.allowed, 0.0
        for taken_at, size in self._taken:
            if too_many <= 0:
                break
            too_many -= size
            wait = taken_at + self.window_s - now
        return wait

    def until_empty(self, now: float) -> float:
        self._forget(now)
        return self._taken[-1][0] + self.window_s - now if self._taken else 0.0

    def _forget(self, now: float) -> None:
        while self._taken and self._taken[0][0] <= now - self.window_s:
            self.used -= self._taken.popleft()[1]


class Limits:
    """Both limits of one account. A request that does not fit is refused and not counted."""

    def __init__(self, options: Options) -> None:
        self._options = options
        window_s = options.window_s - options.window_slack_s
        self._requests = Window(options.requests_per_window, window_s)
        self._tokens = Window(options.tokens_per_window, window_s)

    def admit(self, tokens: int, now: float) -> float:
        """Count one request of this many tokens, or return how many seconds it is too early."""
        wait = max(self._requests.wait(1, now), self._tokens.wait(tokens, now))
        if wait == 0:
            self._requests.take(1, now)
            self._tokens.take(tokens, now)
        return wait

    def headers(self, now: float) -> dict[str, str]:
        """The headers of an answer: the limit per minute, and what is left of the window."""
        found: dict[str, str] = {}
        if not self._options.rate_headers:
            return found
        for name, window in (("requests", self._requests), ("tokens", self._tokens)):
            if window.allowed is not None:
                reset = window.until_empty(now)
                a_minute = round(window.allowed * 60 / self._options.window_s)
                found[f"x-ratelimit-limit-{name}"] = str(a_minute)
                found[f"x-ratelimit-remaining-{name}"] = str(window.allowed - window.used)
                found[f"x-ratelimit-reset-{name}"] = duration(reset)
        return found
