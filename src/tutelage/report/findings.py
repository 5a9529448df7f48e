"""Findings: what is concluded about each treatment arm, in plain sentences.

An effect is claimed only where the tested difference is significant after correction. A claim that
the content matters rests on the tested differences from the arm's own control arms, never on
"one was significant, the other was not".
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
    detectable_points,
    joined,
    margin_in_points,
    p_value,
    percent,
    points,
    points_interval,
    several,
)
from tutelage.report.control_arms import MUST_BE_BEATEN, scrambled_sentences
from tutelage.report.units import rows_in_words

SIGNIFICANCE_LEVEL = 0.05

Conclusion = Literal["content", "gain", "equivalent", "undetected", "worse"]
"""What is concluded about a treatment arm, in the order in which the answer reports it:

content     a gain over labels alone and over every control arm
gain        a gain over labels alone, whose cause is not shown
equivalent  no difference larger than the margin
undetected  no difference was detected
worse       a loss
"""

_ORDER: tuple[Conclusion, ...] = ("content", "gain", "equivalent", "undetected", "worse")


def is_significant(difference: Comparison | SliceDifference) -> bool:
    """Whether a difference is significant after correction for its family."""
    return difference.p_adjusted < SIGNIFICANCE_LEVEL


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one treatment arm.

    gain:      its comparison with labels alone
    sentences: the first is the answer, the others are its details
    """

    conclusion: Conclusion
    gain: ComparisonResult
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """All sentences."""
        return " ".join(self.sentences)


def findings(results: Results) -> list[Finding]:
    """One for each treatment arm that is compared with labels alone."""
    found = [_finding(gain, results) for gain in gains(results)]
    return sorted(found, key=lambda f: (_ORDER.index(f.conclusion), -f.gain.difference))


def gains(results: Results) -> list[ComparisonResult]:
    """The comparisons of treatment arms with labels alone."""
    controls = {arm.name for arm in results.arms if arm.is_control}
    return [c for c in results.comparisons if not controls & {c.arm, c.baseline}]


def _finding(gain: ComparisonResult, results: Results) -> Finding:
    kinds = {arm.name: arm.control for arm in results.arms}
    controls = [
        _Control(c, kind)
        for c in results.comparisons
        if c.arm == gain.arm and (kind := kinds[c.baseline]) in MUST_BE_BEATEN
    ]
    said = _Said(gain, results)
    if is_significant(gain):
        found = _gained(said, controls) if gain.difference > 0 else _lost(said, controls)
    else:
        found = _unchanged(said, controls)
    return Finding(found[0], gain, (*found[1], *scrambled_sentences(results, gain)))


@dataclass(frozen=True, slots=True)
class _Control:
    """An arm's comparison with one of its control arms, and the kind of that arm."""

    comparison: ComparisonResult
    kind: ControlName

    @property
    def beaten(self) -> bool:
        return is_significant(self.comparison) and self.comparison.difference > 0

    @property
    def better(self) -> bool:
        return is_significant(self.comparison) and self.comparison.difference < 0

    @property
    def as_good(self) -> bool:
        """Whether the two are shown to differ by less than the margin."""
        return not is_significant(self.comparison) and _is_within_margin(self.comparison)

    @property
    def name(self) -> str:
        return f"{self.comparison.baseline} ({_TEXT[self.kind]})"

    @property
    def advantage(self) -> str:
        """`informed-reasoning-shuffled (explanations of other rows) by 2.4 points (0.6 to 4.2)`."""
        return f"{self.name} by {_size(self.comparison)}"


_TEXT: Mapping[ControlName, str] = {
    "shuffled": "explanations of other rows",
    "shuffled_within_label": "explanations of other rows with the same label",
    "scrambled": "the words of each explanation in random order",
    "label_echo": "a sentence that repeats the label",
    "filler": "filler text of the same length",
    "self_training": "the same rows with the labels of a student of labels alone",
    "rationale_dropped": "the same labels without their rationales",
    "random_filter": "as many rows with the same labels, agreed on or not",
}
"""What the students of a control arm learn in the place of explanations."""


@dataclass(frozen=True, slots=True)
class _Said:
    """Phrases about one comparison with labels alone."""

    gain: ComparisonResult
    results: Results

    @property
    def training(self) -> str:
        """`training on informed-reasoning explanations`."""
        arm = self.results.arm(self.gain.arm)
        if arm.learns_pool or arm.own_gold is not None:
            return f"training on {more_rows_in_words(arm, self.results)}"
        return f"training on {explanations_in_words(arm)}"

    @property
    def metric(self) -> str:
        """`test accuracy`."""
        return f"test {self.results.metric_name}"

    @property
    def of_rows(self) -> bool:
        """Whether the arm learns more rows, in the place of explanations or with them."""
        arm = self.results.arm(self.gain.arm)
        return arm.learns_pool or arm.own_gold is not None

    @property
    def before(self) -> str:
        arm = self.results.arm(self.gain.baseline)
        where = "with labels alone" if arm.is_plain else f"in {arm.name}"
        return f"{percent(arm.test.accuracy)} {where}"

    @property
    def after(self) -> str:
        return percent(self.results.arm(self.gain.arm).test.accuracy)

    @property
    def evidence(self) -> str:
        """`(+22.2 points, 95% interval 13.3 to 31.1; 1,000 rows, 5 seeds)`."""
        c = self.gain
        once = ": training again may give another result" if c.seeds == 1 else ""
        return (
            f"({points(c.difference)} points, 95% interval {points_interval(c.ci95)}; "
            f"{rows_in_words(c, self.results.task.context)}, {several(c.seeds, 'seed')}{once})"
        )


_Found = tuple[Conclusion, tuple[str, ...]]


def _gained(said: _Said, controls: Sequence[_Control]) -> _Found:
    gain = said.gain
    first = f"{capital(said.training)} raised {said.metric} from {said.before} to {said.after}"
    beaten = [c for c in controls if c.beaten]
    unbeaten = [c for c in controls if not c.beaten]
    shuffled = any(c.comparison.primary for c in controls)
    sentences = [f"{first} {said.evidence}{_but(unbeaten)}."]
    if beaten:
        arms = "control arm" if len(beaten) == 1 else "control arms"
        so = _what_the_gain_is(beaten) if shuffled else ""
        sentences.append(
            f"It also beat its {arms} {joined([c.advantage for c in beaten])}"
            f"{'' if unbeaten else so}."
        )
    for control in unbeaten:
        if control.better:
            sentences.append(
                f"It did worse than its control arm {control.name} by "
                f"{_size(control.comparison, turned=True)}, so it does not owe its gain to what "
                "the explanations say."
            )
        else:
            sentences.append(_undetected(control))
            sentences += [] if control.as_good else _minimum(control.comparison, "difference")
    sentences += _equivalent_controls(controls)
    sentences += _within_margin(gain, "The gain")
    if not shuffled and not said.of_rows:
        lacks = "no control arm with explanations of other rows" if controls else "no control arm"
        sentences.append(
            f"It has {lacks}, so it is unknown whether the content of the explanations made the "
            "difference."
        )
    return "content" if shuffled and not unbeaten else "gain", tuple(sentences)


def _what_the_gain_is(beaten: Sequence[_Control]) -> str:
    """What an arm has shown that beat all of its control arms, those of `beaten` among them."""
    kinds = {control.kind for control in beaten}
    if "self_training" in kinds:
        return ", so the gain comes from what the teacher knows, and not from more text alone"
    if "random_filter" in kinds:
        return ", so the rows on which both teachers agree are worth more than others"
    if kinds & {"shuffled", "shuffled_within_label"}:
        return (
            ", so the gain depends on explanations of the row itself; whether on their words or "
            "their reasoning, explanations of other rows do not show"
        )
    return ""


def _but(unbeaten: Sequence[_Control]) -> str:
    """The most damaging result of the control arms, for the end of the first sentence."""
    for control in unbeaten:
        if control.better:
            return f", but {_TEXT[control.kind]} ({control.comparison.baseline}) did better"
    for control in unbeaten:
        if control.as_good:
            return f", but {_TEXT[control.kind]} ({control.comparison.baseline}) did as well"
    if not unbeaten:
        return ""
    for control in unbeaten:
        if control.kind in _NOT_SHOWN:
            return _NOT_SHOWN[control.kind]
        if control.kind in ("shuffled", "shuffled_within_label"):
            return ", but it is not shown that their content made the difference"
    return f", but {_TEXT[unbeaten[0].kind]} may do as well"


def _lost(said: _Said, controls: Sequence[_Control]) -> _Found:
    first = f"{capital(said.training)} lowered {said.metric} from {said.before} to {said.after}"
    return "worse", (f"{first} {said.evidence}.", *_about_controls(controls))


def _unchanged(said: _Said, controls: Sequence[_Control]) -> _Found:
    gain = said.gain
    what = "with these rows" if said.of_rows else "with explanations"
    accuracies = f"{said.before} and {said.after} {what} {said.evidence}"
    if _is_within_margin(gain):
        first = (
            f"{capital(said.training)} changed {said.metric} by less than "
            f"{margin_in_points(gain.equivalence_margin)}: {accuracies}."
        )
        shown = f"Two one-sided tests show this ({_equivalence(gain)})."
        return "equivalent", (first, shown, *_about_controls(controls))
    low, high = gain.ci95
    corrected = " after correction for several comparisons" if low > 0 or high < 0 else ""
    first = f"No effect of {said.training} was detected{corrected}: {said.metric} was {accuracies}."
    return "undetected", (first, *_minimum(gain, "effect"), *_about_controls(controls))


def _about_controls(controls: Sequence[_Control]) -> list[str]:
    """What is shown of the control arms of an arm without a gain."""
    beaten = [c for c in controls if c.beaten]
    return [
        *([f"It did beat {joined([c.advantage for c in beaten])}."] if beaten else []),
        *(
            f"It did worse than its control arm {c.name} by {_size(c.comparison, turned=True)}."
            for c in controls
            if c.better
        ),
        *_equivalent_controls(controls),
    ]


def _equivalent_controls(controls: Sequence[_Control]) -> list[str]:
    """What is shown of the control arms from which the arm differs by less than the margin."""
    sentences = []
    for control in controls:
        what = f"The difference from {control.comparison.baseline}"
        so = f": {_TEXT[control.kind]} did as well" if control.as_good else ""
        sentences += _within_margin(control.comparison, what, so)
    return sentences


_NOT_SHOWN: Mapping[ControlName, str] = {
    "self_training": ", but it is not shown that what the teacher knows made the difference",
    "rationale_dropped": ", but it is not shown that the rationales added to it",
    "random_filter": ", but it is not shown that the teachers' agreement made the difference",
}


def more_rows_in_words(arm: ArmResult, results: Results) -> str:
    """`700 more rows that the teacher labelled (arm teacher-labels)`."""
    plain = next((each for each in results.arms if each.is_plain), None)
    more = arm.training.rows - (0 if plain is None else plain.training.rows)
    rows = several(more, "more row") if more > 0 else several(arm.training.rows, "row")
    if arm.own_gold is not None:
        return f"{rows} that people labelled (arm {arm.name})"
    what = "labelled" if arm.objective == "label" else "labelled and explained"
    return f"{rows} that the teacher {what} (arm {arm.name})"


def explanations_in_words(arm: ArmResult) -> str:
    """`informed-reasoning explanations`; with the arm's name where that says something else."""
    strategy = (arm.strategy or "").replace("_", "-")
    kind = _KINDS.get(strategy, f"{strategy} explanations")
    return kind if arm.name == strategy else f"{kind} (arm {arm.name})"


_KINDS: Mapping[str, str] = {
    "human": "explanations written by people",
    "template": "explanations from a template",
}


def _undetected(control: _Control) -> str:
    c = control.comparison
    low, high = c.ci95
    corrected = " after correction for several comparisons" if low > 0 or high < 0 else ""
    return (
        f"No difference from its control arm {control.name} was detected{corrected}: "
        f"{points(c.difference)} points (95% interval {points_interval(c.ci95)})."
    )


def _minimum(comparison: Comparison, what: str) -> list[str]:
    smallest, spread = comparison.minimum_detectable_difference, comparison.detectable_range
    if smallest is None:
        if comparison.standard_error is None:
            return []
        return [f"This experiment is too small to detect any true {what} four times in five."]
    size = detectable_points(smallest, spread)
    unsure = "" if size == points(smallest, sign=False) else ", as far as so few seeds show"
    return [
        f"The smallest true {what} that this experiment detects four times in five is {size} "
        f"points{unsure}."
    ]


def _size(comparison: Comparison, *, turned: bool = False) -> str:
    """`2.4 points (0.6 to 4.2)`; turned: of the opposite difference."""
    size = points(abs(comparison.difference), sign=False)
    return f"{size} points ({points_interval(comparison.ci95, turned)})"


def _is_within_margin(comparison: Comparison) -> bool:
    return comparison.equivalence_p_value < SIGNIFICANCE_LEVEL


def _within_margin(comparison: Comparison, what: str, so: str = "") -> list[str]:
    """That a difference is shown to be smaller than the margin, where it is."""
    if not _is_within_margin(comparison):
        return []
    return [
        f"{what} is shown to be smaller than {margin_in_points(comparison.equivalence_margin)} "
        f"either way (two one-sided tests, {_equivalence(comparison)}){so}."
    ]


def _equivalence(comparison: Comparison) -> str:
    return (
        f"p = {p_value(comparison.equivalence_p_value)}, 90% interval "
        f"{points_interval(comparison.ci90)}"
    )


def capital(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]
