"""What the report shows of the rationales that the students wrote: two tables and a few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tutelage.core.results import ArmExplanations, Results
from tutelage.evaluation.overlap import reasons_of
from tutelage.report.run_files import RunFiles

LONGEST = 600
"""Characters of a text shown among the examples; the browser of rows has them whole."""


@dataclass(frozen=True, slots=True)
class Written:
    """What one arm's student said of one row.

    scored: the label that it scored highest
    label:  the one in its text; None where it writes none, or none of the task's
    """

    arm: str
    control: bool
    text: str
    scored: str
    label: str | None
    cut: bool


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """One row with what all arms wrote about it.

    right: whether the arm that the row was chosen by gave it the gold label
    """

    uid: str
    right: bool
    gold: str
    fields: Mapping[str, str]
    references: Sequence[str]
    written: Sequence[Written]


@dataclass(frozen=True, slots=True)
class Explained:
    """The section's content.

    arms:     (name, whether it is a control, its entry of results.json)
    chosen_by: the arm that the example rows were chosen by
    """

    arms: Sequence[tuple[str, bool, ArmExplanations]]
    chosen_by: str
    examples: Sequence[ExampleRow]

    @property
    def first(self) -> ArmExplanations:
        """An arm's entry, for what all of them share: the rows, the seed, the references."""
        return self.arms[0][2]

    @property
    def of_worth(self) -> Sequence[tuple[str, bool, ArmExplanations]]:
        """The arms of which it is known how well the label is told from their rationales."""
        return [arm for arm in self.arms if arm[2].label_predictability is not None]

    @property
    def without_worth(self) -> Sequence[tuple[str, str]]:
        """(arm, why) of the others."""
        return [
            (name, of.label_predictability_missing or "")
            for name, _, of in self.arms
            if of.label_predictability is None
        ]


def explained(results: Results, files: RunFiles) -> Explained | None:
    """What the students wrote of their own accord; None where none was asked."""
    entries = results.explanations or {}
    controls = {arm.name: arm.is_control for arm in results.arms}
    arms = [(name, is_control, entries[name]) for name, is_control in controls.items()
            if name in entries]  # fmt: skip
    if not arms:
        return None
    chosen_by = next((name for name, is_control, _ in arms if not is_control), arms[0][0])
    labels = results.task.labels
    return Explained(arms, chosen_by, _examples(files, arms, chosen_by, labels))


def _examples(
    files: RunFiles,
    arms: Sequence[tuple[str, bool, ArmExplanations]],
    chosen_by: str,
    labels: Sequence[str],
) -> list[ExampleRow]:
    """The first explained row that the leading arm's student got right, and the first that it got
    wrong; none where the folder does not hold the rows."""
    shown = [(name, control, of) for name, control, of in arms if name in files.explanations]
    if not files.examples or chosen_by not in files.explanations:
        return []

    def scored(name: str, seed: int, row: int) -> str:
        predictions = files.predictions[name]
        return labels[predictions.labels[predictions.seeds.index(seed)][row]]

    lead = next(of for name, _, of in shown if name == chosen_by)
    common = set.intersection(*(set(files.explanations[name]) for name, _, _ in shown))
    rows: dict[bool, int] = {}
    for row in sorted(common):
        right = scored(chosen_by, lead.seed, row) == files.examples[row].label
        rows.setdefault(right, row)
    found = []
    for right, row in sorted(rows.items(), reverse=True):
        example = files.examples[row]
        written = []
        for name, control, of in shown:
            each = files.explanations[name][row]
            said = scored(name, of.seed, row)
            written.append(Written(name, control, _short(each.text), said, each.label, each.cut))
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
