"""The balancer: which of several servers takes the next request, and when.

Each server has a rate limiter of its own, with its own rates, pauses and number in flight. On top
of them the balancer decides by health and speed:

    a request -> the server of its prefix, if that is healthy
              -> else the healthy server with the least to do, in seconds

A server that fails rests: half a second, then twice as long each time, until it answers again. What
failed at one server is retried at another, as an attempt of its own. A server that refuses every
request (a wrong key, another model, an empty account) leaves; only the last one ends the run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from tutelage.core.errors import ServerUnreachableError
from tutelage.teacher.engine.failures import Action, Fault, FaultKind
from tutelage.teacher.engine.prefixes import prefix_of
from tutelage.teacher.engine.rate_limits import Permit, RateLimiter, RateLimits, RateWindow
from tutelage.teacher.engine.requests import ActiveRequest
from tutelage.teacher.teacher import PoolServer

_REST_S, _REST_CAP_S = 0.5, 30.0
"""Seconds for which a server gets nothing after a fault: at first, and at most."""
_SHOWN_REST_S = 2.0
"""A rest of this many seconds or more is shown."""
_UNTIL_REST = 3
"""Faults or refusals in a row after which a server rests; it rests at once where it is not reached
or does not answer in time."""
_AWAY_S = 1.0
"""A server that asks for a longer pause than this loses its prefixes to others."""
_RECENT = 0.2
"""Weight of the newest answer in the mean time of a server's answers."""
_MOST_PREFIXES = 100_000
"""Prefixes of which the server is remembered, at most."""


@dataclass(slots=True)
class _Place:
    """One server in the pool, and what is known of it.

    seconds:       mean time of its answers, the newest counting most; None before the first
    waiting:       requests that wait for it
    rest_s:        its latest rest; 0 where it has answered since
    resting_until: on the monotonic clock; inf for a server that has left
    rested_at:     when its latest rest began: a fault of a request that was sent earlier is part of
                   the same trouble
    refusals:      in a row
    shown:         whether the user has seen that it fails
    """

    server: PoolServer
    limiter: RateLimiter
    seconds: float | None = None
    waiting: int = 0
    rest_s: float = 0.0
    resting_until: float = 0.0
    rested_at: float = 0.0
    refusals: int = 0
    shown: bool = False

    @property
    def left(self) -> bool:
        return self.resting_until == math.inf

    def is_healthy(self, now: float) -> bool:
        return self.resting_until <= now and self.limiter.paused_until - now <= _AWAY_S

    def has_room(self, now: float) -> bool:
        limiter = self.limiter
        return (
            self.resting_until <= now
            and limiter.paused_until <= now
            and limiter.in_flight < int(limiter.allowed)
        )

    def seconds_to_do(self, unknown: float) -> float:
        """Seconds until it would have done all it has and one more, if it did one at a time."""
        mean = unknown if self.seconds is None else self.seconds
        return (self.limiter.in_flight + self.waiting + 1) * mean


@dataclass(slots=True)
class _PlacedPermit(Permit):
    """A permit for one request to one server."""

    place: _Place = field(kw_only=True)
    active: ActiveRequest = field(kw_only=True)


@dataclass(slots=True, eq=False)
class _Waiting:
    future: asyncio.Future[_PlacedPermit]
    tokens: int
    active: ActiveRequest
    prefix: int | None


class Balancer:
    """Admits requests to several servers, and learns how each of them ended. The counterpart of
    `RateLimiter`, whose methods it has.

    limits:  of each server
    on_note: called with each line of information for the user
    window:  as for RateLimiter, with the server's address first

    `limits.concurrency` of the balancer itself is twice what all servers may have in flight, so
    that a request which waits for its own server keeps no other server idle.
    """

    def __init__(
        self,
        limits: RateLimits,
        servers: Sequence[PoolServer],
        on_note: Callable[[str], None] = lambda line: None,
        window: Callable[[str, str, float], RateWindow] | None = None,
    ) -> None:
        self._note = on_note
        self._window = window
        self._places = [_Place(server, self._limiter(limits, server)) for server in servers]
        self.limits = dataclasses.replace(
            limits, concurrency=2 * limits.concurrency * len(self._places)
        )
        self._own = limits
        self._waiting: deque[_Waiting] = deque()
        self._homes: dict[int, _Place] = {}
        self._timer: asyncio.TimerHandle | None = None

    def _limiter(self, limits: RateLimits, server: PoolServer) -> RateLimiter:
        def on_pause(seconds: float, asked: bool) -> None:
            if asked:
                self._note(f"{server.address} asks for a pause of {seconds:.0f} s")

        window = None if self._window is None else partial(self._window, server.address)
        limiter = RateLimiter(limits, on_pause=on_pause, window=window)
        server.on_headers = limiter.apply_headers
        return limiter

    @property
    def in_flight(self) -> int:
        """Requests in flight at all servers."""
        return sum(place.limiter.in_flight for place in self._places)

    @property
    def answered(self) -> int:
        """Requests that the servers have answered."""
        return sum(place.limiter.answered for place in self._places)

    @property
    def faults(self) -> int:
        """Faults in a row, of the server that has fewest."""
        return min((p.limiter.faults for p in self._places if not p.left), default=0)

    # Admission.

    async def admit(self, tokens: int, active: ActiveRequest | None = None) -> Permit:
        """Wait until a request of at most `tokens` may be sent to a server, and choose that.

        Each permit is given back as one of RateLimiter's is.
        """
        assert active is not None
        future: asyncio.Future[_PlacedPermit] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(future, tokens, active, prefix_of(active.request)))
        self._admit_waiting()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.not_sent(future.result())
            raise

    def _admit_waiting(self) -> None:
        """Admit every waiting request that may go, and set a timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        delays = [
            until - now
            for place in self._places
            if now < (until := max(place.resting_until, place.limiter.paused_until)) < math.inf
        ]
        open_places = [place for place in self._places if place.has_room(now)]
        ahead: Counter[int] = Counter()
        kept: deque[_Waiting] = deque()
        while self._waiting and open_places:
            one = self._waiting.popleft()
            if one.future.done():
                continue
            while open_places and (place := self._choose(one, open_places, ahead, now)):
                admitted = place.limiter.try_admit(one.tokens)
                if isinstance(admitted, Permit):
                    one.future.set_result(
                        _PlacedPermit(
                            admitted.tokens,
                            admitted.started_at,
                            place.server,
                            place=place,
                            active=one.active,
                        )
                    )
                if isinstance(admitted, float) and admitted > 0:
                    delays.append(admitted)
                if not (isinstance(admitted, Permit) and place.has_room(now)):
                    open_places.remove(place)
                if isinstance(admitted, Permit):
                    break
            else:
                kept.append(one)
        if open_places:  # all were looked at: what waits, waits for its own server
            for place in self._places:
                place.waiting = ahead[id(place)]
        self._waiting = kept + self._waiting
        if self._waiting and delays:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(min(delays), 0.005), self._admit_waiting)

    def _choose(
        self, one: _Waiting, open_places: list[_Place], ahead: Counter[int], now: float
    ) -> _Place | None:
        """The server for a request; None where it is to wait.

        open_places: those that can take a request now
        ahead:       requests that were found to wait for each server before this one
        """
        failed_at = one.active.failed_at
        fresh = [p for p in self._places if p.is_healthy(now) and p.server.address not in failed_at]
        if not fresh and all(p.left or p.server.address in failed_at for p in self._places):
            failed_at.clear()
        home = None if one.prefix is None else self._homes.get(one.prefix)
        if home is not None and not home.is_healthy(now):
            home = None
        if home is not None and (home in fresh or not fresh):
            if home in open_places:
                return home
            if ahead[id(home)] < self._own.concurrency:
                ahead[id(home)] += 1
                return None
        able = [place for place in open_places if place in fresh or not fresh]
        if not able:
            return None
        known = [place.seconds for place in self._places if place.seconds is not None]
        best = min(able, key=lambda place: place.seconds_to_do(min(known, default=1.0)))
        if one.prefix is not None and home is None:
            self._homes.pop(one.prefix, None)
            self._homes[one.prefix] = best
            if len(self._homes) > _MOST_PREFIXES:
                del self._homes[next(iter(self._homes))]
        return best

    # The ends of requests.

    def not_sent(self, permit: Permit) -> None:
        """The request was not sent after all."""
        _place_of(permit).limiter.not_sent(permit)
        self._admit_waiting()

    def close(self) -> None:
        """Admit nothing any more."""
        for place in self._places:
            place.limiter.close()

    def refused(self, permit: Permit) -> None:
        """A server refused this request: it works."""
        place = _place_of(permit)
        self._works(place)
        place.limiter.refused(permit)
        self._admit_waiting()

    def undecided(self, permit: Permit) -> None:
        """All servers refused this request, and it is not known whether the request is at fault."""
        _place_of(permit).limiter.undecided(permit)
        self._admit_waiting()

    def succeeded(self, permit: Permit, tokens: int | None) -> None:
        """The request was answered. tokens: see RateLimiter"""
        place = _place_of(permit)
        taken = time.monotonic() - permit.started_at
        mean = place.seconds
        place.seconds = taken if mean is None else mean + _RECENT * (taken - mean)
        self._works(place)
        place.limiter.succeeded(permit, tokens)
        self._admit_waiting()

    def _works(self, place: _Place) -> None:
        if place.left:
            return
        place.rest_s = place.resting_until = 0.0
        place.refusals = 0
        if place.shown:
            place.shown = False
            self._note(f"{place.server.address} answers again")

    def failed(self, permit: Permit, fault: Fault) -> None:
        """The request met a transient fault.

        Raises ServerUnreachableError where no server has answered for too long.
        """
        place = _place_of(permit)
        assert isinstance(permit, _PlacedPermit)
        permit.active.failed_at.add(place.server.address)
        with suppress(ServerUnreachableError):  # another server may answer
            place.limiter.failed(permit, fault)
        if (
            fault.kind in (FaultKind.CONNECTION, FaultKind.TIMEOUT)
            or place.limiter.faults >= _UNTIL_REST
        ):
            self._rest(place, permit, fault)
        self._give_up(fault)
        self._admit_waiting()

    def _rest(self, place: _Place, permit: Permit, fault: Fault) -> None:
        """Send nothing to a server for a while, and then one request to see whether it works."""
        if place.left or permit.started_at < place.rested_at:
            return
        now = time.monotonic()
        place.rest_s = min(_REST_CAP_S, max(_REST_S, 2 * place.rest_s))
        place.rested_at, place.resting_until = now, now + place.rest_s
        place.limiter.restart_slowly()
        if place.rest_s >= _SHOWN_REST_S and not place.shown:
            place.shown = True
            self._note(f"{place.server.address} fails ({fault}): the other servers go on")

    def _give_up(self, fault: Fault) -> None:
        now, most = time.monotonic(), self._own.give_up_s
        silent = [
            0.0 if place.limiter.failing_since is None else now - place.limiter.failing_since
            for place in self._places
            if self._is_in_use(place, now)
        ]
        if silent and min(silent) > most:
            raise ServerUnreachableError(
                f"no answer from any of {len(self._places)} servers for {min(silent):.0f} s, the "
                f"last fault: {fault}; the answers so far are kept: run again to continue"
            )

    def _is_in_use(self, place: _Place, now: float) -> bool:
        return place.resting_until - now <= self._own.max_pause_s

    def has_another(self, active: ActiveRequest) -> bool:
        """Whether a healthy server can take a request that has failed, at which it has not."""
        now = time.monotonic()
        return any(
            place.is_healthy(now) and place.server.address not in active.failed_at
            for place in self._places
        )

    def goes_elsewhere(self, permit: Permit, fault: Fault, *, judged: bool) -> bool:
        """Whether a request that one server has refused is made at another; ends its permit then.

        judged: it is not known whether the request or the server is at fault. Otherwise the server
                refuses all requests, and leaves, unless it is the last one
        """
        place, now = _place_of(permit), time.monotonic()
        assert isinstance(permit, _PlacedPermit)
        others = [p for p in self._places if p is not place and self._is_in_use(p, now)]
        if judged:
            permit.active.failed_at.add(place.server.address)
            if not self.has_another(permit.active):
                return False
            place.refusals += 1
            if place.refusals >= _UNTIL_REST:
                self._rest(place, permit, fault)
        elif not others:
            return False
        elif self._is_in_use(place, now):
            lasting = fault.action is Action.STOP_LATER and fault.retry_after_s
            place.resting_until = now + lasting if lasting else math.inf
            self._note(
                f"{place.server.address} gets no more requests ({fault}): "
                f"{len(others)} of {len(self._places)} servers go on"
            )
        place.limiter.undecided(permit)
        self._admit_waiting()
        return True


Limiter = RateLimiter | Balancer
"""What admits requests: to one server, or to several."""


def _place_of(permit: Permit) -> _Place:
    assert isinstance(permit, _PlacedPermit)
    return permit.place
