"""`Results.diagnostics` and `Results.selection`, on six rows whose figures are worked by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tutelage.config.arm_settings import ArmSection
from tutelage.core.results import ArmDiagnostics, SliceResult
from tutelage.core.task import NLI, Task
from tutelage.core.types import Example, Prediction
from tutelage.data.split import Overlap
from tutelage.evaluation.selection import expected_normal_maximum
from tutelage.experiment.diagnostics import describe_diagnostics, describe_selection
from tutelage.experiment.prepare import Splits
from tutelage.experiment.summarise import ArmRun

GOLD = ["entailment", "entailment", "neutral", "neutral", "contradiction", "contradiction"]
TAGS = [("a",), ("a",), ("a",), (), (), ("b",)]
SURE = [0.8, 0.8, 0.5, 0.5, 0.8, 0.8]
LABELS = [[1, 1], [1, 0], [0, 0], [0, 1], [1, 1], [1, 1]]  # rows × seeds, 1 where right
REASONING = [[1, 1], [1, 1], [1, 1], [1, 1], [1, 1], [0, 1]]

ROWS = [
    Example(
        f"r{i}",
        {"premise": " ".join("abcdef"[: i + 1]), "hypothesis": f"h{i}"},
        GOLD[i],
        tags=TAGS[i],
    )
    for i in range(6)
]
SPLITS = Splits([], [], ROWS, {}, Overlap(0, 0, frozenset()), 0)
ARMS = [
    (ArmSection(name="labels"), LABELS),
    (ArmSection(name="reasoning", strategy="informed_reasoning"), REASONING),
    (ArmSection(name="echo", strategy="informed_reasoning", control="label_echo"), LABELS),
    (ArmSection(name="blind", omits=("premise",)), REASONING),
]


def read(correct: list[list[int]], seeds: int = 2) -> dict[int, list[Prediction]]:
    def one(row: int, right: int) -> Prediction:
        rest = (1 - SURE[row]) / 2
        label = GOLD[row] if right else NLI.labels[NLI.labels.index(GOLD[row]) - 1]
        shares = {each: SURE[row] if each == label else rest for each in NLI.labels}
        return Prediction(f"r{row}", label, shares, GOLD[row])

    return {s: [one(row, right[s]) for row, right in enumerate(correct)] for s in range(seeds)}


def arm_runs(seeds: int = 2) -> list[ArmRun]:
    return [ArmRun(arm, (), {}, None, {}, read(correct, seeds)) for arm, correct in ARMS]


@pytest.fixture(scope="module")
def diagnostics() -> dict[str, ArmDiagnostics]:
    return describe_diagnostics(arm_runs(), "labels", SPLITS, NLI)


def accuracies(slices: Sequence[SliceResult]) -> dict[str, tuple[int, float]]:
    return {entry.name: (entry.n, entry.accuracy) for entry in slices}


def test_accuracy_in_each_slice(diagnostics: dict[str, ArmDiagnostics]) -> None:
    labels = diagnostics["labels"]
    assert accuracies(labels.by_label) == {
        "entailment": (2, 0.75), "neutral": (2, 0.25), "contradiction": (2, 1.0)
    }  # fmt: skip
    assert accuracies(labels.by_length) == {
        "1 to 2 words": (2, 0.75), "3 words": (1, 0.0), "4 words": (1, 0.5),
        "5 to 6 words": (2, 1.0),
    }  # fmt: skip
    assert labels.length_of == "premise"
    assert accuracies(labels.by_tag) == {"a": (3, 0.5), "b": (1, 1.0)}
    for entry in (*labels.by_label, *labels.by_length, *labels.by_tag):
        low, high = entry.ci95
        assert 0 <= low <= entry.accuracy <= high <= 1 and entry.ci_method


def test_only_treatment_arms_are_compared_with_labels(
    diagnostics: dict[str, ArmDiagnostics],
) -> None:
    found = {entry.name: entry.difference for entry in diagnostics["reasoning"].by_label}
    assert {name: d.difference for name, d in found.items() if d is not None} == pytest.approx(
        {"entailment": 0.25, "neutral": 0.75, "contradiction": -0.25}
    )
    for difference in found.values():
        assert difference is not None
        low, high = difference.ci95
        assert low <= difference.difference <= high
        assert difference.p_value <= difference.p_adjusted and difference.family == 3
    for arm in ("labels", "echo", "blind"):
        of = diagnostics[arm]
        entries = (*of.by_label, *of.by_length, *of.by_tag)
        assert {entry.difference is None for entry in entries} == {True}


def test_confidence(diagnostics: dict[str, ArmDiagnostics]) -> None:
    labels = diagnostics["labels"]
    assert labels.calibration.gap == pytest.approx(0.7 - 8 / 12)
    # Of each seed: (|4 * 0.8 - right of the four| + |2 * 0.5 - right of the two|) / 6
    assert labels.calibration.ece_by_seed == pytest.approx([1.8 / 6, 0.2 / 6])
    bins = [(b.answers, b.confidence, b.accuracy) for b in labels.reliability]
    assert bins == [(4, 0.5, 0.25), (8, pytest.approx(0.8), 0.875)]
    risk = {p.coverage: p.risk for p in labels.risk_coverage.points}
    # Six tenths of six rows are 3.6 of the four surest, which hold one error in two seeds.
    assert risk[0.6] == pytest.approx(0.9 / 7.2) and risk[1.0] == pytest.approx(4 / 12)


def test_a_task_without_context_is_sliced_by_its_longest_field() -> None:
    plain = Task("plain", ("hypothesis", "premise"), NLI.labels)
    found = describe_diagnostics(arm_runs()[:1], "labels", SPLITS, plain)
    assert found["labels"].length_of == "premise"


def test_rows_without_tags_have_no_slices_by_tag() -> None:
    bare = [Example(row.uid, row.fields, row.label) for row in ROWS]
    splits = Splits([], [], bare, {}, Overlap(0, 0, frozenset()), 0)
    assert describe_diagnostics(arm_runs()[:1], "labels", splits, NLI)["labels"].by_tag == ()


TRIED = {
    "labels": [4 / 6, 4 / 6, 5 / 6],
    "reasoning": [5 / 6, 1.0, 0.5, 4 / 6],
    "echo": [4 / 6, 4 / 6],
    "blind": [0.5, 0.5],
}


def test_the_best_of_several_compared_with_chance() -> None:
    found = describe_selection(TRIED, arm_runs(), "labels", SPLITS, NLI)
    labels, reasoning = found.by_arm["labels"], found.by_arm["reasoning"]
    # Labels: the seeds are equally good, E = (4 * 0.25) / 5 over six rows.
    assert labels.spread == pytest.approx(math.sqrt(0.2 / 6))
    assert labels.models == 3 and labels.gain == pytest.approx(1 / 6)
    assert labels.gain_by_chance == pytest.approx(math.sqrt(0.2 / 6) * 1.5 / math.sqrt(math.pi))
    # Reasoning: seeds of 5 / 6 and 1, C = 6 * 2 / 12² = E.
    assert reasoning.spread == pytest.approx(math.sqrt(1 / 72))
    assert reasoning.best_accuracy == 1.0
    assert reasoning.chosen_accuracy == pytest.approx(11 / 12)
    assert found.baseline == "labels"
    assert [entry.models for entry in found.best_of] == [2, 3, 5, 9, 27]
    assert found.best_of[3].gain_by_chance == pytest.approx(
        labels.spread * expected_normal_maximum(9)
    )


def test_one_seed_does_not_show_how_much_models_differ() -> None:
    found = describe_selection(TRIED, arm_runs(seeds=1), "labels", SPLITS, NLI)
    assert {arm.gain_by_chance for arm in found.by_arm.values()} == {None}
    assert {entry.gain_by_chance for entry in found.best_of} == {None}
    assert found.by_arm["labels"].gain == pytest.approx(1 / 6)
