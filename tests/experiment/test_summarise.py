"""What results.json says outside its families: easy answers, and the margin of equivalence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tutelage.config.arm_settings import ArmSection
from tutelage.config.comparisons import Families
from tutelage.core.task import NLI
from tutelage.core.types import Example, Prediction
from tutelage.data.split import Overlap
from tutelage.evaluation.compare import compare
from tutelage.experiment.prepare import Splits
from tutelage.experiment.summarise import (
    MAJORITY,
    ArmRun,
    describe_comparisons,
    describe_context_comparisons,
)

ROWS = 12
TEST = [
    Example(f"r{i}", {"premise": f"p{i // 3}", "hypothesis": "h"}, NLI.labels[i % 3])
    for i in range(ROWS)
]
TRAIN = [Example(f"t{i}", {"premise": f"t{i}", "hypothesis": "h"}, "neutral") for i in range(3)]
SPLITS = Splits(TRAIN, [], TEST, {}, Overlap(0, 0, frozenset()), 0)
GROUPS = {e.uid: e.fields["premise"] for e in TEST}


def arm_run(name: str, right: set[int], **section: Any) -> ArmRun:
    """An arm whose two students are right on `right`, the second on row 0 as well."""

    def predictions(more: set[int]) -> list[Prediction]:
        return [
            Prediction(e.uid, e.label if i in right | more else _other(e.label), {}, e.label)
            for i, e in enumerate(TEST)
        ]

    arm = ArmSection(name=name, **section)
    return ArmRun(arm, (), {}, None, {}, {0: predictions(set()), 1: predictions({0})})


def _other(label: str) -> str:
    return NLI.labels[NLI.labels.index(label) - 1]


REASONS = {"strategy": "informed_reasoning"}
ARM_RUNS = [
    arm_run("labels", {1, 2, 5, 7}),
    arm_run("reasons", {0, 1, 2, 3, 4, 8}, **REASONS),
    arm_run("reasons-shuffled", {1, 2}, **REASONS, control="shuffled"),
    arm_run("hypothesis-only", {1, 2, 3}, omits=("premise",)),
]


def test_the_arms_are_compared_with_easy_answers() -> None:
    found = describe_context_comparisons(ARM_RUNS, SPLITS, NLI, majority=True)
    assert [(c.arm, c.baseline, c.kind) for c in found] == [
        ("labels", "hypothesis-only", "omits"),
        ("reasons", "hypothesis-only", "omits"),
        ("labels", MAJORITY, "majority"),
        ("reasons", MAJORITY, "majority"),
    ]
    # Right in rows × 2 seeds: labels 9, reasons 12, the blind student 7, “neutral” 4 rows of 12.
    counts = [9 - 7, 12 - 7, 9 - 8, 12 - 8]
    assert [c.difference for c in found] == pytest.approx([n / 24 for n in counts])
    predictions = {o.arm.name: o.test for o in ARM_RUNS}
    (alone,) = compare(predictions, [("labels", "hypothesis-only")], NLI, GROUPS)
    assert found[0].ci95 == alone.ci95 and found[0].groups == 4
    assert all(c.family == 1 and c.p_adjusted == c.p_value for c in found)


def test_only_the_baselines_that_there_are() -> None:
    assert describe_context_comparisons(ARM_RUNS[:3], SPLITS, NLI, majority=False) == ()
    found = describe_context_comparisons(ARM_RUNS[:1], SPLITS, NLI, majority=True)
    assert [(c.arm, c.baseline) for c in found] == [("labels", MAJORITY)]


def test_the_margin_is_that_of_the_equivalence_and_of_nothing_else() -> None:
    families = Families((("reasons", "labels"),), (("reasons", "reasons-shuffled"),))
    one = describe_comparisons(ARM_RUNS, families, SPLITS, NLI)
    wide = describe_comparisons(ARM_RUNS, families, SPLITS, NLI, margin=0.6)
    assert {c.equivalence_margin for c in one} == {0.01}
    assert one == describe_comparisons(ARM_RUNS, families, SPLITS, NLI, margin=1.0 / 100)
    for first, second in zip(one, wide, strict=True):
        assert second.equivalence_margin == 0.6
        assert second.equivalence_p_value < first.equivalence_p_value
        of_margin = {
            "equivalence_margin": first.equivalence_margin,
            "equivalence_p_value": first.equivalence_p_value,
        }
        assert replace(second, **of_margin) == first
