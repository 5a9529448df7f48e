"""Scrambled controls, controls that harm, and a bag of words that is as good as the best arm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import small_results
from report_sample import sample_results
from small_results import comparison

from tutelage.core.results import (
    BagOfWordsBaseline,
    Baselines,
    ComparisonResult,
    ContextComparison,
    Results,
    ShareOfGain,
)
from tutelage.experiment.summarise import extended
from tutelage.report.answer import answer_of, answer_sentences
from tutelage.report.baseline_table import baselines_of
from tutelage.report.page import render_markdown, render_report

STRATEGY = "informed_reasoning"


def results(*comparisons: ComparisonResult, **changes: Any) -> Results:
    """An arm `taught` with a shuffled and a scrambled control."""
    arms = (
        small_results.arm("labels", accuracy=0.42),
        small_results.arm("taught", STRATEGY, accuracy=0.52),
        small_results.arm("shuffled", STRATEGY, "shuffled"),
        small_results.arm("scrambled", STRATEGY, "scrambled"),
    )
    return small_results.results(arms=changes.pop("arms", arms), comparisons=comparisons, **changes)


GAIN = comparison("taught", "labels", 0.1, 0.03, 0.001)
OVER_SHUFFLED = comparison("taught", "shuffled", 0.09, 0.03, 0.001)
OVER_SCRAMBLED = comparison("taught", "scrambled", 0.01, 0.03, 0.8, primary=False)
SHARE = ShareOfGain("taught", "scrambled", "labels", 0.9, (0.55, 1.3), "Fieller's")


def test_the_share_of_a_gain_that_scrambled_words_keep() -> None:
    found = results(
        GAIN,
        OVER_SHUFFLED,
        OVER_SCRAMBLED,
        control_comparisons=(comparison("scrambled", "labels", 0.09, 0.03),),
        shares_of_gain=(SHARE,),
    )
    [finding] = answer_of(found).findings
    # Equal results with scrambled words do not take the gain away.
    assert finding.conclusion == "content"
    assert finding.sentences[-1] == (
        "Of the gain, 90% is left when each explanation's own words are put in random order "
        "(scrambled; 95% interval 55 to 130%): so much needs the words alone, and the rest their "
        "order."
    )


def test_without_a_significant_gain_both_differences_are_stated() -> None:
    found = results(
        comparison("taught", "labels", 0.02, 0.03, 0.5),
        OVER_SCRAMBLED,
        control_comparisons=(comparison("scrambled", "labels", 0.01, 0.03),),
    )
    [finding] = answer_of(found).findings
    assert finding.conclusion == "undetected"
    assert finding.sentences[-1] == (
        "With each explanation's own words in random order (scrambled) the difference from labels "
        "alone was +1.0 points (−2.0 to 4.0), and that of taught from it +1.0 points (−2.0 to 4.0)."
    )


def test_a_control_that_harms_is_named() -> None:
    harm = comparison("shuffled", "labels", -0.05, 0.02)
    none = comparison("scrambled", "labels", -0.01, 0.03)
    text = " ".join(
        answer_sentences(results(GAIN, OVER_SHUFFLED, control_comparisons=(harm, none)))
    )
    assert (
        "shuffled (−5.0 points (−7.0 to −3.0)) did worse than labels alone, not corrected for the "
        "number of comparisons: what this control arm learned did harm" in text
    )
    assert "did harm" not in " ".join(answer_sentences(results(GAIN, control_comparisons=(none,))))


def test_every_control_arm_minus_labels_is_in_both_reports() -> None:
    lifts = {"labels": 0.0, "informed-reasoning": 0.1, "informed-reasoning-shuffled": 0.0}
    plain = sample_results(60, 2, lifts)
    low = comparison("informed-reasoning-shuffled", "labels", -0.05, 0.02)
    found = replace(plain, control_comparisons=(low,))
    for text in (render_report(found, title="t"), render_markdown(found, title="t")):
        assert "Each control arm minus labels alone" in text
        assert "informed-reasoning-shuffled −5.0 (−7.0 to −3.0)" in text
    assert "Each control arm" not in render_markdown(plain, title="t")


def bag(accuracy: float) -> Baselines:
    words = BagOfWordsBaseline(
        (0.1, 1.0), (0.5, 0.6), 1.0, 1234, 4912, accuracy, (accuracy - 0.02, accuracy + 0.02), "w"
    )
    return Baselines(None, (), (), None, words)


def test_a_bag_of_words_that_is_better_is_in_the_answer() -> None:
    paired = extended(
        ContextComparison,
        _bare(comparison("taught", "bag of words", -0.04, 0.03)),
        kind="bag_of_words",
    )
    found = results(GAIN, baselines=bag(0.56), context_comparisons=(paired,))
    assert (
        "A bag of words, which takes seconds and no teacher, did better than the best arm: 56.0% "
        "compared with 52.0% of taught; taught − bag of words: −4.0 points (−7.0 to −1.0)."
    ) in answer_sentences(found)
    assert not any(
        "A bag of words" in sentence
        for sentence in answer_sentences(results(GAIN, baselines=bag(0.5)))
    )


def test_a_bag_of_words_is_among_the_baselines() -> None:
    line = baselines_of(results(baselines=bag(0.5)))[0]
    assert (line.name, line.accuracy, line.where) == ("Bag of words", 0.5, "4,912 test rows")
    assert line.note == "1,234 features; dev chose C = 1 of 0.1, 1"


def _bare(found: ComparisonResult) -> Any:
    """The fields of a `Comparison` alone."""
    import dataclasses

    from tutelage.core.results import Comparison

    return Comparison(**{f.name: getattr(found, f.name) for f in dataclasses.fields(Comparison)})
