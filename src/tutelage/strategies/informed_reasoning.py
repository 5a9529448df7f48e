"""Informed reasoning: why the gold label is right, by a teacher that is given the label.

Premise: … Hypothesis: …, label entailment  ->  explain why the premise entails the hypothesis
"""

from __future__ import annotations

from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Message, Rationale
from tutelage.strategies.strategy import parse_text, render_fields

MAX_WORDS = 100
"""The limit in the prompt; longer answers are kept unchanged."""

_PROMPT = """\
{text}

Explain why {claim}, in {words} words or less."""


class InformedReasoning:
    """Why the premise entails, is neutral to or contradicts the hypothesis, the label given."""

    name = "informed_reasoning"
    asks_teacher = True
    labels_rows = False
    schema = None

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """One user message with every input field and the label, expressed as the task's relation.

        For a label without a relation it asks why the answer is "…".
        """
        relation = task.relations.get(example.label)
        claim = (
            f'the answer is "{task.verbalize(example.label)}"'
            if relation is None
            else f"the {task.context or 'text'} {relation}"
        )
        text = render_fields(example, task)
        return (Message("user", _PROMPT.format(text=text, claim=claim, words=MAX_WORDS)),)

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The answer, unchanged but for surrounding white space."""
        return parse_text(completion, example, self.name)
