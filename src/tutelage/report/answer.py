"""The answer in plain sentences: did the rationales help, and was it what they say?

A gain is claimed only where the tested difference is there after correction. The claim about
content is the tested difference from the arm's own control, never "one was significant, the other
not".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.report.wording import (
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
    """Whether the arm of this name is a control (shuffled rationales, label echo)."""
    return any(arm["name"] == name and arm["control"] is not None for arm in results["arms"])


def answer_sentences(results: Results) -> list[str]:
    """An entry of one or a few sentences for each rationale arm, in the comparisons' order.

    results: the content of results.json.
    """
    sentences = []
    if not results["finished"]:
        sentences.append("This run is not finished: what follows is what it has so far.")
    comparisons = results["comparisons"]
    gains = [c for c in comparisons if not is_control(results, c["baseline"])]
    for gain in gains:
        if is_control(results, gain["arm"]):
            continue
        controls = [
            c for c in comparisons if c["arm"] == gain["arm"] and is_control(results, c["baseline"])
        ]
        sentences.append(" ".join(_about_arm(gain, controls)))
    if not gains:
        sentences += [_alone(arm) for arm in results["arms"] if arm.get("test")]
        sentences.append("No rationale arm was compared with a baseline in this run.")
    if any(c["seeds"] == 1 for c in gains):
        sentences.append(
            "With one seed this speaks of these trained models only: "
            "training them again could come out otherwise."
        )
    return sentences


def _about_arm(gain: Mapping[str, Any], controls: list[Mapping[str, Any]]) -> list[str]:
    where = f"on {several(gain['n'], 'row')} and {several(gain['seeds'], 'seed')}"
    beaten = [c for c in controls if told_apart(c) and c["difference"] > 0]
    open_ = [c for c in controls if c not in beaten]
    if not told_apart(gain):
        first = f"{_untold(gain)}, {where}.{_smallest(gain)}"
        return [first, *(f"It did beat its own control {_beaten(c)}." for c in beaten)]
    if gain["difference"] < 0:
        return [f"{gain['arm']} did worse than {gain['baseline']} by {_size(gain, True)}, {where}."]

    first = f"{gain['arm']} beat {gain['baseline']} by {_size(gain)}"
    for control in beaten:
        first += f" and its own control {_beaten(control)}"
    sentences = [f"{first}, {where}."]
    for control in open_:
        if told_apart(control):
            fact = f"It did worse than its own control {control['baseline']} by "
            sentences.append(
                f"{fact}{_size(control, True)}: it owes its gain not to what the rationales say."
            )
        else:
            sentences.append(
                f"But {_untold(control, lower=True)}, so the gain is not shown to come from "
                f"what the rationales say.{_smallest(control)}"
            )
    if not controls:
        sentences.append(
            f"{gain['arm']} has no control arm, so it is open whether what the rationales say "
            "did the work."
        )
    return sentences


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


def _smallest(comparison: Mapping[str, Any]) -> str:
    smallest = comparison["minimum_detectable_difference"]
    if smallest is None:
        return ""
    return (
        " The smallest true difference that this experiment would find four times in five is "
        f"{points(smallest, sign=False)} points."
    )


def _alone(arm: Mapping[str, Any]) -> str:
    test = arm["test"]
    return (
        f"{arm['name']} reached {percent(test['accuracy'])} accuracy "
        f"({percent_interval(test['ci95'])}) on {several(test['n'], 'row')}."
    )
