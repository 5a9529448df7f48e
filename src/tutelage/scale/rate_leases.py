"""Rate limits that many workers share, leased in blocks.

A worker leases part of a minute's requests or tokens before it sends, and gives each amount back
when its request has ended. To the one `RateWindow` of a limit, a lease is what a request in flight
is: it counts from when it was granted until a minute after it was given back. So no window of the
server's holds more than one of ours, however long a worker takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from tutelage.scale.job_state import JobState, now
from tutelage.teacher.engine.rate_limits import RateWindow

_AGAIN_S = 0.05
"""Seconds between two calls for the same lease, at least."""
_LATEST_S = 1.0
"""Seconds after which what has ended is given back, at the latest."""


class RateCall(NamedTuple):
    """A worker's call for a lease.

    number: of the worker's calls about this window: a repeated call has the number of the first
    limit:  of the window, as the worker knows it
    least:  that the next request needs; 0 for a call that only gives back
    wanted: at most
    held:   of earlier leases, given back; used: what the server counted of it
    """

    server: str
    unit: str
    number: int
    limit: float
    least: float
    wanted: float
    held: float
    used: float


class SharedRates:
    """Grants leases. What is out, and what was used in the last minute, is in the job's state.

    minute_s: seconds in a minute of the rate limits
    """

    def __init__(self, state: JobState, minute_s: float = 60.0) -> None:
        self._state = state
        self._minute_s = minute_s
        self._windows: dict[tuple[str, str], RateWindow] = {}

    def call(self, holder: int, call: RateCall) -> tuple[float, float]:
        """The amount that is leased, and where that is 0, the seconds until there may be some.

        holder: number of the worker's session
        """
        place = (holder, call.server, call.unit)
        before = self._state.rows(
            "SELECT number, amount, wait_s FROM calls WHERE holder = ? AND server = ? AND unit = ?",
            place,
        )
        if before and before[0][0] == call.number:
            return before[0][1], before[0][2]
        window = self._window(call.server, call.unit, call.limit)
        at = now()
        with self._state.change() as state:
            if call.held or call.used:
                self._end(state.execute, window, place, call.held, call.used, at)
            amount = wait_s = 0.0
            if call.least:
                wait_s = window.wait(call.least, at)
                if wait_s == 0.0:
                    fits = window.wait(call.wanted, at) == 0.0
                    amount = call.wanted if fits else call.least
                    window.start(amount, at)
                    state.execute(
                        "INSERT INTO rates VALUES (?, ?, ?, ?, NULL)",
                        (call.server, call.unit, holder, amount),
                    )
            state.execute(
                "INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?)",
                (*place, call.number, amount, wait_s),
            )
        return amount, wait_s

    def end_holder(self, holder: int) -> None:
        """Take back what a worker has leased that will not call again: all of it may be used."""
        held = self._state.rows(
            "SELECT server, unit, sum(amount) FROM rates "
            "WHERE holder = ? AND ended IS NULL GROUP BY server, unit",
            (holder,),
        )
        with self._state.change() as state:
            for server, unit, amount in held:
                window = self._window(server, unit, None)
                self._end(state.execute, window, (holder, server, unit), amount, amount, now())

    def _end(
        self,
        execute: Callable[..., object],
        window: RateWindow,
        place: tuple[int, str, str],
        held: float,
        used: float,
        at: float,
    ) -> None:
        holder, server, unit = place
        window.end(held, used, at)
        # One row for what is still out of this holder's, and one for what was used.
        (out,) = self._state.rows(
            "SELECT coalesce(sum(amount), 0) FROM rates "
            "WHERE holder = ? AND server = ? AND unit = ? AND ended IS NULL",
            place,
        )
        execute(
            "DELETE FROM rates WHERE holder = ? AND server = ? AND unit = ? AND ended IS NULL",
            place,
        )
        left = out[0] - held
        if left > 0:
            execute("INSERT INTO rates VALUES (?, ?, ?, ?, NULL)", (server, unit, holder, left))
        execute("INSERT INTO rates VALUES (?, ?, ?, ?, ?)", (server, unit, holder, used, at))
        execute("DELETE FROM rates WHERE ended < ?", (at - self._minute_s,))

    def _window(self, server: str, unit: str, limit: float | None) -> RateWindow:
        """The window of a server's limit; after a restart, with what is out and what was used."""
        window = self._windows.get((server, unit))
        if window is None:
            window = RateWindow(limit or 1.0, self._minute_s)
            self._windows[server, unit] = window
            for amount, ended in self._state.rows(
                "SELECT amount, ended FROM rates WHERE server = ? AND unit = ? ORDER BY ended",
                (server, unit),
            ):
                window.resume(amount)
                if ended is not None:
                    window.end(amount, amount, ended)
        if limit is not None:
            window.limit = limit
        return window


class LeasedWindow(RateWindow):
    """A worker's part of a window: what it has leased and not used yet.

    call:  makes a call, on any thread; may take as long as the keeper is away
    share: of the limit that is leased at once, at most
    """

    def __init__(
        self,
        server: str,
        unit: str,
        limit: float,
        call: Callable[[RateCall], tuple[float, float]],
        share: float = 1 / 60,
    ) -> None:
        super().__init__(limit, 0.0)
        self._server, self._unit = server, unit
        self._call, self._share = call, share
        self._left = self._held = self._used = 0.0
        self._number = 0
        self._calling = False
        self._next = self._called_at = 0.0

    def wait(self, amount: float, now: float) -> float:
        """As for RateWindow; calls for a lease where what is left is not enough."""
        # What is left may come of an earlier lease of less than this request needs.
        if self._left >= amount:
            return 0.0
        if not self._calling and now >= self._next:
            self._begin(amount)
        return max(self._next - now, _AGAIN_S)

    def start(self, amount: float, now: float) -> None:
        """As for RateWindow."""
        self._left -= amount

    def end(self, held: float, used: float, now: float) -> None:
        """As for RateWindow."""
        self._held += held
        self._used += used
        if not self._calling and now - self._called_at >= _LATEST_S:
            self._begin(0.0)

    def give_back(self) -> RateCall | None:
        """A call that gives back all that is not in use; None where there is nothing."""
        held, used = self._held + self._left, self._used
        if self._calling or not (held or used):
            return None
        self._left = self._held = self._used = 0.0
        return self._next_call(0.0, held, used)

    def _begin(self, amount: float) -> None:
        """Call for a lease of `amount` at least, with what is left given back before."""
        held, used = self._held, self._used
        if amount:
            held += self._left
            self._left = 0.0
        self._held = self._used = 0.0
        self._calling = True
        call = self._next_call(amount, held, used)
        task = asyncio.get_running_loop().create_task(self._make(call))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _next_call(self, amount: float, held: float, used: float) -> RateCall:
        self._number += 1
        wanted = max(amount, self.limit * self._share) if amount else 0.0
        return RateCall(
            self._server, self._unit, self._number, self.limit, amount, wanted, held, used
        )

    async def _make(self, call: RateCall) -> None:
        try:
            amount, wait_s = await asyncio.to_thread(self._call, call)
            self._left += amount
            self._called_at = time.monotonic()
            self._next = self._called_at + (wait_s if call.least and not amount else 0.0)
        finally:
            self._calling = False
