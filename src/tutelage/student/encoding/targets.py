"""What the student is to write, as text, by objective: rendering and parsing, inverses.

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
"""Stands between a label and the rationale after it, and belongs to the rationale's segment."""

LABEL_SEPARATOR = "Label:"
"""Stands between a rationale and the label after it, and belongs to the rationale's segment; to
the label's where there is no rationale."""

LABEL, RATIONALE = 0, 1
"""Numbers of the two segments of a target."""

Prompt = Literal["answer", "explain"]
"""What a student is asked for: its label first, or its rationale first."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of what is written, in one segment. A `separator` begins a line of its own where
    lines matter to the student (a decoder-only one)."""

    text: str
    segment: int
    separator: bool = False


@dataclass(frozen=True, slots=True)
class Writing:
    """What is written to one prompt. `cut` is the piece that may lose its end, if any."""

    prompt: Prompt
    pieces: tuple[Piece, ...]
    cut: int | None = None

    @property
    def text(self) -> str:
        """The whole, without the end token."""
        return " ".join(piece.text for piece in self.pieces)

    @property
    def end_segment(self) -> int:
        """The segment that the end token belongs to: the rationale's where there is one."""
        return max(piece.segment for piece in self.pieces)


def render_target(target: Target, objective: ObjectiveName) -> tuple[Writing, ...]:
    """What the student learns to write, one Writing for each of the objective's tasks."""
    label = Piece(target.label, LABEL)
    if target.rationale is None or objective == "label":
        if objective == "rationale_then_label":
            return (Writing("explain", (Piece(LABEL_SEPARATOR, LABEL, True), label)),)
        return (Writing("answer", (label,)),)
    rationale = Piece(target.rationale, RATIONALE)
    if objective == "label_then_rationale":
        after = Piece(f"{SEPARATOR} {target.rationale}", RATIONALE, True)
        return (Writing("answer", (label, after), cut=1),)
    if objective == "rationale_then_label":
        before = Piece(LABEL_SEPARATOR, RATIONALE, True)
        return (Writing("explain", (rationale, before, label), cut=0),)
    return Writing("answer", (label,)), Writing("explain", (rationale,), cut=0)


def parse_target(texts: Sequence[str], objective: ObjectiveName) -> Target:
    """What a student wrote, one text for each of the objective's tasks, taken apart; spaces at the
    ends fall away. A label that was not written is the empty text."""
    text = texts[0]
    if objective == "rationale_then_label":
        # The last separator: a rationale may hold one, a label does not.
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
    """One training example for every example, in their order.

    A row whose rationale is missing or not `ok` keeps its label and is never dropped.
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
