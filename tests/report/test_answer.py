"""The sentences say what the tests found, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import small_results
from report_sample import sample_results

from tutelage.core.results import ComparisonResult, DepartureResult, Results
from tutelage.report.answer import answer_sentences, families, findings, margin_of


def comparison(
    baseline: str, difference: float, half: float, p: float, arm: str = "taught", **more: Any
) -> ComparisonResult:
    return small_results.comparison(arm, baseline, difference, half, p, **more)


def results(*comparisons: ComparisonResult, **changes: Any) -> Results:
    arms = (
        small_results.arm("labels"),
        small_results.arm("taught", "human"),
        small_results.arm("shuffled", "human", "shuffled"),
        small_results.arm("echo", "human", "label_echo"),
        small_results.arm("filler", "human", "filler"),
    )
    return small_results.results(arms=arms, comparisons=comparisons, **changes)


def test_a_gain_that_is_the_content_s() -> None:
    [sentence] = answer_sentences(
        results(
            comparison("labels", 0.031, 0.019, 0.01), comparison("shuffled", 0.024, 0.018, 0.03)
        )
    )
    assert sentence == (
        "taught beat labels by 3.1 points (1.2 to 5.0) and its own control shuffled by 2.4 points "
        "(0.6 to 4.2), on 4,912 rows and 5 seeds."
    )


def test_a_gain_that_the_control_shares_is_not_credited_to_the_content() -> None:
    [sentence] = answer_sentences(
        results(comparison("labels", 0.031, 0.019, 0.01), comparison("shuffled", 0.004, 0.02, 0.6))
    )
    assert "beat labels by 3.1 points" in sentence
    assert "no difference between taught and shuffled could be told: +0.4 points (−1.6 to 2.4)" in (
        sentence
    )
    assert "the gain is not shown to come from what the rationales say" in sentence
    assert "find four times in five is 4.2 points" in sentence
    assert "beat its own control" not in sentence


def test_a_gain_below_the_control_s() -> None:
    [sentence] = answer_sentences(
        results(comparison("labels", 0.03, 0.02, 0.01), comparison("shuffled", -0.02, 0.01, 0.02))
    )
    assert "worse than its own control shuffled by 2.0 points (1.0 to 3.0)" in sentence
    assert "owes its gain not to what the rationales say" in sentence


def test_each_of_two_controls_is_spoken_of() -> None:
    [sentence] = answer_sentences(
        results(
            comparison("labels", 0.03, 0.02, 0.01),
            comparison("shuffled", 0.02, 0.01, 0.02),
            comparison("echo", 0.0, 0.01, 1.0),
        )
    )
    assert "and its own control shuffled by 2.0 points" in sentence
    assert "between taught and echo could be told: 0.0 points" in sentence


def secondary(baseline: str, difference: float, half: float, p: float) -> ComparisonResult:
    return comparison(baseline, difference, half, p, primary=False)


def test_beaten_secondary_controls_have_a_sentence_of_their_own() -> None:
    document = results(
        comparison("labels", 0.031, 0.019, 0.01),
        comparison("shuffled", 0.024, 0.018, 0.03),
        secondary("echo", 0.02, 0.01, 0.01),
        secondary("filler", 0.03, 0.01, 0.01),
    )
    [found] = findings(document)
    assert found.verdict == "content"
    assert found.sentences[0].endswith(
        "and its own control shuffled by 2.4 points (0.6 to 4.2), on 4,912 rows and 5 seeds."
    )
    assert found.sentences[1:] == (
        "It also beat echo by 2.0 points (1.0 to 3.0) and filler by 3.0 points (2.0 to 4.0).",
    )


@pytest.mark.parametrize(
    ("control", "means"),
    [
        ("echo", "so a sentence that says the label again may do as much."),
        ("filler", "so any text of that length may do as much."),
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
    assert found.verdict == "gain"
    assert means in found.text


def test_without_shuffled_rationales_beating_the_others_is_not_enough() -> None:
    document = results(
        comparison("labels", 0.031, 0.019, 0.01),
        secondary("filler", 0.03, 0.01, 0.01),
    )
    [found] = findings(document)
    assert found.verdict == "gain"
    assert "has no control arm of shuffled rationales" in found.text


def test_families_are_counted_apart() -> None:
    first = comparison("labels", 0.031, 0.019, 0.01)
    assert families([first, first]) == "2 comparisons"
    assert families([first, secondary("echo", 0, 1, 1), secondary("filler", 0, 1, 1)]) == (
        "the 1 with labels and shuffled rationales, and apart from them over the 2 with label echo "
        "and filler"
    )


def test_each_departure_is_said_with_its_reason() -> None:
    gain = comparison("labels", 0.03, 0.02, 0.01)
    left = DepartureResult("seeds", "1 seed", "A first look.")
    with_it = answer_sentences(results(gain, departures=(left,)))
    assert with_it[:-1] == answer_sentences(results(gain))
    assert with_it[-1] == (
        "This experiment departs from the rule of seeds: 1 seed. The reason given: A first look."
    )


def test_no_difference_names_the_smallest_that_could_be_seen() -> None:
    [sentence] = answer_sentences(results(comparison("labels", 0.005, 0.02, 0.4)))
    assert sentence == (
        "No difference between taught and labels could be told: +0.5 points (−1.5 to 2.5), on "
        "4,912 rows and 5 seeds. The smallest true difference that this experiment would find "
        "four times in five is 4.2 points."
    )


def test_an_interval_without_zero_that_correction_undid_is_explained() -> None:
    [sentence] = answer_sentences(results(comparison("labels", 0.03, 0.02, 0.06)))
    assert "could be told after correction for several comparisons: +3.0" in sentence


def test_a_control_beaten_without_a_gain_is_said_too() -> None:
    [sentence] = answer_sentences(
        results(comparison("labels", 0.005, 0.02, 0.4), comparison("shuffled", 0.03, 0.02, 0.01))
    )
    assert sentence.startswith("No difference between taught and labels could be told")
    assert sentence.endswith("It did beat its own control shuffled by 3.0 points (1.0 to 5.0).")


def test_a_loss_is_a_loss() -> None:
    [sentence] = answer_sentences(results(comparison("labels", -0.03, 0.02, 0.01)))
    assert sentence.startswith("taught did worse than labels by 3.0 points (1.0 to 5.0), on")


def test_without_a_control_the_content_is_an_open_question() -> None:
    [sentence] = answer_sentences(results(comparison("labels", 0.03, 0.02, 0.01)))
    assert "has no control arm" in sentence


def test_an_unknown_detectable_difference_is_left_out() -> None:
    same = comparison("labels", 0.0, 0.01, 1.0, minimum_detectable_difference=None)
    [sentence] = answer_sentences(results(same))
    assert "four times in five" not in sentence


def test_one_seed_and_an_unfinished_run_are_said() -> None:
    sentences = answer_sentences(
        results(comparison("labels", 0.03, 0.02, 0.01, seeds=1), finished=False)
    )
    assert "on 4,912 rows and 1 seed." in sentences[0]
    assert "not finished" in sentences[1]
    assert "With one seed" in sentences[2]


def test_a_second_opening_of_the_test_set_is_said() -> None:
    gain = comparison("labels", 0.03, 0.02, 0.01)
    assert len(answer_sentences(results(gain, test_set_openings=1))) == 1
    assert "opened 3 times" in answer_sentences(results(gain, test_set_openings=3))[-1]


def test_other_runs_that_read_the_same_rows_are_named() -> None:
    gain = comparison("labels", 0.03, 0.02, 0.01)
    assert len(answer_sentences(results(gain, test_rows_also_used_by=()))) == 1
    for others, said in ((("a",), "by the run a: "), (("a", "b"), "by the runs a, b: ")):
        told = answer_sentences(results(gain, test_rows_also_used_by=others))[-1]
        assert told.startswith(f"The same test rows were read {said}")


def test_equivalence_is_claimed_only_where_it_was_shown() -> None:
    margin = {"equivalence_margin": 0.01, "ci90": (-0.004, 0.006)}
    untold = comparison("labels", 0.001, 0.006, 0.7, **margin, equivalence_p_value=0.02)
    [sentence] = answer_sentences(results(untold))
    assert (
        "smaller than 1.0 points either way is shown (two one-sided tests, p = 0.020, 90% interval "
        "−0.4 to 0.6)." in sentence
    )
    [sentence] = answer_sentences(results(replace(untold, equivalence_p_value=0.06)))
    assert "either way" not in sentence


SAME = {"equivalence_margin": 0.005, "ci90": (-0.002, 0.004), "equivalence_p_value": 0.01}
"""A comparison whose difference is shown to be within half a point."""


def test_an_arm_that_is_worse_than_its_control_without_a_gain_is_said() -> None:
    [found] = findings(
        results(comparison("labels", 0.005, 0.02, 0.4), comparison("shuffled", -0.03, 0.02, 0.01))
    )
    assert found.verdict == "open"
    assert found.sentences[-1] == (
        "It did worse than its own control shuffled by 3.0 points (1.0 to 5.0)."
    )
    [lost] = findings(
        results(comparison("labels", -0.05, 0.02, 0.01), comparison("shuffled", -0.03, 0.02, 0.01))
    )
    assert (lost.verdict, lost.sentences[1:]) == ("worse", found.sentences[-1:])
    untold = comparison("shuffled", -0.03, 0.02, 0.06)
    [found] = findings(results(comparison("labels", 0.005, 0.02, 0.4), untold))
    assert "did worse" not in found.text


@pytest.mark.parametrize(
    ("control", "so"),
    [
        ("shuffled", "So the rationales of other rows do as much, whatever they say, within"),
        ("echo", "So a sentence that says the label again does as much, within"),
        ("filler", "So any text of that length does as much, within"),
    ],
)
@pytest.mark.parametrize(("gain", "p"), [(0.03, 0.01), (0.03, 0.4), (-0.03, 0.01)])
def test_a_control_that_is_shown_to_be_as_good_is_said_of_every_verdict(
    control: str, so: str, gain: float, p: float
) -> None:
    labels = comparison("labels", gain, 0.02, p)
    [found] = findings(results(labels, comparison(control, 0.001, 0.004, 0.6, **SAME)))
    assert f"That the difference from its own control {control} is smaller than 0.5 points" in (
        found.text
    )
    assert f"{so} that margin." in found.text and found.verdict != "content"
    assert "may do as much" not in found.text and "not shown to come from" not in found.text
    weaker = SAME | {"equivalence_p_value": 0.05}
    [found] = findings(results(labels, comparison(control, 0.001, 0.004, 0.6, **weaker)))
    assert "within that margin" not in found.text


def test_a_told_difference_within_the_margin_is_told_and_said_to_be_small() -> None:
    small = comparison("shuffled", 0.003, 0.001, 0.01, **SAME)
    [found] = findings(results(comparison("labels", 0.003, 0.002, 0.01, **SAME), small))
    assert found.verdict == "content"
    assert "That the difference from its own control shuffled is smaller than 0.5" in found.text
    assert "That the gain is smaller than 0.5 points either way is shown" in found.text
    assert "do as much" not in found.text


@pytest.mark.parametrize(
    ("margin", "text"), [(0.01, "1.0 points"), (0.0025, "0.25 points"), (0.007, "0.7 points")]
)
def test_the_margin_has_the_digits_that_it_was_given(margin: float, text: str) -> None:
    assert margin_of(comparison("labels", 0, 1, 1, equivalence_margin=margin)) == text


@pytest.mark.parametrize(
    ("context", "units", "where"),
    [
        ("premise", 200, "on 4,912 rows (200 premises) and 5 seeds"),
        ("story", 200, "on 4,912 rows (200 stories) and 5 seeds"),
        ("text_a", 200, "on 4,912 rows (200 groups of rows with one text_a) and 5 seeds"),
        (None, 200, "on 4,912 rows (200 groups of rows) and 5 seeds"),
        ("premise", 4912, "on 4,912 rows and 5 seeds"),
    ],
)
def test_the_units_of_the_test_are_named(context: str | None, units: int, where: str) -> None:
    gain = comparison("labels", 0.03, 0.02, 0.01, groups=units)
    made = results(gain)
    [found] = findings(replace(made, task=replace(made.task, context=context)))
    assert found.sentences[0].endswith(f"{where}.")


def test_what_is_shown_comes_first_and_then_the_larger() -> None:
    def gain(arm: str, difference: float, p: float, baseline: str = "labels") -> ComparisonResult:
        return comparison(baseline, difference, 0.01, p, arm=arm)

    document = results(
        gain("none", 0.05, 0.3),
        gain("worse", -0.03, 0.01),
        gain("alone", 0.09, 0.01),
        gain("small", 0.02, 0.01),
        gain("taught", 0.04, 0.01),
        gain("small", 0.02, 0.01, "shuffled"),
        gain("taught", 0.03, 0.01, "echo"),
    )
    order = [(f.gain.arm, f.verdict) for f in findings(document)]
    assert order == [
        ("taught", "content"), ("small", "content"), ("alone", "gain"), ("none", "open"),
        ("worse", "worse"),
    ]  # fmt: skip


def test_nothing_compared() -> None:
    sentences = answer_sentences(results())
    assert sentences[0] == "labels reached 70.0% accuracy (65.0 to 75.0%) on 4,912 rows."
    assert "No rationale arm was compared" in sentences[-1]


@pytest.fixture(scope="module")
def sample() -> Results:
    return sample_results()


def test_simulated_arms_are_answered_as_they_were_made(sample: Results) -> None:
    large, same_as_control, small = answer_sentences(sample)
    assert small.startswith("No difference between information-extraction and labels")
    assert large.startswith("informed-reasoning beat labels by ")
    assert "and its own control informed-reasoning-shuffled by " in large
    assert "not shown to come from what the rationales say" in same_as_control
