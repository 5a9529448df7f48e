"""What the control arms show beyond what an arm must beat: scrambled words, and harm by a control.

A scrambled control (an arm's own rationales, their words in random order) is not to be beaten:
where it does as well, the words bring the gain, which does not mean that there is none. And a
control that does worse than labels alone is easy to beat.
"""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.core.results import Comparison, ComparisonResult, Results
from tutelage.core.types import ControlName
from tutelage.core.wording import joined, p_value, percent, points, points_interval

MUST_BE_BEATEN: frozenset[ControlName] = frozenset(
    {
        "shuffled",
        "shuffled_within_label",
        "label_echo",
        "filler",
        "self_training",
        "rationale_dropped",
        "random_filter",
    }
)
"""Controls that a gain has to exceed before it is credited to what the explanations say."""


def scrambled_sentences(results: Results, gain: ComparisonResult) -> list[str]:
    """What an arm's scrambled controls show; empty where it has none.

    gain: the arm's comparison with labels alone

    The share of the gain that survives is stated where the gain is significant; elsewhere a ratio
    would have a denominator that may be zero, and the two differences are stated.
    """
    kinds = {arm.name: arm.control for arm in results.arms}
    shares = {(share.arm, share.control): share for share in results.shares_of_gain}
    over_labels = {c.arm: c for c in results.control_comparisons}
    sentences = []
    for below in results.comparisons:
        name = below.baseline
        if below.arm != gain.arm or kinds[name] != "scrambled" or name not in over_labels:
            continue
        above = over_labels[name]
        if share := shares.get((gain.arm, name)):
            low, high = (f"{100 * end:.0f}" for end in share.ci95)
            sentences.append(
                f"Of the gain, {100 * share.share:.0f}% is left when each explanation's own words "
                f"are put in random order ({name}; 95% interval {low} to {high}%): so much needs "
                "the words alone, and the rest their order."
            )
        else:
            sentences.append(
                f"With each explanation's own words in random order ({name}) the difference from "
                f"labels alone was {_size(above)}, and that of {gain.arm} from it {_size(below)}."
            )
    return sentences


def harmful_controls(results: Results) -> list[str]:
    """A sentence where control arms are below labels alone: beating these shows little."""
    kinds = {arm.name: arm.control for arm in results.arms}
    low = [
        c for c in results.control_comparisons if c.ci95[1] < 0 and kinds[c.arm] in MUST_BE_BEATEN
    ]
    if not low:
        return []
    which = joined([f"{c.arm} ({_size(c)})" for c in low])
    one = len(low) == 1
    return [
        f"{which} did worse than labels alone, not corrected for the number of comparisons: what "
        f"{'this control arm' if one else 'these control arms'} learned did harm, so "
        f"{'its' if one else 'their'} distance from a treatment arm is not all due to what the "
        "explanations say."
    ]


def control_arms_line(comparisons: Sequence[Comparison]) -> str:
    """`informed-reasoning-shuffled −0.3 (−2.0 to 1.4), label-echo 0.1 (−1.5 to 1.7)`."""
    return ", ".join(
        f"{c.arm} {points(c.difference)} ({points_interval(c.ci95)})" for c in comparisons
    )


def bag_of_words_caveat(results: Results) -> list[str]:
    """A sentence where a bag of words is at least as good as the best arm that sees everything."""
    words = results.baselines.bag_of_words
    arms = [arm for arm in results.arms if arm.is_plain or arm.is_treatment]
    if words is None or not arms:
        return []
    best = max(arms, key=lambda arm: arm.test.accuracy)
    if words.accuracy < best.test.accuracy:
        return []
    found = next(
        (c for c in results.context_comparisons if c.kind == "bag_of_words" and c.arm == best.name),
        None,
    )
    paired = "" if found is None else f"; {best.name} − bag of words: {_size(found)}"
    better = "better than" if words.accuracy > best.test.accuracy else "as well as"
    return [
        f"A bag of words, which takes seconds and no teacher, did {better} the best arm: "
        f"{percent(words.accuracy)} compared with {percent(best.test.accuracy)} of {best.name}"
        f"{paired}."
    ]


def classifier_caveats(results: Results) -> list[str]:
    """A sentence for each classifier of labels alone that is better than the best treatment arm;
    where there is none, than labels alone."""
    own = [arm for arm in results.arms if arm.is_treatment]
    own = own or [arm for arm in results.arms if arm.is_plain]
    if not own:
        return []
    best = max(own, key=lambda arm: arm.test.accuracy)
    sentences = []
    for arm in results.arms:
        if arm.classifier is None or arm.test.accuracy <= best.test.accuracy:
            continue
        found = next(
            c
            for c in results.context_comparisons
            if (c.kind, c.baseline, c.arm) == ("classifier", arm.name, best.name)
        )
        which = "the best arm with explanations" if best.is_treatment else "labels alone"
        better = "did better than" if found.ci95[1] < 0 else "is not shown to be below"
        sentences.append(
            f"A classifier that learns labels alone ({arm.name}: {arm.classifier}) {better} "
            f"{which}: {percent(arm.test.accuracy)} compared with {percent(best.test.accuracy)} of "
            f"{best.name}; {best.name} − {arm.name}: {_size(found)}, p = "
            f"{p_value(found.p_value)}, not corrected."
        )
    return sentences


def _size(comparison: Comparison) -> str:
    """`−2.4 points (−4.2 to −0.6)`."""
    return f"{points(comparison.difference)} points ({points_interval(comparison.ci95)})"
