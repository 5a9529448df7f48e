"""Watching a run: what the stages tell, and who listens."""

from __future__ import annotations

from tutelage.student.jobs import JobProgress
from tutelage.teacher.annotate import Progress


class Observer:
    """Somebody who watches a run; this one says nothing. All methods are called on one thread."""

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
