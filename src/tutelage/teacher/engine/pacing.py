"""The limiter of a teacher: a rate limiter for one server, a balancer for several."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tutelage.teacher.clients.server_pool import ServerPool
from tutelage.teacher.engine.balancer import Balancer, Limiter
from tutelage.teacher.engine.rate_limits import RateLimiter, RateLimits, RateWindow
from tutelage.teacher.teacher import Teacher

Windows = Callable[[str, str, float], RateWindow]
"""Makes the window of a limit: (server, unit, limit); the server is "" where there is one."""


def limiter_of(
    teacher: Teacher,
    on_note: Callable[[str], None],
    *,
    minute_s: float = 60.0,
    windows: Windows | None = None,
) -> Limiter:
    """What admits the requests to a teacher, by its settings.

    on_note:  called with each line of information for the user
    minute_s: seconds in a minute of the rate limits
    windows:  where the limits are not this process's alone
    """
    settings = teacher.settings
    limits = RateLimits(
        concurrency=settings.concurrency,
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        minute_s=minute_s,
    )
    if isinstance(teacher, ServerPool):
        teacher.on_note = on_note
        return Balancer(limits, teacher.servers, on_note, windows)

    def on_pause(seconds: float, asked: bool) -> None:
        why = "the server asks for a pause of" if asked else "the server does not answer: waiting"
        on_note(f"{why} {seconds:.0f} s")

    limiter = RateLimiter(
        limits,
        slow_start=settings.remote,
        on_pause=on_pause,
        window=None if windows is None else partial(windows, ""),
    )
    if hasattr(teacher, "on_headers"):
        teacher.on_headers = limiter.apply_headers
    return limiter
