"""What a teacher is, and how one is described. `registry` opens the described one.

A teacher makes one attempt at one question. Asking many, again, at the right time and within a
budget is the engine's work (`engine`, `ledger`).
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import TeacherError
from tutelage.core.types import Completion, Request
from tutelage.teacher.engine.failures import Fault


class RequestFailedError(TeacherError):
    """One question got no answer; others may. Its row becomes a `failed` rationale.

    transient: True where asking again later might help (the server's fault), False where not.
    """

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class Teacher(Protocol):
    """Whoever answers. This is the whole contract.

    Opened once with `async with` before the first question, closed after the last; making one
    costs nothing and needs no key, so that a run whose answers are all known opens none.
    """

    @property
    def identity(self) -> str:
        """Who answers, as the ledger keeps it: a provider's name or address, a file's digest."""
        ...

    @property
    def model(self) -> str:
        """The model's name as the server knows it."""
        ...

    @property
    def paid(self) -> bool:
        """Whether answers cost money or time: then equal prompts are asked once and kept.

        False for a teacher that looks an answer up by its example.
        """
        ...

    @property
    def settings(self) -> TeacherSettings:
        """How it is asked."""
        ...

    async def complete(self, request: Request) -> Completion:
        """One attempt at the answer. Raises Fault, which says what it calls for;
        RequestFailedError for a question that has none; TeacherError where nothing has."""
        ...

    async def explain(self, fault: Fault) -> TeacherError:
        """The error that ends a run after a fault that concerns every question."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
