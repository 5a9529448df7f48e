"""The answer says so where a trivial baseline does as well as the arms."""

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
from tutelage.report.sanity_checks import MAJORITY, at_chance_level, partial_input_caveats

PARTIAL = "hypothesis-only"


def results(
    leads: dict[tuple[str, str], tuple[float, float]],
    *,
    treatment: tuple[str, ...] = ("weak", "best"),
    majority: bool = False,
    partial: bool = True,
) -> Results:
    """leads: (arm, baseline) -> a paired difference and half its interval. The accuracies alone,
    which all have an interval of ± 2 points, are 60% of labels, 61, 62… of those with rationales,
    60.5% of the student that sees the hypothesis alone and 33% of the majority."""

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
    arms += [arm(name, "human", 0.61 + i / 100) for i, name in enumerate(treatment)]
    arms += [arm("best-shuffled", "human", 0.9, "shuffled")]
    arms += [arm(PARTIAL, None, 0.605, omits=("premise",))] if partial else []
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


def test_a_student_that_sees_less_and_does_as_well_is_named() -> None:
    leads = {
        ("labels", PARTIAL): (-0.008, 0.015), ("best", PARTIAL): (0.004, 0.014),
        ("weak", PARTIAL): (-0.1, 0.01),
    }  # fmt: skip
    [sentence] = partial_input_caveats(results(leads))
    assert sentence == (
        "The students may have learned no more than the hypothesis alone gives away: "
        "hypothesis-only, whose student does not see the premise, did at least as well as labels "
        "(labels − hypothesis-only: −0.8 points, 95% interval −2.3 to 0.7) and is not shown to be "
        "below the best treatment arm best (best − hypothesis-only: +0.4 points, 95% interval "
        "−1.0 to 1.8)."
    )
    assert sentence in answer_sentences(results(leads))


def test_only_arms_that_are_not_above_it_are_named() -> None:
    leads = {("labels", PARTIAL): (-0.03, 0.01), ("best", PARTIAL): (0.02, 0.01)}
    [sentence] = partial_input_caveats(results(leads, treatment=("best",)))
    assert "did better than labels (labels" in sentence and "best" not in sentence
    leads = {("labels", PARTIAL): (0.03, 0.01), ("best", PARTIAL): (0.0, 0.01)}
    [sentence] = partial_input_caveats(results(leads, treatment=("best",)))
    assert "did at least as well as best (best" in sentence and "labels" not in sentence


def test_what_holds_for_two_arms_is_said_once() -> None:
    leads = {("labels", PARTIAL): (-0.004, 0.02), ("best", PARTIAL): (-0.001, 0.02)}
    [sentence] = partial_input_caveats(results(leads, treatment=("best",)))
    assert sentence.count("did at least as well as") == 1
    assert "−2.4 to 1.6) and best (best − hypothesis-only: −0.1 points, 95%" in sentence


def test_arms_that_are_above_it_are_not_mentioned() -> None:
    leads = {("labels", PARTIAL): (0.02, 0.019), ("best", PARTIAL): (0.02, 0.019)}
    assert partial_input_caveats(results(leads)) == []
    assert partial_input_caveats(results({}, partial=False)) == []


def test_arms_without_a_paired_comparison_are_compared_unpaired() -> None:
    [sentence] = partial_input_caveats(
        results({}, majority=True)
    )  # above the majority class, whatever the pairing
    assert "(labels − hypothesis-only: −0.5 points, unpaired 95% interval −3.3 to 2.3)" in sentence


@pytest.mark.parametrize(
    ("labels", "best", "opening", "named"),
    [
        (0.0, 0.004, "No arm is shown to be above chance level, so the comparisons between arms "
         "say little: ", ("labels", "best")),
        (0.0, 0.2, "Labels alone is not shown to be above chance level, so a difference from it "
         "says little: ", ("labels",)),
        (0.2, 0.0, "No treatment arm is shown to be above chance level, so comparisons with their "
         "control arms say little: ", ("best",)),
    ],
)  # fmt: skip
def test_arms_that_do_not_beat_the_majority_class(
    labels: float, best: float, opening: str, named: tuple[str, ...]
) -> None:
    leads = {("labels", MAJORITY): (labels, 0.01), ("best", MAJORITY): (best, 0.01)}
    made = results(leads, majority=True, partial=False)
    sentence = at_chance_level(made)
    assert sentence is not None
    assert sentence.startswith(
        f"{opening}answering “neutral” for every row is right on 33.0% of the rows ("
    )
    assert [name for name in ("labels", "best") if f"{name} − majority class" in sentence] == list(
        named
    )
    assert ("(labels − majority class: 0.0 points, 95% interval −1.0 to 1.0" in sentence) == (
        labels == 0
    )
    assert answer_sentences(made)[0] == sentence  # before everything else


def test_arms_above_the_majority_class_are_not_mentioned() -> None:
    leads = {("labels", MAJORITY): (0.1, 0.01), ("best", MAJORITY): (0.2, 0.01)}
    assert at_chance_level(results(leads, majority=True)) is None
    assert at_chance_level(results(leads)) is None


def test_labels_alone_without_treatment_arms() -> None:
    leads = {("labels", MAJORITY): (0.0, 0.01)}
    sentence = at_chance_level(results(leads, treatment=(), majority=True, partial=False))
    assert sentence is not None and sentence.startswith("No arm is shown")


def test_the_report_and_the_results_name_the_majority_alike() -> None:
    assert NAMED == MAJORITY
