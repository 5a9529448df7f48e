"""A label for a row that nobody has labelled: the teacher says which one fits, and nothing else.

    Text: "Warm soup.", the labels in the row's order  ->  "**good**."  ->  good

The gold label of a row that has one is not in the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Message, Rationale
from tutelage.strategies.label_options import (
    JUDGE,
    label_on_a_line,
    labels_on_lines,
    recorded_label,
    render_examples,
    render_options,
    structured_answer,
)
from tutelage.strategies.labelling import exact_label, label_schema, parse_label
from tutelage.strategies.row_text import quoted_fields
from tutelage.strategies.strategy import status_of

_PROMPT = """\
{examples}Choose the label that fits this row. {judge}

{row}

The labels are:
{labels}

Answer with one of these labels and nothing else."""


class RowLabel:
    """One request per row: which label fits? The answer's label is in `Rationale.label`.

    task:  for the JSON schema of structured answers; None: they are not asked for
    shots: labelled rows that every prompt begins with, in this order
    """

    name = "label"
    asks_teacher = True
    labels_rows = True

    def __init__(self, task: Task | None = None, shots: Sequence[Example] = ()) -> None:
        self.schema: Mapping[str, Any] | None = None if task is None else label_schema(task)
        self._shots = tuple(shots)

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """One user message: examples, every input field, all labels."""
        text = _PROMPT.format(
            examples=render_examples(self._shots, task),
            judge=JUDGE,
            row=quoted_fields(example.fields, task),
            labels=render_options(example, task),
        )
        return (Message("user", text),)

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The answer and its label; `failed` where it names none, or more than one.

        A truncated answer keeps its label where it begins with one. An answer that was recorded
        with a label needs no text.
        """
        status, detail = status_of(completion)
        text, label = completion.text.strip(), None
        if completion.label is not None:
            label = recorded_label(completion, task)
            status, detail = ("ok", "") if label is not None else ("failed", _NONE)
        elif status in ("ok", "truncated"):
            label = parse_answer(text, task, whole=status == "ok")
            if label is None and status == "ok":
                status, detail = "failed", _NONE
        else:
            text = ""
        return Rationale(
            example.uid, self.name, text, status, label, usage=completion.usage, detail=detail
        )


_NONE = "no label can be found in it"


def render_answer(label: str, task: Task) -> str:
    """A label as an answer writes it. `parse_answer` is the inverse."""
    return label_on_a_line(label, task)


def parse_answer(text: str, task: Task, *, whole: bool = True) -> str | None:
    """The label in an answer, or None: as the prompt offers it, or as `parse_label` finds it."""
    label = labels_on_lines(task).get(text)
    structured = structured_answer(text)
    if label is None and structured is not None:
        label = exact_label(structured[0], task)
    return label or parse_label(text, task, whole=whole)
