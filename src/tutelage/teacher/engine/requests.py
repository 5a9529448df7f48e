"""Requests on their way through the engine, and the listener that learns their results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Request
from tutelage.strategies.lookup import Strategy
from tutelage.teacher.engine.failures import FaultKind
from tutelage.teacher.ledger.charges import Failure
from tutelage.teacher.ledger.store import RequestKeys
from tutelage.teacher.teacher import Teacher


class PendingRequest(NamedTuple):
    """A request, and the key under which the ledger stores its answer."""

    key: str
    request: Request


class RequestBuilder:
    """Builds the requests of one strategy to one teacher. What they share is computed once."""

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
        self._keys = RequestKeys(teacher.identity, teacher.model, parameters)

    def request(self, example: Example) -> Request:
        """The request for an example."""
        strategy = self._strategy
        messages = strategy.render(example, self._task)
        return Request(self._model, messages, strategy.name, example, self._parameters)

    def pending(self, example: Example) -> PendingRequest:
        """The request for an example, with its key."""
        request = self.request(example)
        return PendingRequest(self._keys.of(request.messages, request.sample), request)


class RequestListener(Protocol):
    """Learns the result of each request, once for each time that it came in the stream."""

    def cached(self, key: str, completion: Completion) -> None:
        """The answer was in the ledger, or another process put it there."""

    def answered(self, key: str, completion: Completion) -> None:
        """The request was sent and answered."""

    def batched(self, key: str) -> None:
        """An open batch holds the request: it is not sent."""

    def failed(self, key: str, failure: Failure, *, sent: bool) -> None:
        """The request has no answer. sent: it was sent now; False: the failure is an earlier one"""


class NullListener:
    """A listener that does nothing: the answers are for the ledger alone."""

    def cached(self, key: str, completion: Completion) -> None:
        """Nothing."""

    def answered(self, key: str, completion: Completion) -> None:
        """Nothing."""

    def batched(self, key: str) -> None:
        """Nothing."""

    def failed(self, key: str, failure: Failure, *, sent: bool) -> None:
        """Nothing."""


@dataclass(slots=True)
class ActiveRequest:
    """A request that the engine is working on.

    worst_pico: pico-dollars that it costs at most
    tokens:     of prompt and answer together, at most
    charge:     number of its charge in the ledger; 0 where it has none
    copies:     times that the stream has held it so far
    faults:     transient faults so far, by kind
    failed_at:  the servers, of several, at which it has failed since all of them were tried
    """

    key: str
    request: Request
    worst_pico: int
    tokens: int
    charge: int = 0
    copies: int = 1
    faults: dict[FaultKind, int] = field(default_factory=dict)
    failed_at: set[str] = field(default_factory=set)


@dataclass(slots=True)
class AttemptCounts:
    """What was sent: all attempts, and those of them that may have been charged for nothing."""

    sent: int = 0
    lost: int = 0
