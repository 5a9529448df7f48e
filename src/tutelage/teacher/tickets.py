"""Questions on their way through the engine, and who is told what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from tutelage.records import Completion, Example, Request
from tutelage.strategies import Strategy
from tutelage.task import Task
from tutelage.teacher.accounts import Failure
from tutelage.teacher.base import Teacher
from tutelage.teacher.faults import Kind

Question = tuple[str, Request]
"""A key of the ledger, and what to ask."""


def request_for(example: Example, strategy: Strategy, task: Task, teacher: Teacher) -> Request:
    """What a teacher is asked about an example."""
    settings = teacher.settings
    parameters = settings.parameters
    if settings.structured and strategy.schema is not None:
        parameters["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": strategy.name, "strict": True, "schema": strategy.schema},
        }
    return Request(
        model=teacher.model,
        messages=strategy.render(example, task),
        strategy=strategy.name,
        example=example,
        parameters=parameters,
    )


class Events(Protocol):
    """Who is told what became of each question: once for each time it came in the stream."""

    def known(self, key: str, completion: Completion) -> None:
        """It was in the ledger, or another process put it there."""

    def answered(self, key: str, completion: Completion) -> None:
        """It was asked and answered."""

    def left(self, key: str) -> None:
        """An open batch holds it: it is not asked."""

    def failed(self, key: str, failure: Failure, *, asked: bool) -> None:
        """It has no answer; asked: it was asked now, not merely remembered."""


class Unheard:
    """Events that nobody listens to: the answers are for the ledger."""

    def known(self, key: str, completion: Completion) -> None:
        """Nothing."""

    def answered(self, key: str, completion: Completion) -> None:
        """Nothing."""

    def left(self, key: str) -> None:
        """Nothing."""

    def failed(self, key: str, failure: Failure, *, asked: bool) -> None:
        """Nothing."""


@dataclass(slots=True)
class Ticket:
    """One question on its way. copies: how often the stream has held it while it was."""

    key: str
    request: Request
    worst: int
    tokens: int
    charge: int = 0
    copies: int = 1
    faults: dict[Kind, int] = field(default_factory=dict)


@dataclass(slots=True)
class Sent:
    """What left: requests (tries), and those of them that may have been charged for nothing."""

    requests: int = 0
    lost: int = 0
