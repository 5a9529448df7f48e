"""Checks that the students learned more than a trivial answer gives: chance level, partial input.

Where arms are not shown to be above a student without the context, or above the most frequent
label, the comparisons between arms say little, however small their p-values are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.core.results import (
    ArmResult,
    ContextComparison,
    MajorityBaseline,
    Results,
    TestEvaluation,
)
from tutelage.core.wording import joined, percent, points, points_interval
from tutelage.evaluation.unpaired import difference_interval

MAJORITY = "majority class"
"""The most frequent label, as `Results.context_comparisons` names it."""


@dataclass(frozen=True, slots=True)
class Advantage:
    """An arm's accuracy minus a baseline's with its 95% interval, uncorrected; fractions.

    who:    how a sentence names the arm
    paired: compared row by row; otherwise from the two accuracies as if of different rows
    """

    arm: str
    who: str
    baseline: str
    difference: float
    ci95: tuple[float, float]
    paired: bool

    @property
    def shown(self) -> bool:
        """Whether the arm is shown to be above the baseline."""
        return self.ci95[0] > 0

    @property
    def text(self) -> str:
        """`labels − hypothesis-only: −0.8 points, 95% interval −2.3 to 0.7`."""
        return (
            f"{self.arm} − {self.baseline}: {points(self.difference)} points, "
            f"{'' if self.paired else 'unpaired '}95% interval {points_interval(self.ci95)}"
        )


def at_chance_level(results: Results) -> str | None:
    """A sentence where labels alone, or the best treatment arm, is not shown to beat the most
    frequent label; None where both are, or the baseline was left out."""
    majority = results.baselines.majority
    if majority is None:
        return None
    plain, best = _reference_arms(results.arms)
    advantages = {
        which: _advantage(results, arm, MAJORITY, majority)
        for which, arm in (("plain", plain), ("best", best))
        if arm is not None
    }
    low = {which: each for which, each in advantages.items() if not each.shown}
    if not low:
        return None
    if len(low) == len(advantages):
        who, so = "No arm is", "the comparisons between arms say little"
    elif "plain" in low:
        who, so = "Labels alone is not", "a difference from it says little"
    else:
        who, so = "No treatment arm is", "comparisons with their control arms say little"
    return (
        f"{who} shown to be above chance level, so {so}: answering “{majority.label}” for every "
        f"row {_reaches(results, majority)} ({'; '.join(each.text for each in low.values())})."
    )


def _reaches(results: Results, majority: MajorityBaseline) -> str:
    reached = percent(majority.accuracy)
    if results.metric == "accuracy":
        return f"is right on {reached} of the rows"
    return f"has a {results.metric_name} of {reached}"


def partial_input_caveats(results: Results) -> list[str]:
    """A sentence for each student that omits fields and that labels alone, or the best treatment
    arm, is not shown to beat."""
    arms = [arm for arm in _reference_arms(results.arms) if arm]
    return [
        sentence
        for partial in results.arms
        if partial.omits and (sentence := _about_partial_input(results, partial, arms))
    ]


def compared_with_baselines(results: Results) -> dict[str, list[ContextComparison]]:
    """Baseline -> the arms' comparisons with it."""
    by_baseline: dict[str, list[ContextComparison]] = {}
    for comparison in results.context_comparisons:
        by_baseline.setdefault(comparison.baseline, []).append(comparison)
    return by_baseline


_Arm = tuple[ArmResult, str]
"""An arm, and how a sentence names it."""


def _reference_arms(arms: Sequence[ArmResult]) -> tuple[_Arm | None, _Arm | None]:
    """Labels alone, and the treatment arm with the highest test accuracy."""
    plain = next((arm for arm in arms if arm.is_plain), None)
    treatment = [arm for arm in arms if arm.is_treatment]
    best = max(treatment, key=lambda arm: arm.test.accuracy, default=None)
    which = "the best treatment arm " if len(treatment) > 1 else ""
    return (
        None if plain is None else (plain, plain.name),
        None if best is None else (best, f"{which}{best.name}"),
    )


def _advantage(
    results: Results, one: _Arm, baseline: str, of: TestEvaluation | MajorityBaseline
) -> Advantage:
    """The paired comparison with `baseline`; without one, from the two accuracies."""
    arm, who = one
    for found in results.context_comparisons:
        if (found.arm, found.baseline) == (arm.name, baseline):
            return Advantage(arm.name, who, baseline, found.difference, found.ci95, True)
    difference = arm.test.accuracy - of.accuracy
    interval = difference_interval(arm.test.accuracy, arm.test.ci95, of.accuracy, of.ci95)
    return Advantage(arm.name, who, baseline, difference, interval, False)


def _about_partial_input(results: Results, partial: ArmResult, arms: Sequence[_Arm]) -> str | None:
    advantages = [_advantage(results, arm, partial.name, partial.test) for arm in arms]
    low = [each for each in advantages if not each.shown]
    if not low:
        return None
    fields = [name for name in results.task.fields if name not in partial.omits]
    verbs = [_versus(each) for each in low]
    compared = joined(
        [
            f"{'' if verb in verbs[:place] else verb + ' '}{each.who} ({each.text})"
            for place, (verb, each) in enumerate(zip(verbs, low, strict=True))
        ]
    )
    return (
        f"The students may have learned no more than the {joined(fields)} alone "
        f"give{'s' if len(fields) == 1 else ''} away: {partial.name}, whose student does not see "
        f"the {joined(partial.omits)}, {compared}."
    )


def _versus(advantage: Advantage) -> str:
    """What the baseline did, seen from its side."""
    if advantage.ci95[1] < 0:
        return "did better than"
    return "did at least as well as" if advantage.difference <= 0 else "is not shown to be below"
