"""The one way from an answer to a rationale: reasoning is separated, then the strategy parses."""

from __future__ import annotations

import dataclasses

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import TutelageError
from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Rationale
from tutelage.strategies.lookup import Strategy
from tutelage.strategies.reasoning import without_reasoning


def raised(strategy: Strategy, error: Exception) -> str:
    """What is said of a row for which a strategy raises an error."""
    words = " ".join(str(error).split())
    return f"strategy {strategy.name!r} raised {type(error).__name__}{words and ': '}{words[:200]}"


def parse_answer(
    strategy: Strategy,
    completion: Completion,
    example: Example,
    task: Task,
    settings: TeacherSettings | None = None,
) -> Rationale:
    """The rationale in an answer, with what the model thought before it kept apart.

    settings: of the teacher; `reasoning_markup` names a further mark-up, or `none`

    An answer that the strategy cannot read because it raises is `failed`, like any other that does
    not parse.
    """
    if settings is None or settings.reasoning_markup != "none":
        own = None if settings is None else settings.own_markup
        completion = without_reasoning(completion, own)
    try:
        rationale = strategy.parse(completion, example, task)
    except TutelageError:
        raise
    except Exception as error:  # noqa: BLE001  a strategy may be anybody's code
        detail = raised(strategy, error)
        usage = completion.usage
        rationale = Rationale(example.uid, strategy.name, "", "failed", usage=usage, detail=detail)
    if not completion.reasoning:
        return rationale
    detail = rationale.detail
    if rationale.status == "empty":
        detail = "only reasoning, and no answer"
    elif rationale.status == "truncated" and not completion.text.strip():
        detail = "cut at the token limit while it was reasoning"
    return dataclasses.replace(rationale, reasoning=completion.reasoning, detail=detail)
