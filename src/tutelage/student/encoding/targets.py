"""The text that a student learns to write, for each objective. Rendering and parsing are inverses.

Target("entailment", "The sea is salt.") is written as
    label                   entailment
    label_then_rationale    entailment Rationale: The sea is salt.
    rationale_then_label    The sea is salt. Label: entailment
    multitask               entailment | The sea is salt.       (two tasks, each with its prompt)
and a target without a rationale as
    rationale_then_label    Label: entailment
    any other               entailment
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.core.errors import DataError
from tutelage.core.task import Task
from tutelage.core.types import Example, ObjectiveName, Rationale, Target, TrainingExample

SEPARATOR = "Rationale:"
"""Stands between a label and the rationale after it. Belongs to the rationale segment."""

LABEL_SEPARATOR = "Label:"
"""Stands between a rationale and the label after it. Belongs to the rationale segment; to the label
segment if there is no rationale."""

LABEL, RATIONALE = 0, 1
"""Numbers of the two segments of a target."""

Prompt = Literal["answer", "explain"]
"""What a prompt asks the student for: the label first, or the rationale first."""


@dataclass(frozen=True, slots=True)
class TargetPart:
    """A part of a target's text, in one segment.

    separator: whether it starts a new line for students to which lines matter (decoder-only ones)
    """

    text: str
    segment: int
    separator: bool = False


@dataclass(frozen=True, slots=True)
class RenderedTarget:
    """The text that follows one prompt, in parts.

    truncatable: index of the part that may lose its end; None: no part may
    """

    prompt: Prompt
    parts: tuple[TargetPart, ...]
    truncatable: int | None = None

    @property
    def text(self) -> str:
        """The whole text, without the end token."""
        return " ".join(part.text for part in self.parts)

    @property
    def end_segment(self) -> int:
        """The segment of the end token: the rationale's if there is a rationale."""
        return max(part.segment for part in self.parts)


def render_target(target: Target, objective: ObjectiveName) -> tuple[RenderedTarget, ...]:
    """The text that the student learns to write, one RenderedTarget per task of the objective."""
    label = TargetPart(target.label, LABEL)
    if target.rationale is None or objective == "label":
        if objective == "rationale_then_label":
            separator = TargetPart(LABEL_SEPARATOR, LABEL, True)
            return (RenderedTarget("explain", (separator, label)),)
        return (RenderedTarget("answer", (label,)),)
    rationale = TargetPart(target.rationale, RATIONALE)
    if objective == "label_then_rationale":
        after = TargetPart(f"{SEPARATOR} {target.rationale}", RATIONALE, True)
        return (RenderedTarget("answer", (label, after), truncatable=1),)
    if objective == "rationale_then_label":
        separator = TargetPart(LABEL_SEPARATOR, RATIONALE, True)
        return (RenderedTarget("explain", (rationale, separator, label), truncatable=0),)
    return (
        RenderedTarget("answer", (label,)),
        RenderedTarget("explain", (rationale,), truncatable=0),
    )


def parse_target(texts: Sequence[str], objective: ObjectiveName) -> Target:
    """The label and the rationale in what a student wrote.

    texts: one text per task of the objective

    Spaces at the ends are removed. A missing label is the empty text.
    """
    text = texts[0]
    if objective == "rationale_then_label":
        # The last separator: a rationale may contain one, a label does not.
        rationale, separator, label = text.rpartition(LABEL_SEPARATOR)
        if not separator:
            return Target("", text.strip() or None)
        return Target(label.strip(), rationale.strip() or None)
    if objective == "multitask":
        return Target(text.strip(), texts[1].strip() if len(texts) > 1 else None)
    label, separator, rationale = text.partition(SEPARATOR)
    return Target(label.strip(), rationale.strip() if separator else None)


def build_training_examples(
    examples: Sequence[Example],
    task: Task,
    rationales: Sequence[Rationale] | None = None,
    objective: ObjectiveName = "label",
) -> list[TrainingExample]:
    """One training example per example, in the same order.

    A row whose rationale is missing or not `ok` keeps its label and is never dropped. Raises
    DataError for a rationale that belongs to none of the examples.
    """
    if objective == "label":
        rationales = None
    texts: dict[str, str] = {}
    for rationale in rationales or ():
        if rationale.status == "ok":
            texts[rationale.uid] = rationale.text
    unknown = set(texts) - {e.uid for e in examples}
    if unknown:
        raise DataError(
            f"{len(unknown)} rationales (first: {min(unknown)!r}) belong to no training example: "
            "they were made for other rows; annotate these"
        )
    return [
        TrainingExample(
            e.uid,
            task.source(e.fields),
            Target(task.verbalize(e.label), texts.get(e.uid)),
        )
        for e in examples
    ]
