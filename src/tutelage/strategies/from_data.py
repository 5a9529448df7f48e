"""Strategies without a prompt: the data's own explanations, and recorded answers."""

from __future__ import annotations

from dataclasses import replace

from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Message, Rationale
from tutelage.strategies.strategy import parse_text


class Human:
    """The reason in the data set itself (ANLI's annotators wrote one). Needs no teacher."""

    name = "human"
    asks_teacher = False
    labels_rows = False
    schema = None

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """No prompt."""
        return ()

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """`example.reason`, unchanged but for surrounding white space; `completion` is ignored.

        People do not refuse, so any text is `ok`.
        """
        text = (example.reason or "").strip()
        if text:
            return Rationale(example.uid, self.name, text, "ok")
        return Rationale(example.uid, self.name, "", "empty", detail="the data have no reason")


class Recorded:
    """The text of a `recorded:` teacher, unchanged but for surrounding white space.

    The prompt is not known, so neither is whether it held the gold label: it does not label rows.
    With `label` or `chain_of_thought` a recipe says what was asked.
    """

    name = "recorded"
    asks_teacher = True
    labels_rows = False
    schema = None

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """No prompt: the original one is not known."""
        return ()

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The answer, and the label that was recorded with it, if it is one of the task's."""
        rationale = parse_text(completion, example, self.name)
        try:
            return replace(rationale, label=task.parse_label(completion.label))
        except ValueError:
            return rationale
