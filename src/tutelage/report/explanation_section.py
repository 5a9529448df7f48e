"""Arranges the students' own explanations for the report: two tables and a few examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tutelage.core.results import ArmExplanations, Results
from tutelage.evaluation.overlap import reasons_of
from tutelage.report.run_files import RunFiles

LONGEST = 600
"""Characters of a text in the examples; the row browser has the whole text."""


@dataclass(frozen=True, slots=True)
class Written:
    """What one arm's student wrote about one row.

    arm:       its name
    control:   whether it is a control arm
    text:      the explanation; empty where it wrote none
    predicted: the label that it predicts
    label:     the label in its text; None where there is none, or none of the task's
    cut:       whether it reached the token limit
    """

    arm: str
    control: bool
    text: str
    predicted: str
    label: str | None
    cut: bool


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """One row with what every arm wrote about it.

    right:      whether the arm that the row was chosen by predicts its gold label
    references: the data's own explanations
    """

    uid: str
    right: bool
    gold: str
    fields: Mapping[str, str]
    references: Sequence[str]
    written: Sequence[Written]


@dataclass(frozen=True, slots=True)
class ExplanationSection:
    """The section's content.

    arms:      (name, whether it is a control arm, its measurements)
    chosen_by: the arm that the example rows were chosen by
    examples:  at most one row that this arm predicts correctly and one that it does not
    """

    arms: Sequence[tuple[str, bool, ArmExplanations]]
    chosen_by: str
    examples: Sequence[ExampleRow]

    @property
    def first(self) -> ArmExplanations:
        """One arm's measurements, for what all share: the rows, the seed, the references."""
        return self.arms[0][2]

    @property
    def predictable(self) -> Sequence[tuple[str, bool, ArmExplanations]]:
        """The arms whose label predictability was measured."""
        return [arm for arm in self.arms if arm[2].label_predictability is not None]

    @property
    def unmeasured(self) -> Sequence[tuple[str, str]]:
        """(arm, why) of the other arms."""
        return [
            (name, of.label_predictability_missing or "")
            for name, _, of in self.arms
            if of.label_predictability is None
        ]


def explanation_section(results: Results, files: RunFiles) -> ExplanationSection | None:
    """The students' own explanations; None where no student was asked to write any."""
    entries = results.explanations or {}
    controls = {arm.name: arm.is_control for arm in results.arms}
    arms = [(name, is_control, entries[name]) for name, is_control in controls.items()
            if name in entries]  # fmt: skip
    if not arms:
        return None
    chosen_by = next((name for name, is_control, _ in arms if not is_control), arms[0][0])
    labels = results.task.labels
    return ExplanationSection(arms, chosen_by, _examples(files, arms, chosen_by, labels))


def _examples(
    files: RunFiles,
    arms: Sequence[tuple[str, bool, ArmExplanations]],
    chosen_by: str,
    labels: Sequence[str],
) -> list[ExampleRow]:
    """The first explained row that the student of `chosen_by` predicts correctly, and the first
    that it does not; none where the folder does not hold the rows."""
    shown = [(name, control, of) for name, control, of in arms if name in files.explanations]
    if not files.examples or chosen_by not in files.explanations:
        return []

    def predicted(name: str, seed: int, row: int) -> str:
        predictions = files.predictions[name]
        return labels[predictions.labels[predictions.seeds.index(seed)][row]]

    lead = next(of for name, _, of in shown if name == chosen_by)
    common = set.intersection(*(set(files.explanations[name]) for name, _, _ in shown))
    rows: dict[bool, int] = {}
    for row in sorted(common):
        right = predicted(chosen_by, lead.seed, row) == files.examples[row].label
        rows.setdefault(right, row)
    found = []
    for right, row in sorted(rows.items(), reverse=True):
        example = files.examples[row]
        written = []
        for name, control, of in shown:
            each = files.explanations[name][row]
            label = predicted(name, of.seed, row)
            written.append(Written(name, control, _short(each.text), label, each.label, each.cut))
        found.append(
            ExampleRow(
                example.uid,
                right,
                example.label,
                {name: _short(text) for name, text in example.fields.items()},
                [_short(text) for text in reasons_of(example)],
                written,
            )
        )
    return found


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
