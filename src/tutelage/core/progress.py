"""Progress of a run: the values reported, and the observers that receive them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AnnotationProgress:
    """How far an annotation is.

    done, total, failed: numbers of rows; total is None for a stream of unknown length
    cached, requests:    answers found in the ledger, and requests sent now
    tokens, cost_usd:    of the requests sent now; cost_usd is None where no price is known
    seconds:             since the start
    """

    done: int
    total: int | None
    cached: int
    failed: int
    requests: int
    tokens: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far one training or evaluation is.

    name:        its folder, which no other job of the stage has
    done, total: numbers of steps or rows
    """

    name: str
    done: int
    total: int


class Observer(Protocol):
    """Receives the progress of a run.

    All methods are called on the thread of the run, except `annotating`, which is called on the
    thread that sends requests to the teacher.
    """

    def stage(self, title: str) -> None:
        """A new stage begins."""

    def note(self, line: str) -> None:
        """A message for the user."""

    def annotating(self, arm: str, progress: AnnotationProgress) -> None:
        """How far one arm's annotation is."""

    def jobs(self, done: int, total: int, verb: str) -> None:
        """How many students of this stage are `verb`: "trained", "evaluated"."""

    def job(self, progress: JobProgress) -> None:
        """How far one of them is."""


class Silent:
    """An observer that reports nothing."""

    def stage(self, title: str) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Nothing."""

    def annotating(self, arm: str, progress: AnnotationProgress) -> None:
        """Nothing."""

    def jobs(self, done: int, total: int, verb: str) -> None:
        """Nothing."""

    def job(self, progress: JobProgress) -> None:
        """Nothing."""
