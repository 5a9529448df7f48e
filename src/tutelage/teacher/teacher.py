"""The protocol of a teacher, and the settings that describe one; `registry` opens it.

A teacher makes one attempt at one request. Concurrency, retries, rate limits and the budget are the
engine's work (`engine`, `ledger`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import TeacherError
from tutelage.core.types import Completion, Request
from tutelage.teacher.engine.failures import Fault


class RequestFailedError(TeacherError):
    """One request has no answer; others may have one. Its rows become `failed` rationales.

    transient: True where a later retry may help (the server's fault), False otherwise
    """

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class Teacher(Protocol):
    """Answers requests. This is the whole contract.

    A teacher is opened once with `async with` before the first request, and closed after the last
    one. Constructing it costs nothing and needs no key: a run whose answers are all in the ledger
    opens none.
    """

    @property
    def identity(self) -> str:
        """The provider in each answer's key: a name or an address, or a model file's digest."""
        ...

    @property
    def model(self) -> str:
        """The model's name as the server uses it."""
        ...

    @property
    def paid(self) -> bool:
        """Whether an answer has a price or takes time: then equal requests are made once, and the
        ledger keeps their answer. False for a teacher that looks answers up by their example.
        """
        ...

    @property
    def settings(self) -> TeacherSettings:
        """The settings that describe it."""
        ...

    async def complete(self, request: Request) -> Completion:
        """One attempt at the answer.

        Raises Fault for an attempt that failed (its action says what to do), RequestFailedError for
        a request that has no answer, TeacherError where no request has one.
        """
        ...

    async def explain(self, fault: Fault) -> TeacherError:
        """The error that ends a run after a fault that concerns every request."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class PoolServer(Teacher, Protocol):
    """A teacher that is one of several servers.

    on_headers: called with the headers of each response that states rate limits
    """

    on_headers: Callable[[Mapping[str, str]], None] | None

    @property
    def address(self) -> str:
        """Its address, as it is shown and stored."""
        ...
