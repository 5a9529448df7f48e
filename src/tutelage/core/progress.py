"""Watching a run: what the stages tell, and who listens."""

from __future__ import annotations

from typing import Protocol

from tutelage.student.jobs.jobs import JobProgress
from tutelage.teacher.annotate import Progress


class Observer(Protocol):
    """Somebody who watches a run. All methods are called on the thread that runs it, but
    `annotating`, which comes from whatever thread asks the teacher."""

    def stage(self, title: str) -> None:
        """A new stage begins."""

    def note(self, line: str) -> None:
        """Something that a person should know."""

    def annotating(self, arm: str, progress: Progress) -> None:
        """How far one arm's annotation is."""

    def jobs(self, done: int, total: int) -> None:
        """How many trainings (or readings) of this stage are complete."""

    def job(self, progress: JobProgress) -> None:
        """How far one of them is."""


class Silent:
    """Watches, and says nothing."""

    def stage(self, title: str) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Nothing."""

    def annotating(self, arm: str, progress: Progress) -> None:
        """Nothing."""

    def jobs(self, done: int, total: int) -> None:
        """Nothing."""

    def job(self, progress: JobProgress) -> None:
        """Nothing."""
