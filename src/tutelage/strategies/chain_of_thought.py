"""Chain of thought: the teacher reasons first, without the gold label, and then names one.

Text: "Warm soup.", the labels in the row's order
    ->  "The guest praises the soup.\\n\\nLabel: good"
    ->  label good, rationale "The guest praises the soup."
"""

from __future__ import annotations

import re
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
from tutelage.strategies.labelling import exact_label, first_label, label_schema
from tutelage.strategies.row_text import quoted_fields
from tutelage.strategies.strategy import status_of

MAX_WORDS = 100
"""The limit in the prompt; longer reasoning is kept unchanged."""

_PROMPT = """\
{examples}Think about which label fits this row. {judge}

{row}

The labels are:
{labels}

First give your reasons, in {words} words or fewer. Then end with the label on a line of its own, \
in this form:
Label: one of these labels"""

_LINE = re.compile(
    r"^[\s>#*_`\"'-]*(?:the\s+)?(?:final\s+|correct\s+|best\s+)?(?:label|answer)[*_`\"']*"
    r"(?:\s*:[\s*_`]*|\s+is(?:\s*:)?[\s*_`]+)(?P<said>.*)$",
    re.IGNORECASE,
)
"""A line that names the label: `Label: good`, `**Final label:** good`, `The answer is good.`"""


class ChainOfThought:
    """One request per row: reasons, then a label. The rationale is the reasoning alone.

    task:  for the JSON schema of structured answers; None: they are not asked for
    shots: labelled rows that every prompt begins with, in this order
    """

    name = "chain_of_thought"
    asks_teacher = True
    labels_rows = True

    def __init__(self, task: Task | None = None, shots: Sequence[Example] = ()) -> None:
        self.schema: Mapping[str, Any] | None = (
            None if task is None else label_schema(task, before=("rationale",))
        )
        self._shots = tuple(shots)

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """One user message: examples, every input field, all labels."""
        text = _PROMPT.format(
            examples=render_examples(self._shots, task),
            judge=JUDGE,
            row=quoted_fields(example.fields, task),
            labels=render_options(example, task),
            words=MAX_WORDS,
        )
        return (Message("user", text),)

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The reasoning and the label.

        `failed` where no line names one label, and then the text is the whole answer; `empty`, with
        the label, where there is no reasoning. A truncated answer has no label: the end is missing.
        """
        status, detail = status_of(completion)
        text, label = "", None
        if status in ("ok", "truncated"):
            text, label = parse_answer(completion.text, task)
        if completion.label is not None:
            label = recorded_label(completion, task)
        if status == "truncated":
            label = None
        elif status == "ok" and label is None:
            status, detail = "failed", "no line names one of the labels"
            text = completion.text.strip()
        elif status == "ok" and not text:
            status, detail = "empty", "a label without reasoning"
        return Rationale(
            example.uid, self.name, text, status, label, usage=completion.usage, detail=detail
        )


def render_answer(reasoning: str, label: str, task: Task) -> str:
    """Reasoning and label as an answer writes them. `parse_answer` is the inverse, up to white
    space around the reasoning."""
    return f"{reasoning.strip()}\n\nLabel: {label_on_a_line(label, task)}"


def parse_answer(text: str, task: Task) -> tuple[str, str | None]:
    """The reasoning without the line of the label, and the label; None where no line names one.

    The last line decides where it names a label. Elsewhere a line does, if all lines that name one
    name the same: models add remarks. A label in the middle of a sentence does not count. A JSON
    object of the schema is understood too.
    """
    structured = structured_answer(text)
    if structured is not None:
        words, reasoning = structured
        return reasoning.strip(), exact_label(words, task)
    lines = text.strip().split("\n")
    named = _Lines(task)
    if (label := named.label_of(lines[-1], last=True)) is not None:
        return "\n".join(lines[:-1]).strip(), label
    labels = [named.label_of(line) for line in lines]
    rest = "\n".join(line for line, of in zip(lines, labels, strict=True) if of is None).strip()
    found = {label for label in labels if label is not None}
    return (rest, found.pop()) if len(found) == 1 else (text.strip(), None)


class _Lines:
    """Which label a line names."""

    def __init__(self, task: Task) -> None:
        self._task, self._offered = task, labels_on_lines(task)

    def label_of(self, line: str, *, last: bool = False) -> str | None:
        """The label that a line says is the answer; a last line may consist of the label alone."""
        found = _LINE.match(line)
        if found is None:
            return self._read(line) if last else None
        # As the prompt has it: nothing is removed from around the words.
        exact = re.fullmatch(r"Label: (.*)", line)
        if exact is not None and exact[1] in self._offered:
            return self._offered[exact[1]]
        return self._read(found["said"]) or first_label(found["said"], self._task)

    def _read(self, said: str) -> str | None:
        return self._offered.get(said.strip()) or exact_label(said, self._task)
