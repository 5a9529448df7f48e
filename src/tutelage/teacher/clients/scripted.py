"""`scripted`: the answers that the generator of the synthetic data has put into the examples."""

from __future__ import annotations

from typing import Self

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import TeacherError
from tutelage.core.types import Completion, Request
from tutelage.data.synthetic import label_answers
from tutelage.teacher.engine.failures import Fault
from tutelage.teacher.teacher import RequestFailedError


class ScriptedTeacher:
    """Answers with `example.references[strategy]`, or with the label of a generated row; an example
    without either is a failed row."""

    identity = "scripted"
    model = "scripted"
    paid = False

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings

    async def complete(self, request: Request) -> Completion:
        """The answer in the example. Raises RequestFailedError where there is none."""
        answers = {**label_answers(request.example), **request.example.references}
        text = answers.get(request.strategy)
        if text is None:
            known = ", ".join(sorted(answers)) or "none"
            raise RequestFailedError(
                f"the example has no answer for {request.strategy!r} (it has: {known}): the "
                "teacher 'scripted' is for synthetic data",
                transient=False,
            )
        return Completion(text, "stop")

    async def explain(self, fault: Fault) -> TeacherError:
        """The fault as an error; a teacher that only looks answers up raises none."""
        return TeacherError(str(fault))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None
