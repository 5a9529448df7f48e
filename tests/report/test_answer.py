"""The sentences say what the tests found, and no more."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import small_results
from report_sample import sample_results

from tutelage.core.results import (
    ComparisonResult,
    DepartureResult,
    OtherAnswer,
    OtherDifference,
    Results,
)
from tutelage.core.types import ControlName
from tutelage.report.answer import answer_of, answer_sentences, families
from tutelage.report.findings import Conclusion, findings

ACCURACY = 0.427
"""Of labels alone; a treatment arm has the difference on top."""


def comparison(
    baseline: str, difference: float, half: float, p: float, arm: str = "taught", **more: Any
) -> ComparisonResult:
    return small_results.comparison(arm, baseline, difference, half, p, **more)


def results(*comparisons: ComparisonResult, **changes: Any) -> Results:
    """Those of these comparisons. An arm `taught` has three control arms."""
    gains = {c.arm: c.difference for c in comparisons if c.baseline == "labels"}
    strategy = "informed_reasoning"
    controls: dict[str, ControlName] = {
        "shuffled": "shuffled", "echo": "label_echo", "filler": "filler"
    }  # fmt: skip
    arms = (
        small_results.arm("labels", accuracy=ACCURACY),
        *(
            small_results.arm(name, strategy, accuracy=ACCURACY + gain)
            for name, gain in (gains or {"taught": 0.0}).items()
        ),
        *(small_results.arm(name, strategy, control) for name, control in controls.items()),
    )
    return small_results.results(arms=arms, comparisons=comparisons, **changes)


def first_sentence(*comparisons: ComparisonResult, **changes: Any) -> str:
    return findings(results(*comparisons, **changes))[0].sentences[0]


def test_a_gain_that_is_the_content_s() -> None:
    [text] = answer_sentences(
        results(
            comparison("labels", 0.031, 0.019, 0.01), comparison("shuffled", 0.024, 0.018, 0.03)
        )
    )
    assert text == (
        "Training on informed-reasoning explanations (arm taught) raised test accuracy from 42.7% "
        "with labels alone to 45.8% (+3.1 points, 95% interval 1.2 to 5.0; 4,912 rows, 5 seeds). "
        "It also beat its control arm shuffled (explanations of other rows) by 2.4 points (0.6 to "
        "4.2), so the gain depends on explanations of the row itself; whether on their words or "
        "their reasoning, explanations of other rows do not show."
    )


def test_an_arm_that_is_named_like_its_explanations_is_not_named_twice() -> None:
    gain = comparison("labels", 0.222, 0.089, 0.01, arm="informed-reasoning", n=1000)
    assert first_sentence(gain) == (
        "Training on informed-reasoning explanations raised test accuracy from 42.7% with labels "
        "alone to 64.9% (+22.2 points, 95% interval 13.3 to 31.1; 1,000 rows, 5 seeds)."
    )


def test_a_gain_that_the_control_shares_is_not_credited_to_the_content() -> None:
    [text] = answer_sentences(
        results(comparison("labels", 0.031, 0.019, 0.01), comparison("shuffled", 0.004, 0.02, 0.6))
    )
    assert "raised test accuracy from 42.7% with labels alone to 45.8% (+3.1 points" in text
    assert "5 seeds), but it is not shown that their content made the difference. No " in text
    assert (
        "No difference from its control arm shuffled (explanations of other rows) was detected: "
        "+0.4 points (95% interval −1.6 to 2.4)." in text
    )
    assert "true difference that this experiment detects four times in five is 4.2 points." in text
    assert "also beat" not in text and "so the gain depends on" not in text


def test_a_gain_below_the_control_s() -> None:
    [text] = answer_sentences(
        results(comparison("labels", 0.03, 0.02, 0.01), comparison("shuffled", -0.02, 0.01, 0.02))
    )
    assert ", but explanations of other rows (shuffled) did better. It did worse than" in text
    assert (
        "It did worse than its control arm shuffled (explanations of other rows) by 2.0 points "
        "(1.0 to 3.0), so it does not owe its gain to what the explanations say." in text
    )


def test_each_of_two_controls_is_spoken_of() -> None:
    [text] = answer_sentences(
        results(
            comparison("labels", 0.03, 0.02, 0.01),
            comparison("shuffled", 0.02, 0.01, 0.02),
            comparison("echo", 0.0, 0.01, 1.0),
        )
    )
    assert (
        "It also beat its control arm shuffled (explanations of other rows) by 2.0 points (1.0 to "
        "3.0)." in text
    )
    assert "control arm echo (a sentence that repeats the label) was detected: 0.0 points" in text


def secondary(baseline: str, difference: float, half: float, p: float) -> ComparisonResult:
    return comparison(baseline, difference, half, p, primary=False)


def test_beaten_secondary_controls_are_named_with_the_primary_one() -> None:
    document = results(
        comparison("labels", 0.031, 0.019, 0.01),
        comparison("shuffled", 0.024, 0.018, 0.03),
        secondary("echo", 0.02, 0.01, 0.01),
        secondary("filler", 0.03, 0.01, 0.01),
    )
    [found] = findings(document)
    assert found.conclusion == "content"
    assert found.sentences[0].endswith("; 4,912 rows, 5 seeds).")
    assert found.sentences[1:] == (
        "It also beat its control arms shuffled (explanations of other rows) by 2.4 points (0.6 to "
        "4.2), echo (a sentence that repeats the label) by 2.0 points (1.0 to 3.0) and filler "
        "(filler text of the same length) by 3.0 points (2.0 to 4.0), so the gain depends on "
        "explanations of the row itself; whether on their words or their reasoning, explanations "
        "of other rows do not show.",
    )


@pytest.mark.parametrize(
    ("control", "means"),
    [
        ("echo", ", but a sentence that repeats the label may do as well."),
        ("filler", ", but filler text of the same length may do as well."),
    ],
)
def test_a_secondary_control_that_is_not_beaten_leaves_the_content_open(
    control: str, means: str
) -> None:
    document = results(
        comparison("labels", 0.031, 0.019, 0.01),
        comparison("shuffled", 0.024, 0.018, 0.03),
        secondary(control, 0.004, 0.02, 0.6),
    )
    [found] = findings(document)
    assert found.conclusion == "gain"
    assert found.sentences[0].endswith(means)
    assert "so the gain depends on" not in found.text


def test_without_shuffled_explanations_beating_the_others_is_not_enough() -> None:
    document = results(
        comparison("labels", 0.031, 0.019, 0.01), secondary("filler", 0.03, 0.01, 0.01)
    )
    [found] = findings(document)
    assert found.conclusion == "gain"
    assert "has no control arm with explanations of other rows" in found.text
    assert "so the gain depends on" not in found.text


def test_families_are_counted_apart() -> None:
    first = comparison("labels", 0.031, 0.019, 0.01)
    assert families([first, first]) == "2 comparisons"
    assert families([first, secondary("echo", 0, 1, 1), secondary("filler", 0, 1, 1)]) == (
        "the 1 with labels alone and shuffled explanations, and separately over the 2 with other "
        "control arms"
    )


def test_each_departure_is_said_with_its_reason() -> None:
    gain = comparison("labels", 0.03, 0.02, 0.01)
    left = DepartureResult("seeds", "1 seed", "A quick test.")
    with_it = answer_sentences(results(gain, departures=(left,)))
    assert with_it[:-1] == answer_sentences(results(gain))
    assert with_it[-1] == "Departure from the protocol (seeds): A quick test (1 seed)."


def test_no_difference_names_the_smallest_that_would_be_detected() -> None:
    [text] = answer_sentences(results(comparison("labels", 0.005, 0.02, 0.4)))
    assert text == (
        "No effect of training on informed-reasoning explanations (arm taught) was detected: test "
        "accuracy was 42.7% with labels alone and 43.2% with explanations (+0.5 points, 95% "
        "interval −1.5 to 2.5; 4,912 rows, 5 seeds). The smallest true effect that this experiment "
        "detects four times in five is 4.2 points."
    )


def test_an_interval_without_zero_that_correction_undid_is_explained() -> None:
    text = first_sentence(comparison("labels", 0.03, 0.02, 0.06))
    assert "was detected after correction for several comparisons: test accuracy was" in text
    assert "(+3.0 points, 95% interval 1.0 to 5.0;" in text


def test_a_control_beaten_without_a_gain_is_said_too() -> None:
    [found] = findings(
        results(comparison("labels", 0.005, 0.02, 0.4), comparison("shuffled", 0.03, 0.02, 0.01))
    )
    assert found.sentences[0].startswith("No effect of training on informed-reasoning")
    assert found.sentences[-1] == (
        "It did beat shuffled (explanations of other rows) by 3.0 points (1.0 to 5.0)."
    )


def test_a_loss_is_a_loss() -> None:
    [text] = answer_sentences(results(comparison("labels", -0.03, 0.02, 0.01)))
    assert text == (
        "Training on informed-reasoning explanations (arm taught) lowered test accuracy from 42.7% "
        "with labels alone to 39.7% (−3.0 points, 95% interval −5.0 to −1.0; 4,912 rows, 5 seeds)."
    )


def test_without_a_control_the_content_is_unknown() -> None:
    [text] = answer_sentences(results(comparison("labels", 0.03, 0.02, 0.01)))
    assert text.endswith(
        "It has no control arm, so it is unknown whether the content of the explanations made the "
        "difference."
    )


def test_an_unknown_detectable_difference_is_left_out() -> None:
    same = comparison("labels", 0.0, 0.01, 1.0, minimum_detectable_difference=None)
    [text] = answer_sentences(results(same))
    assert "four times in five" not in text
    [text] = answer_sentences(results(replace(same, standard_error=0.4)))
    assert "This experiment is too small to detect any true effect four times in five." in text


def test_one_seed_and_an_unfinished_run_are_said() -> None:
    sentences = answer_sentences(
        results(comparison("labels", 0.03, 0.02, 0.01, seeds=1), finished=False)
    )
    assert "; 4,912 rows, 1 seed: training again may give another result)." in sentences[0]
    assert "has not finished" in sentences[1]
    assert "With one seed, the results are about these trained models only" in sentences[2]


def test_a_second_opening_of_the_test_set_is_said() -> None:
    gain = comparison("labels", 0.03, 0.02, 0.01)
    assert len(answer_sentences(results(gain))) == 1
    known = OtherDifference("reasons", "labels", 0.012, (-0.01, 0.03), 0.0812)
    others = tuple(
        OtherAnswer("2026-01-02T03:04:05Z", "choice", (0, 1), differences)
        for differences in ((known,), ())
    )
    sentence = answer_sentences(results(gain, other_answers=others))[-1]
    assert "opened 3 times" in sentence
    assert sentence.endswith(
        "Known before: an answer with 2 seeds (reasons − labels +1.2 points, p = 0.081) and an "
        "answer with 2 seeds."
    )


def test_other_runs_that_used_the_same_rows_are_named() -> None:
    gain = comparison("labels", 0.03, 0.02, 0.01)
    assert len(answer_sentences(results(gain, test_rows_also_used_by=()))) == 1
    for others, opening in ((("a",), "The run a used"), (("a", "b"), "The runs a and b used")):
        sentence = answer_sentences(results(gain, test_rows_also_used_by=others))[-1]
        assert sentence.startswith(f"{opening} the same test rows: ")


def test_equivalence_is_claimed_only_where_it_was_shown() -> None:
    margin = {"equivalence_margin": 0.01, "ci90": (-0.004, 0.006)}
    small = comparison("labels", 0.001, 0.006, 0.7, **margin, equivalence_p_value=0.02)
    [found] = findings(results(small))
    assert found.conclusion == "equivalent"
    assert found.sentences == (
        "Training on informed-reasoning explanations (arm taught) changed test accuracy by less "
        "than 1.0 points: 42.7% with labels alone and 42.8% with explanations (+0.1 points, 95% "
        "interval −0.5 to 0.7; 4,912 rows, 5 seeds).",
        "Two one-sided tests show this (p = 0.020, 90% interval −0.4 to 0.6).",
    )
    [found] = findings(results(replace(small, equivalence_p_value=0.06)))
    assert found.conclusion == "undetected"
    assert "less than" not in found.text and "one-sided" not in found.text


SAME = {"equivalence_margin": 0.005, "ci90": (-0.002, 0.004), "equivalence_p_value": 0.01}
"""A comparison whose difference is shown to be within half a point."""


def test_an_arm_that_is_worse_than_its_control_without_a_gain_is_said() -> None:
    [found] = findings(
        results(comparison("labels", 0.005, 0.02, 0.4), comparison("shuffled", -0.03, 0.02, 0.01))
    )
    assert found.conclusion == "undetected"
    assert found.sentences[-1] == (
        "It did worse than its control arm shuffled (explanations of other rows) by 3.0 points "
        "(1.0 to 5.0)."
    )
    [lost] = findings(
        results(comparison("labels", -0.05, 0.02, 0.01), comparison("shuffled", -0.03, 0.02, 0.01))
    )
    assert (lost.conclusion, lost.sentences[1:]) == ("worse", found.sentences[-1:])
    not_significant = comparison("shuffled", -0.03, 0.02, 0.06)
    [found] = findings(results(comparison("labels", 0.005, 0.02, 0.4), not_significant))
    assert "did worse" not in found.text


@pytest.mark.parametrize(
    ("control", "text"),
    [
        ("shuffled", "explanations of other rows"),
        ("echo", "a sentence that repeats the label"),
        ("filler", "filler text of the same length"),
    ],
)
@pytest.mark.parametrize(("gain", "p"), [(0.03, 0.01), (0.03, 0.4), (-0.03, 0.01)])
def test_a_control_that_is_shown_to_be_as_good_is_said_of_every_conclusion(
    control: str, text: str, gain: float, p: float
) -> None:
    labels = comparison("labels", gain, 0.02, p)
    [found] = findings(results(labels, comparison(control, 0.001, 0.004, 0.6, **SAME)))
    assert (
        f"The difference from {control} is shown to be smaller than 0.5 points either way (two "
        f"one-sided tests, p = 0.010, 90% interval −0.2 to 0.4): {text} did as well." in found.text
    )
    assert found.conclusion != "content"
    assert (f", but {text} ({control}) did as well." in found.sentences[0]) == (
        gain > 0 and p < 0.1
    )
    assert "may do as well" not in found.text and "not shown that their" not in found.text
    weaker = SAME | {"equivalence_p_value": 0.05}
    [found] = findings(results(labels, comparison(control, 0.001, 0.004, 0.6, **weaker)))
    assert "did as well" not in found.text and "is shown to be smaller" not in found.text


def test_a_significant_difference_within_the_margin_is_said_to_be_small() -> None:
    small = comparison("shuffled", 0.003, 0.001, 0.01, **SAME)
    [found] = findings(results(comparison("labels", 0.003, 0.002, 0.01, **SAME), small))
    assert found.conclusion == "content"
    assert "The difference from shuffled is shown to be smaller than 0.5 points" in found.text
    assert "The gain is shown to be smaller than 0.5 points either way" in found.text
    assert "as well" not in found.text


@pytest.mark.parametrize(
    ("context", "units", "where"),
    [
        ("premise", 200, "4,912 rows from 200 premises, 5 seeds"),
        ("story", 200, "4,912 rows from 200 stories, 5 seeds"),
        ("text_a", 200, "4,912 rows from 200 groups of rows with one text_a, 5 seeds"),
        (None, 200, "4,912 rows in 200 groups of rows, 5 seeds"),
        ("premise", 4912, "4,912 rows, 5 seeds"),
    ],
)
def test_the_units_of_the_test_are_named(context: str | None, units: int, where: str) -> None:
    gain = comparison("labels", 0.03, 0.02, 0.01, groups=units)
    made = results(gain)
    [found] = findings(replace(made, task=replace(made.task, context=context)))
    assert f"; {where})" in found.sentences[0]


def gain(arm: str, difference: float, p: float, baseline: str = "labels") -> ComparisonResult:
    return comparison(baseline, difference, 0.01, p, arm=arm)


def test_what_is_shown_comes_first_and_then_the_larger() -> None:
    document = results(
        gain("none", 0.05, 0.3),
        gain("worse", -0.03, 0.01),
        gain("alone", 0.09, 0.01),
        replace(gain("same", 0.001, 0.8), **SAME),
        gain("small", 0.02, 0.01),
        gain("taught", 0.04, 0.01),
        gain("small", 0.02, 0.01, "shuffled"),
        gain("taught", 0.03, 0.01, "shuffled"),
    )
    expected: list[tuple[str, Conclusion]] = [
        ("taught", "content"), ("small", "content"), ("alone", "gain"), ("same", "equivalent"),
        ("none", "undetected"), ("worse", "worse"),
    ]  # fmt: skip
    assert [(f.gain.arm, f.conclusion) for f in findings(document)] == expected


def test_several_treatment_arms_have_an_overview() -> None:
    several = results(gain("one", 0.222, 0.01), gain("two", -0.03, 0.01), gain("three", 0.1, 0.01),
                      gain("four", 0.001, 0.9))  # fmt: skip
    answer = answer_of(several)
    assert answer.opening == (
        "2 of 4 ways of training on explanations raised test accuracy compared with labels alone: "
        "one (+22.2 points) and three (+10.0 points); 1 had no detected effect: four; 1 lowered "
        "test accuracy: two (−3.0 points).",
    )
    assert answer.sentences == [
        *answer.opening,
        *(f.text for f in answer.findings),
        "Which of the 4 treatment arms is best was itself chosen by these results: the difference "
        "of one is too large on average.",
    ]
    assert [f.gain.arm for f in answer.findings] == ["one", "three", "four", "two"]
    assert answer_of(results(gain("one", 0.01, 0.9), gain("two", 0.01, 0.9))).opening == (
        "None of 2 ways of training on explanations had a detected effect compared with labels "
        "alone: one and two.",
    )
    assert answer_of(results(gain("one", 0.01, 0.9))).opening == ()


def test_nothing_compared() -> None:
    sentences = answer_sentences(results())
    assert sentences[0] == (
        "labels reached a test accuracy of 42.7% (37.7 to 47.7%; 4,912 rows, 5 seeds)."
    )
    assert sentences[-1] == "No treatment arm was compared with labels alone in this run."


@pytest.fixture(scope="module")
def sample() -> Results:
    return sample_results()


def test_simulated_arms_are_answered_as_they_were_made(sample: Results) -> None:
    overview, large, same_as_control, small, model, choice = answer_sentences(sample)
    assert overview.startswith("2 of 3 ways of training on explanations raised test accuracy")
    assert small.startswith("No effect of training on information-extraction explanations was")
    assert large.startswith("Training on informed-reasoning explanations raised test accuracy from")
    assert "It also beat its control arm informed-reasoning-shuffled (explanations of" in large
    assert "but it is not shown that their content made the difference" in same_as_control
    assert model.startswith("The model to use is arms/informed-reasoning/")
    assert choice.startswith("Which of the 3 treatment arms is best was itself chosen")


def test_no_sentence_runs_into_the_next(sample: Results) -> None:
    for text in answer_sentences(sample):
        assert text.endswith(".") and "  " not in text and ".." not in text
        assert not re.search(r"[a-z]\.[A-Z]|\( | \)|,,|;;", text)


def test_few_seeds_leave_a_range_of_detectable_differences() -> None:
    rough = comparison("labels", 0.0, 0.2, 1.0, detectable_range=(0.02, 0.09))
    [text] = answer_sentences(results(rough))
    assert "four times in five is 2.0 to 9.0 points, as far as so few seeds show." in text
    open_ended = comparison("labels", 0.0, 0.2, 1.0, detectable_range=(0.3, None))
    [text] = answer_sentences(results(open_ended))
    assert "four times in five is more than 30.0 points, as far as" in text


def test_few_effective_groups_are_warned_of() -> None:
    few = comparison("labels", 0.0, 0.02, 1.0, groups=12, effective_groups=8.4, few_groups=True)
    sentences = answer_sentences(results(few))
    assert any(
        "The test rows are only 12 " in text and "weigh as much as 8 of equal size" in text
        for text in sentences
    )
