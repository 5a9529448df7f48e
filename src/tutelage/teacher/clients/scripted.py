"""`scripted`: the author of the synthetic data answers from what the examples carry."""

from __future__ import annotations

from typing import Self

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import TeacherError
from tutelage.core.types import Completion, Request
from tutelage.teacher.engine.failures import Fault
from tutelage.teacher.teacher import RequestFailedError


class ScriptedTeacher:
    """Answers with `example.references[strategy]`; an example without one is a failed row."""

    identity = "scripted"
    model = "scripted"
    paid = False

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings

    async def complete(self, request: Request) -> Completion:
        """The answer that the example carries."""
        text = request.example.references.get(request.strategy)
        if text is None:
            known = ", ".join(sorted(request.example.references)) or "none"
            raise RequestFailedError(
                f"the example carries no answer for {request.strategy!r} (it has {known}): the "
                "teacher 'scripted' is for synthetic data",
                transient=False,
            )
        return Completion(text, "stop")

    async def explain(self, fault: Fault) -> TeacherError:
        """Nothing is wrong with a teacher that only looks answers up."""
        return TeacherError(str(fault))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None
