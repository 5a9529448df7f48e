"""A recipe's own prompt, as a Jinja template in a sandbox.

Variables: the task's input fields by name, `label` (the gold label), `labels` (all of them) and
`reason` (the data's own, empty where there is none).

    "Why is {{ text }} {{ label }}?"  ->  "Why is The soup was cold. negative?"

Where the text stands is the template's own: `{{ text | tojson }}` writes it as a JSON string, which
nothing in a row can end. Marks of chat templates get a backslash in any case (`row_text.plain`).
"""

from __future__ import annotations

from typing import Any

from tutelage.core.errors import UsageError
from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Message, Rationale
from tutelage.strategies.row_text import escape_marks
from tutelage.strategies.strategy import parse_text

_OWN_VARIABLES = frozenset({"label", "labels", "reason"})


class Template:
    """One user message, rendered from a Jinja template; the answer is used unchanged.

    Raises UsageError at construction for a template that does not compile and, where the task is
    given, for one that does not render: because of an unknown variable, or to an empty text.
    """

    name = "template"
    asks_teacher = True
    labels_rows = False
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
            raise UsageError(f"template: does not compile{where}: {_one_line(error)}") from error
        if task is not None:
            clash = sorted(_OWN_VARIABLES & set(task.fields))
            if clash:
                raise UsageError(
                    f"template: the task's fields {clash} have the names of other variables of a "
                    "template: rename them with `columns:`"
                )
            for label in task.labels:
                self.render(Example("check", dict.fromkeys(task.fields, "text"), label), task)

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """The template with the example's values. Raises UsageError where it does not render."""
        values: dict[str, Any] = {
            **{name: escape_marks(text) for name, text in example.fields.items()},
            "label": example.label,
            "labels": list(task.labels),
            "reason": example.reason or "",
        }
        try:
            text = self._template.render(values).strip()
        # A template is the user's program: whatever it raises is a mistake in the template.
        except Exception as error:
            known = ", ".join([*task.fields, "label", "labels", "reason"])
            raise UsageError(f"template: {_one_line(error)}; the variables are {known}") from error
        if not text:
            raise UsageError("template: renders to an empty text: write the prompt into it")
        return (Message("user", text),)

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The answer, unchanged but for surrounding white space."""
        return parse_text(completion, example, self.name)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
