"""The answer in plain sentences: did the rationales help, and was it what they say?

A gain is claimed only where the tested difference is there after correction. The claim about
content is the tested difference from the arm's own control, never "one was significant, the other
not".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.core.results import (
    ArmResult,
    Comparison,
    ComparisonResult,
    Results,
    SliceDifference,
)
from tutelage.core.types import ControlName
from tutelage.core.wording import (
    p_value,
    percent,
    percent_interval,
    points,
    points_interval,
    several,
)
from tutelage.report.learnt import learnt_caveats
from tutelage.report.units import rows_in_words

SIGNIFICANT = 0.05


def told_apart(comparison: Comparison | SliceDifference) -> bool:
    """Whether the difference is there after correction for the family of comparisons."""
    return comparison.p_adjusted < SIGNIFICANT


def is_control(results: Results, name: str) -> bool:
    """Whether the arm of this name is a control (shuffled rationales, label echo, filler)."""
    return any(arm.name == name and arm.is_control for arm in results.arms)


Verdict = Literal["content", "gain", "open", "worse"]
"""What was found of an arm: a gain that its controls do not share; a gain, whose source is not
shown; nothing; a loss. In this order an answer tells of them."""

_ORDER: tuple[Verdict, ...] = ("content", "gain", "open", "worse")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one rationale arm, in a few sentences of which the first is the answer.

    gain: its comparison with the baseline
    """

    verdict: Verdict
    gain: ComparisonResult
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(self.sentences)


def findings(results: Results) -> list[Finding]:
    """One for each rationale arm against a baseline: what is shown first, then by size."""
    kinds = {arm.name: arm.control for arm in results.arms}
    found = [
        _about_arm(
            gain,
            [
                (c, kind)
                for c in results.comparisons
                if c.arm == gain.arm and (kind := kinds[c.baseline]) is not None
            ],
            results.task.context,
        )
        for gain in _gains(results)
        if not is_control(results, gain.arm)
    ]
    return sorted(found, key=lambda f: (_ORDER.index(f.verdict), -f.gain.difference))


def caveats(results: Results) -> list[str]:
    """What a reader of the findings has to know besides."""
    sentences = []
    gains = _gains(results)
    if not results.finished:
        sentences.append("This run is not finished: what is here is what it has so far.")
    if not gains:
        sentences += [_alone(arm) for arm in results.arms]
        sentences.append("No rationale arm was compared with a baseline in this run.")
    sentences += learnt_caveats(results)
    sentences += [
        f"This experiment departs from the rule of {d.rule}: {d.what}. The reason given: "
        f"{d.reason.rstrip('.')}."
        for d in results.departures
    ]
    if any(c.seeds == 1 for c in gains):
        sentences.append(
            "With one seed this speaks of these trained models only: "
            "training them again could come out otherwise."
        )
    readings = results.test_set_openings
    if readings > 1:
        sentences.append(
            f"The test set was opened {readings} times, each time for another choice of "
            "configurations: the figures are the last one's, and the more often it is opened the "
            "less they mean."
        )
    if others := results.test_rows_also_used_by:
        sentences.append(
            f"The same test rows were read by the {'run' if len(others) == 1 else 'runs'} "
            f"{', '.join(others)}: what was chosen here after seeing their results was not chosen "
            "blind."
        )
    return sentences


def answer_sentences(results: Results) -> list[str]:
    """The findings, an entry of one or a few sentences each, and then the caveats."""
    return [*(finding.text for finding in findings(results)), *caveats(results)]


def _gains(results: Results) -> list[ComparisonResult]:
    return [c for c in results.comparisons if not is_control(results, c.baseline)]


_Controls = Sequence[tuple[ComparisonResult, ControlName]]
"""An arm's comparisons with its controls, each with the kind of control."""


def _about_arm(gain: ComparisonResult, controls: _Controls, context: str | None) -> Finding:
    where = f"on {rows_in_words(gain, context)} and {several(gain.seeds, 'seed')}"
    beaten = [c for c, _ in controls if told_apart(c) and c.difference > 0]
    first = [c for c in beaten if c.primary]
    besides = [c for c in beaten if not c.primary]
    unbeaten = [(c, kind) for c, kind in controls if c not in beaten]
    worse = [f"{_worse(c)}." for c, _ in unbeaten if told_apart(c)]

    def finding(verdict: Verdict, *sentences: str) -> Finding:
        return Finding(verdict, gain, sentences)

    if not told_apart(gain):
        opening = f"{_untold(gain)}, {where}."
        return finding(
            "open",
            opening,
            *_smallest(gain),
            *_within_the_margin(gain, "it"),
            *([f"It did beat its own control {_listed(beaten)}."] if beaten else []),
            *worse,
            *_as_good(controls),
        )
    if gain.difference < 0:
        lost = f"{gain.arm} did worse than {gain.baseline} by {_size(gain, True)}, {where}."
        return finding("worse", lost, *worse, *_as_good(controls))

    opening = f"{gain.arm} beat {gain.baseline} by {_size(gain)}"
    for control in first:
        opening += f" and its own control {_beaten(control)}"
    sentences = [f"{opening}, {where}."]
    if besides:
        sentences.append(f"It also beat {_listed(besides)}.")
    for control, kind in unbeaten:
        if told_apart(control):
            sentences.append(f"{_worse(control)}: it owes its gain not to what the rationales say.")
        elif _is_within_the_margin(control):
            sentences.append(f"But {_untold(control, lower=True)}.")
        else:
            sentences += [
                f"But {_untold(control, lower=True)}, so {_UNBEATEN.get(kind, _CONTENT_OPEN)}.",
                *_smallest(control),
            ]
    sentences += [*_as_good(controls), *_within_the_margin(gain, "the gain")]
    has_own = any(control.primary for control, _ in controls)
    if not has_own:
        sentences.append(
            f"{gain.arm} has no control arm{' of shuffled rationales' if controls else ''}, so "
            "it is open whether what the rationales say did the work."
        )
    return finding("content" if has_own and not unbeaten else "gain", *sentences)


_CONTENT_OPEN = "the gain is not shown to come from what the rationales say"

_UNBEATEN: Mapping[ControlName, str] = {
    "label_echo": "a sentence that says the label again may do as much",
    "filler": "any text of that length may do as much",
}
"""What it means that a control of this kind was not beaten; of shuffled ones: `_CONTENT_OPEN`."""

_SAME: Mapping[ControlName, str] = {
    "label_echo": "a sentence that says the label again does as much",
    "filler": "any text of that length does as much",
}
"""What it means that a control of this kind is as good within the margin; of shuffled ones: below.
Nothing speaks more strongly against what the rationales say."""

_SAME_SHUFFLED = "the rationales of other rows do as much, whatever they say"


def _as_good(controls: _Controls) -> list[str]:
    """What is shown of controls from which the arm differs by less than the margin."""
    sentences = []
    for control, kind in controls:
        what = f"the difference from its own control {control.baseline}"
        shown = _within_the_margin(control, what)
        if shown and not told_apart(control):
            shown.append(f"So {_SAME.get(kind, _SAME_SHUFFLED)}, within that margin.")
        sentences += shown
    return sentences


def _worse(control: Comparison) -> str:
    return f"It did worse than its own control {control.baseline} by {_size(control, True)}"


def families(comparisons: Sequence[ComparisonResult]) -> str:
    """How many comparisons each of Holm's corrections is over, in words."""
    first = sum(c.primary for c in comparisons)
    others = len(comparisons) - first
    if not others:
        return several(first, "comparison")
    return (
        f"the {first} with labels and shuffled rationales, and apart from them over the {others} "
        "with label echo and filler"
    )


def _listed(beaten: Sequence[Comparison]) -> str:
    return " and ".join(_beaten(c) for c in beaten)


def _beaten(comparison: Comparison) -> str:
    return f"{comparison.baseline} by {_size(comparison)}"


def _size(comparison: Comparison, turned: bool = False) -> str:
    difference = abs(comparison.difference)
    interval = points_interval(comparison.ci95, turned)
    return f"{points(difference, sign=False)} points ({interval})"


def _untold(comparison: Comparison, *, lower: bool = False) -> str:
    low, high = comparison.ci95
    corrected = " after correction for several comparisons" if low > 0 or high < 0 else ""
    return (
        f"{'no' if lower else 'No'} difference between {comparison.arm} and "
        f"{comparison.baseline} could be told{corrected}: {points(comparison.difference)} "
        f"points ({points_interval(comparison.ci95)})"
    )


def _smallest(comparison: Comparison) -> list[str]:
    smallest = comparison.minimum_detectable_difference
    if smallest is None:
        return []
    return [
        "The smallest true difference that this experiment would find four times in five is "
        f"{points(smallest, sign=False)} points."
    ]


def _is_within_the_margin(comparison: Comparison) -> bool:
    """Whether no difference that matters is shown to be there."""
    return comparison.equivalence_p_value < SIGNIFICANT


def _within_the_margin(comparison: Comparison, what: str) -> list[str]:
    if not _is_within_the_margin(comparison):
        return []
    return [
        f"That {what} is smaller than {margin_of(comparison)} either way is shown (two one-sided "
        f"tests, p = {p_value(comparison.equivalence_p_value)}, 90% interval "
        f"{points_interval(comparison.ci90)})."
    ]


def margin_of(comparison: Comparison) -> str:
    """`1.0 points`; as many digits as the recipe gave."""
    points_of = 100 * comparison.equivalence_margin
    return f"{max(f'{points_of:.1f}', f'{points_of:.6g}', key=len)} points"


def _alone(arm: ArmResult) -> str:
    test = arm.test
    return (
        f"{arm.name} reached {percent(test.accuracy)} accuracy "
        f"({percent_interval(test.ci95)}) on {several(test.n, 'row')}."
    )
