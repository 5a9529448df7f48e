"""The answer says so where an easy baseline does what the arms do."""

from __future__ import annotations

from dataclasses import fields

import pytest
import small_results

from tutelage.core.results import (
    ArmResult,
    Baselines,
    Comparison,
    ContextComparison,
    MajorityBaseline,
    Results,
)
from tutelage.core.types import ControlName
from tutelage.experiment.summarise import MAJORITY as NAMED
from tutelage.report.answer import answer_sentences
from tutelage.report.learnt import MAJORITY, learnt_caveats

BLIND = "hypothesis-only"


def results(
    leads: dict[tuple[str, str], tuple[float, float]],
    *,
    taught: tuple[str, ...] = ("weak", "best"),
    majority: bool = False,
    blind: bool = True,
) -> Results:
    """leads: (arm, baseline) -> a paired difference and half its interval. The accuracies alone,
    which all have an interval of ± 2 points, are 60% of labels, 61, 62… of those with rationales,
    60.5% of the blind student and 33% of the majority."""

    def arm(
        name: str,
        strategy: str | None,
        accuracy: float,
        control: ControlName | None = None,
        omits: tuple[str, ...] = (),
    ) -> ArmResult:
        return small_results.arm(
            name, strategy, control, omits=omits, accuracy=accuracy, half=0.02, n=900
        )

    arms = [arm("labels", None, 0.6)]
    arms += [arm(name, "human", 0.61 + i / 100) for i, name in enumerate(taught)]
    arms += [arm("best-shuffled", "human", 0.9, "shuffled")]
    arms += [arm(BLIND, None, 0.605, omits=("premise",))] if blind else []
    found = MajorityBaseline("neutral", 900, 0.33, (0.3, 0.36), "an interval")
    values = small_results.comparison("", "")
    return small_results.results(
        arms=tuple(arms),
        baselines=Baselines(found if majority else None, (), (), None),
        context_comparisons=tuple(
            ContextComparison(
                **{f.name: getattr(values, f.name) for f in fields(Comparison)}
                | {"arm": a, "baseline": b, "difference": d, "ci95": (d - half, d + half)}
                | {"kind": "majority" if b == MAJORITY else "omits"}
            )
            for (a, b), (d, half) in leads.items()
        ),
    )


def test_a_student_that_sees_less_and_does_as_well_is_said() -> None:
    leads = {
        ("labels", BLIND): (-0.008, 0.015), ("best", BLIND): (0.004, 0.014),
        ("weak", BLIND): (-0.1, 0.01),
    }  # fmt: skip
    [sentence] = learnt_caveats(results(leads))
    assert sentence == (
        "What was learnt may be no more than what the hypothesis alone gives away: "
        "hypothesis-only, whose student does not see the premise, did at least as well as labels "
        "(labels − hypothesis-only: −0.8 points, 95% interval −2.3 to 0.7) and is not shown to be "
        "below the best rationale arm best (best − hypothesis-only: +0.4 points, 95% interval "
        "−1.0 to 1.8)."
    )
    assert sentence in answer_sentences(results(leads))


def test_only_who_is_not_above_it_is_named() -> None:
    leads = {("labels", BLIND): (-0.03, 0.01), ("best", BLIND): (0.02, 0.01)}
    [sentence] = learnt_caveats(results(leads, taught=("best",)))
    assert "did better than labels (labels" in sentence and "best" not in sentence
    leads = {("labels", BLIND): (0.03, 0.01), ("best", BLIND): (0.0, 0.01)}
    [sentence] = learnt_caveats(results(leads, taught=("best",)))
    assert "did at least as well as best (best" in sentence and "labels" not in sentence


def test_what_is_said_of_two_arms_is_said_once() -> None:
    leads = {("labels", BLIND): (-0.004, 0.02), ("best", BLIND): (-0.001, 0.02)}
    [sentence] = learnt_caveats(results(leads, taught=("best",)))
    assert sentence.count("did at least as well as") == 1
    assert "−2.4 to 1.6) and best (best − hypothesis-only: −0.1 points, 95%" in sentence


def test_arms_that_are_above_it_need_no_word() -> None:
    leads = {("labels", BLIND): (0.02, 0.019), ("best", BLIND): (0.02, 0.019)}
    assert learnt_caveats(results(leads)) == []
    assert learnt_caveats(results({}, blind=False)) == []


def test_arms_without_a_paired_comparison_are_compared_unpaired() -> None:
    [sentence] = learnt_caveats(
        results({}, majority=True)
    )  # above the majority class, whatever the pairing
    assert "(labels − hypothesis-only: −0.5 points, unpaired 95% interval −3.3 to 2.3)" in sentence


@pytest.mark.parametrize(
    ("labels", "best", "opening", "names"),
    [
        (0.0, 0.004, "Nothing is shown to have been learnt, as far as accuracy goes, so that the "
         "comparisons between arms say little: ", "labels and the best rationale arm best are"),
        (0.0, 0.2, "Without rationales nothing is shown", "labels is"),
        (0.2, 0.0, "With rationales nothing is shown", "the best rationale arm best is"),
    ],
)  # fmt: skip
def test_arms_that_do_not_beat_the_majority_class(
    labels: float, best: float, opening: str, names: str
) -> None:
    leads = {("labels", MAJORITY): (labels, 0.01), ("best", MAJORITY): (best, 0.01)}
    [sentence] = learnt_caveats(results(leads, majority=True, blind=False))
    assert sentence.startswith(opening)
    assert f"{names} not shown to beat “neutral” for every row, which is right on 33.0%" in sentence
    assert ("(labels − majority class: 0.0 points, 95% interval −1.0 to 1.0" in sentence) == (
        labels == 0
    )


def test_labels_alone_without_rationale_arms() -> None:
    leads = {("labels", MAJORITY): (0.0, 0.01)}
    [sentence] = learnt_caveats(results(leads, taught=(), majority=True, blind=False))
    assert sentence.startswith("Nothing is shown")


def test_the_report_and_the_results_name_the_majority_alike() -> None:
    assert NAMED == MAJORITY
