"""How far a stage's jobs are together, and how long the rest takes."""

from __future__ import annotations

from collections.abc import Callable

from tutelage.core.progress import JobProgress

_SECONDS_TO_ESTIMATE = 5.0
"""Seconds of work before which no time left is estimated: workers still start."""


class JobsProgress:
    """Counts the finished jobs of one stage, and the steps of those that are running.

    total: jobs in the stage
    done:  jobs that were finished before the stage began, in an earlier call
    clock: returns seconds

    A running job counts by the share of its steps that it has done.
    """

    def __init__(self, total: int, done: int, clock: Callable[[], float]) -> None:
        self.total = total
        self.done = done
        self._clock = clock
        self._began = clock()
        self._before = done
        self._shares: dict[str, float] = {}
        self._first_shares: dict[str, float] = {}

    def update(self, progress: JobProgress) -> None:
        """Take in how far one job is."""
        share = progress.done / max(progress.total, 1)
        if progress.name not in self._shares:
            # A resumed training reports the steps of earlier calls with its first one. They are
            # done, but say nothing about the rate.
            self._first_shares[progress.name] = share if share < 1 else 0.0
        self._shares[progress.name] = share

    @property
    def completed(self) -> float:
        """Jobs that are done, running ones by their share; at least `done`, at most `total`."""
        counted = self._before + sum(self._shares.values())
        return min(max(counted, self.done), self.total)

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest takes at the rate so far; None while no rate is known."""
        if self.completed >= self.total:
            return 0.0
        elapsed = self._clock() - self._began
        worked = self.completed - self._before - sum(self._first_shares.values())
        if worked <= 0 or elapsed < _SECONDS_TO_ESTIMATE:
            return None
        return elapsed * (self.total - self.completed) / worked
