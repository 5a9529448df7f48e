"""What the student is to write, as text: rendering and parsing, inverses of each other.

Target("entailment", "The sea is salt.")  <->  "entailment Rationale: The sea is salt."
Target("entailment")                      <->  "entailment"
"""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.errors import DataError
from tutelage.records import Example, ObjectiveName, Rationale, Target, TrainingExample
from tutelage.task import Task

SEPARATOR = "Rationale:"
"""Stands between the two segments, and belongs to the rationale's."""


def render_target(target: Target) -> str:
    """The whole target as the student writes it, without its end token."""
    if target.rationale is None:
        return target.label
    return f"{target.label} {SEPARATOR} {target.rationale}"


def parse_target(text: str) -> Target:
    """What a student wrote, taken apart at the first separator; spaces at the ends fall away."""
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
            task.render_source(e.fields),
            Target(task.verbalize(e.label), texts.get(e.uid)),
        )
        for e in examples
    ]
