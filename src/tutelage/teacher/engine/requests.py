"""Questions on their way through the engine, and who is told what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Request
from tutelage.strategies.lookup import Strategy
from tutelage.teacher.engine.failures import Kind
from tutelage.teacher.ledger.charges import Failure
from tutelage.teacher.ledger.store import Keys
from tutelage.teacher.teacher import Teacher

Question = tuple[str, Request]
"""A key of the ledger, and what to ask."""


class Renderer:
    """Makes examples into questions to one teacher: what all of them share is made once."""

    def __init__(self, strategy: Strategy, task: Task, teacher: Teacher) -> None:
        settings = teacher.settings
        parameters = settings.parameters
        if settings.structured and strategy.schema is not None:
            parameters["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": strategy.name, "strict": True, "schema": strategy.schema},
            }
        self._strategy = strategy
        self._task = task
        self._model = teacher.model
        self._parameters = parameters
        self._keys = Keys(teacher.identity, teacher.model, parameters)

    def request(self, example: Example) -> Request:
        """What is asked about an example."""
        strategy = self._strategy
        messages = strategy.render(example, self._task)
        return Request(self._model, messages, strategy.name, example, self._parameters)

    def question(self, example: Example) -> Question:
        """The same, under its key."""
        request = self.request(example)
        return self._keys.of(request.messages, request.sample), request


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
