"""A recipe's own prompt, as a Jinja template in a sandbox.

Variables: the task's input fields by name, `label` (the gold label), `labels` (all of them) and
`reason` (the data's own, empty where there is none).

    "Why is {{ text }} {{ label }}?"  ->  "Why is The soup was cold. negative?"
"""

from __future__ import annotations

from typing import Any

from tutelage.core.errors import UsageError
from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Message, Rationale
from tutelage.strategies.strategy import parse_text

_OWN_VARIABLES = frozenset({"label", "labels", "reason"})


class Template:
    """One user message that a Jinja template renders; the answer is taken word for word.

    Raises UsageError at construction for a template that cannot be compiled and, where the task is
    given, for one that does not render: an unknown variable, or nothing at all.
    """

    name = "template"
    asks_teacher = True
    schema = None

    def __init__(self, template: str, task: Task | None = None) -> None:
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import SandboxedEnvironment

        environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        try:
            self._template = environment.from_string(template)
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            where = "" if line is None else f" in line {line}"
            raise UsageError(f"template: cannot be read{where}: {_one_line(error)}") from error
        if task is not None:
            clash = sorted(_OWN_VARIABLES & set(task.fields))
            if clash:
                raise UsageError(
                    f"template: the task's fields {clash} have names that a template uses for "
                    "something else: rename them with `columns:`"
                )
            for label in task.labels:
                self.render(Example("check", dict.fromkeys(task.fields, "text"), label), task)

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """The template with the example's values; a mistake in it is a one-line UsageError."""
        values: dict[str, Any] = {
            **example.fields,
            "label": example.label,
            "labels": list(task.labels),
            "reason": example.reason or "",
        }
        try:
            text = self._template.render(values).strip()
        # A template is a program of the user's: whatever it raises is the template's fault.
        except Exception as error:
            known = ", ".join([*task.fields, "label", "labels", "reason"])
            raise UsageError(
                f"template: {_one_line(error)}; it may use the variables {known}"
            ) from error
        if not text:
            raise UsageError("template: renders to nothing: write the prompt into it")
        return (Message("user", text),)

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The answer word for word."""
        return parse_text(completion, example, self.name)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
