"""The table of baselines: scores to compare the accuracies of the arms with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.core.results import (
    ArmResult,
    BagOfWordsBaseline,
    MajorityBaseline,
    Results,
    TeacherBaseline,
    TeacherLabelsBaseline,
)
from tutelage.core.wording import dollars, percent, several

FEW_ROWS = 30
"""Below this many rows the accuracy of the teacher's answers is a rough impression, and the page
says so."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """One line.

    what:     how it comes to its answers
    where:    the rows that it was evaluated on
    accuracy: a fraction, with its interval `ci95`
    note:     what else there is to know: rows without an answer, cost; may be empty
    """

    name: str
    what: str
    where: str
    accuracy: float
    ci95: Sequence[float]
    note: str = ""


def baselines_of(results: Results) -> list[Baseline]:
    """The baselines, then the students to compare with them; empty where there are no baselines."""
    known = results.baselines
    lines = [_majority(known.majority)] if known.majority else []
    lines += [_bag_of_words(known.bag_of_words)] if known.bag_of_words else []
    lines += [_partial_input(arm) for arm in results.arms if arm.omits]
    lines += [_classifier(arm) for arm in results.arms if arm.classifier]
    lines += [_teacher_labels(entry) for entry in known.teacher_labels]
    lines += [_teacher(entry) for entry in known.teacher]
    if not lines:
        return []
    return lines + [
        Baseline(
            arm.name,
            "student, labels alone" if arm.strategy is None else "student, with explanations",
            _rows(arm.test.n, "test"),
            arm.test.accuracy,
            arm.test.ci95,
        )
        for arm in results.arms
        if arm.is_plain or arm.is_treatment
    ]


def _majority(found: MajorityBaseline) -> Baseline:
    return Baseline(
        "Majority class",
        f"“{found.label}”, the most frequent label in training, for every row",
        _rows(found.n, "test"),
        found.accuracy,
        found.ci95,
    )


def _bag_of_words(found: BagOfWordsBaseline) -> Baseline:
    return Baseline(
        "Bag of words",
        "logistic regression on the words and word pairs of the input (TF-IDF)",
        _rows(found.n, "test"),
        found.accuracy,
        found.ci95,
        f"{found.features:,} features; dev chose C = {found.strength:g} of "
        f"{', '.join(f'{each:g}' for each in found.strengths)}",
    )


def _partial_input(arm: ArmResult) -> Baseline:
    return Baseline(
        arm.name,
        f"student that does not see the {', '.join(arm.omits)}",
        _rows(arm.test.n, "test"),
        arm.test.accuracy,
        arm.test.ci95,
    )


def _classifier(arm: ArmResult) -> Baseline:
    return Baseline(
        arm.name,
        f"{arm.classifier}, a classifier that learns labels alone",
        _rows(arm.test.n, "test"),
        arm.test.accuracy,
        arm.test.ci95,
    )


def _teacher_labels(entry: TeacherLabelsBaseline) -> Baseline:
    without = entry.rows - entry.labelled
    return Baseline(
        f"Labels of {entry.model or 'the data'}",
        f"the teacher's own labels, given with the explanations of {entry.arm}",
        _rows(entry.labelled, "training"),
        entry.accuracy,
        entry.ci95,
        f"{several(without, 'row')} without a label, not counted; "
        f"{percent(entry.accuracy_of_all)} if they count as wrong"
        if without
        else "",
    )


def _teacher(entry: TeacherBaseline) -> Baseline:
    shots = several(entry.shots, "worked example") if entry.shots else "no worked example"
    notes = [
        f"{several(entry.unparsed, 'answer')} without a readable label, counted as wrong"
        if entry.unparsed
        else "",
        f"only {several(entry.rows, 'row')}" if entry.rows < FEW_ROWS else "",
        f"cost {dollars(entry.cost_usd)}",
    ]
    return Baseline(
        entry.model,
        f"the teacher, asked for the label with {shots}",
        _rows(entry.rows, "dev"),
        entry.accuracy,
        entry.ci95,
        "; ".join(note for note in notes if note),
    )


def _rows(count: int, split: str) -> str:
    return several(count, f"{split} row")
