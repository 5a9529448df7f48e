"""`scripted`: the answers that the generator of the synthetic data has put into the examples."""

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
        """The answer in the example. Raises RequestFailedError where there is none."""
        text = _answer(request)
        if text is None:
            known = ", ".join(sorted(request.example.references)) or "none"
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


def _answer(request: Request) -> str | None:
    """The answer in the example; about its label, where it has one, what the generator knows."""
    example = request.example
    text = example.references.get(request.strategy)
    if text is not None or not (example.label and example.references):
        return text
    if request.strategy == "label":
        return example.label
    reason = example.references.get("informed_reasoning")
    if request.strategy == "chain_of_thought" and reason is not None:
        return f"{reason}\n\nLabel: {example.label}"
    return None
