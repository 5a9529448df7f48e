"""The answer in plain sentences: did the rationales help, and was it what they say?

A gain is claimed only where the tested difference is there after correction. The claim about
content is the tested difference from the arm's own control, never "one was significant, the other
not".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tutelage.report.learnt import learnt_caveats
from tutelage.report.units import context_of, rows_in_words
from tutelage.report.wording import (
    p_value,
    percent,
    percent_interval,
    points,
    points_interval,
    several,
)

SIGNIFICANT = 0.05
Results = Mapping[str, Any]


def told_apart(comparison: Mapping[str, Any]) -> bool:
    """Whether the difference is there after correction for the family of comparisons."""
    return float(comparison["p_adjusted"]) < SIGNIFICANT


def is_control(results: Results, name: str) -> bool:
    """Whether the arm of this name is a control (shuffled rationales, label echo, filler)."""
    return any(arm["name"] == name and arm["control"] is not None for arm in results["arms"])


Verdict = Literal["content", "gain", "open", "worse"]
"""What was found of an arm: a gain that its controls do not share; a gain, whose source is not
shown; nothing; a loss. In this order an answer tells of them."""

_ORDER: tuple[Verdict, ...] = ("content", "gain", "open", "worse")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one rationale arm, in a few sentences of which the first is the answer.

    gain: its comparison with the baseline, as results.json has it
    """

    verdict: Verdict
    gain: Mapping[str, Any]
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(self.sentences)


def findings(results: Results) -> list[Finding]:
    """One for each rationale arm against a baseline: what is shown first, then by size.

    results: the content of results.json.
    """
    comparisons = results["comparisons"]
    kinds = {arm["name"]: arm["control"] for arm in results["arms"]}
    found = [
        _about_arm(
            gain,
            [
                (c, kinds[c["baseline"]])
                for c in comparisons
                if c["arm"] == gain["arm"] and is_control(results, c["baseline"])
            ],
            context_of(results),
        )
        for gain in _gains(results)
        if not is_control(results, gain["arm"])
    ]
    return sorted(found, key=lambda f: (_ORDER.index(f.verdict), -f.gain["difference"]))


def caveats(results: Results) -> list[str]:
    """What a reader of the findings has to know besides."""
    sentences = []
    gains = _gains(results)
    if not results["finished"]:
        sentences.append("This run is not finished: what is here is what it has so far.")
    if not gains:
        sentences += [_alone(arm) for arm in results["arms"] if arm.get("test")]
        sentences.append("No rationale arm was compared with a baseline in this run.")
    sentences += learnt_caveats(results)
    sentences += [
        f"This experiment departs from the rule of {d['rule']}: {d['what']}. The reason given: "
        f"{d['reason'].rstrip('.')}."
        for d in results.get("departures") or ()
    ]
    if any(c["seeds"] == 1 for c in gains):
        sentences.append(
            "With one seed this speaks of these trained models only: "
            "training them again could come out otherwise."
        )
    readings = results.get("test_readings", 1)
    if readings > 1:
        sentences.append(
            f"The test set was opened {readings} times, each time for another choice of "
            "configurations: the figures are the last one's, and the more often it is opened the "
            "less they mean."
        )
    if others := results.get("test_rows_also_read_by"):
        sentences.append(
            f"The same test rows were read by the {'run' if len(others) == 1 else 'runs'} "
            f"{', '.join(others)}: what was chosen here after seeing their results was not chosen "
            "blind."
        )
    return sentences


def answer_sentences(results: Results) -> list[str]:
    """The findings, an entry of one or a few sentences each, and then the caveats."""
    return [*(finding.text for finding in findings(results)), *caveats(results)]


def _gains(results: Results) -> list[Mapping[str, Any]]:
    return [c for c in results["comparisons"] if not is_control(results, c["baseline"])]


def _about_arm(
    gain: Mapping[str, Any], controls: list[tuple[Mapping[str, Any], str]], context: str | None
) -> Finding:
    """controls: the arm's comparisons with its controls, each with the kind of control."""
    where = f"on {rows_in_words(gain, context)} and {several(gain['seeds'], 'seed')}"
    beaten = [c for c, _ in controls if told_apart(c) and c["difference"] > 0]
    first = [c for c in beaten if _is_primary(c)]
    besides = [c for c in beaten if not _is_primary(c)]
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
    if gain["difference"] < 0:
        lost = f"{gain['arm']} did worse than {gain['baseline']} by {_size(gain, True)}, {where}."
        return finding("worse", lost, *worse, *_as_good(controls))

    opening = f"{gain['arm']} beat {gain['baseline']} by {_size(gain)}"
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
    has_own = any(_is_primary(control) for control, _ in controls)
    if not has_own:
        sentences.append(
            f"{gain['arm']} has no control arm{' of shuffled rationales' if controls else ''}, so "
            "it is open whether what the rationales say did the work."
        )
    return finding("content" if has_own and not unbeaten else "gain", *sentences)


_CONTENT_OPEN = "the gain is not shown to come from what the rationales say"

_UNBEATEN: Mapping[str, str] = {
    "label_echo": "a sentence that says the label again may do as much",
    "filler": "any text of that length may do as much",
}
"""What it means that a control of this kind was not beaten; of shuffled ones: `_CONTENT_OPEN`."""

_SAME: Mapping[str, str] = {
    "label_echo": "a sentence that says the label again does as much",
    "filler": "any text of that length does as much",
}
"""What it means that a control of this kind is as good within the margin; of shuffled ones: below.
Nothing speaks more strongly against what the rationales say."""

_SAME_SHUFFLED = "the rationales of other rows do as much, whatever they say"


def _as_good(controls: list[tuple[Mapping[str, Any], str]]) -> list[str]:
    """What is shown of controls from which the arm differs by less than the margin."""
    sentences = []
    for control, kind in controls:
        what = f"the difference from its own control {control['baseline']}"
        shown = _within_the_margin(control, what)
        if shown and not told_apart(control):
            shown.append(f"So {_SAME.get(kind, _SAME_SHUFFLED)}, within that margin.")
        sentences += shown
    return sentences


def _worse(control: Mapping[str, Any]) -> str:
    return f"It did worse than its own control {control['baseline']} by {_size(control, True)}"


def _is_primary(comparison: Mapping[str, Any]) -> bool:
    # Runs from before there were two families had one, which was the primary one.
    return bool(comparison.get("primary", True))


def families(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """How many comparisons each of Holm's corrections is over, in words."""
    first = sum(_is_primary(c) for c in comparisons)
    others = len(comparisons) - first
    if not others:
        return several(first, "comparison")
    return (
        f"the {first} with labels and shuffled rationales, and apart from them over the {others} "
        "with label echo and filler"
    )


def _listed(beaten: Sequence[Mapping[str, Any]]) -> str:
    return " and ".join(_beaten(c) for c in beaten)


def _beaten(comparison: Mapping[str, Any]) -> str:
    return f"{comparison['baseline']} by {_size(comparison)}"


def _size(comparison: Mapping[str, Any], turned: bool = False) -> str:
    difference = abs(comparison["difference"])
    interval = points_interval(comparison["ci95"], turned)
    return f"{points(difference, sign=False)} points ({interval})"


def _untold(comparison: Mapping[str, Any], *, lower: bool = False) -> str:
    low, high = comparison["ci95"]
    corrected = " after correction for several comparisons" if low > 0 or high < 0 else ""
    return (
        f"{'no' if lower else 'No'} difference between {comparison['arm']} and "
        f"{comparison['baseline']} could be told{corrected}: {points(comparison['difference'])} "
        f"points ({points_interval(comparison['ci95'])})"
    )


def _smallest(comparison: Mapping[str, Any]) -> list[str]:
    smallest = comparison["minimum_detectable_difference"]
    if smallest is None:
        return []
    return [
        "The smallest true difference that this experiment would find four times in five is "
        f"{points(smallest, sign=False)} points."
    ]


def _is_within_the_margin(comparison: Mapping[str, Any]) -> bool:
    """Whether no difference that matters is shown to be there; older results lack the test."""
    p = comparison.get("equivalence_p_value")
    return p is not None and float(p) < SIGNIFICANT


def _within_the_margin(comparison: Mapping[str, Any], what: str) -> list[str]:
    if not _is_within_the_margin(comparison):
        return []
    return [
        f"That {what} is smaller than {margin_of(comparison)} either way is shown (two one-sided "
        f"tests, p = {p_value(comparison['equivalence_p_value'])}, 90% interval "
        f"{points_interval(comparison['ci90'])})."
    ]


def margin_of(comparison: Mapping[str, Any]) -> str:
    """`1.0 points`; as many digits as the recipe gave."""
    points_of = 100 * comparison["equivalence_margin"]
    return f"{max(f'{points_of:.1f}', f'{points_of:.6g}', key=len)} points"


def _alone(arm: Mapping[str, Any]) -> str:
    test = arm["test"]
    return (
        f"{arm['name']} reached {percent(test['accuracy'])} accuracy "
        f"({percent_interval(test['ci95'])}) on {several(test['n'], 'row')}."
    )
