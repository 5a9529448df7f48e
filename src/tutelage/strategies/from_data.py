"""Strategies without a prompt of ours: the data's own explanation, and answers recorded before."""

from __future__ import annotations

from dataclasses import replace

from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Message, Rationale
from tutelage.strategies.strategy import parse_text


class Human:
    """The reason that the data set itself gives (ANLI's annotators wrote one). Asks no teacher."""

    name = "human"
    asks_teacher = False
    schema = None

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """No prompt."""
        return ()

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """`example.reason`, word for word; `completion` is not looked at.

        A person does not refuse, so words are enough for `ok`.
        """
        text = (example.reason or "").strip()
        if text:
            return Rationale(example.uid, self.name, text, "ok")
        return Rationale(example.uid, self.name, "", "empty", detail="the data give no reason")


class Recorded:
    """The text exactly as a `recorded:` teacher holds it, but for white space around it."""

    name = "recorded"
    asks_teacher = True
    schema = None

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """No prompt: what was once asked is not known."""
        return ()

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The answer word for word, and the label recorded beside it, if it is the task's."""
        rationale = parse_text(completion, example, self.name)
        try:
            return replace(rationale, label=task.parse_label(completion.label))
        except ValueError:
            return rationale
