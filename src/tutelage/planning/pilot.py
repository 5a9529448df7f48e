"""What a pilot's answers are like: their statuses, three of them in full, their lengths."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tutelage.core.types import Rationale
from tutelage.evaluation.statistics import wilson_interval

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Lengths:
    """The shortest, the median and the longest of several lengths."""

    least: int
    median: int
    most: int


@dataclass(frozen=True, slots=True)
class PilotAnswer:
    """One answer in full. text: as an arm would learn it; detail: why it would not, else empty"""

    uid: str
    status: str
    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a pilot's answers are like.

    statuses: answers by status; only `ok` ones are trained on
    usable:   share of `ok`, and its 95% interval (Wilson's)
    words:    of the usable answers; None where there is none
    tokens:   of all answers as the server counts them, hidden reasoning included; None where it
              counts none
    reasoned: answers with reasoning in front, which is charged and not trained on
    answers:  three of them, the first ones and one that is not usable, if there is one
    stopped:  why the pilot ended before its last request; None where it did not
    """

    asked: int
    statuses: Mapping[str, int]
    usable: float
    usable_ci95: tuple[float, float]
    words: Lengths | None
    tokens: Lengths | None
    reasoned: int
    answers: tuple[PilotAnswer, ...]
    stopped: str | None = None


def judge_pilot(rationales: Sequence[Rationale], stopped: str | None = None) -> Pilot | None:
    """The pilot of these answers; None without any. stopped: as in `Pilot`"""
    if not rationales:
        return None
    counts = Counter(rationale.status for rationale in rationales)
    asked, good = len(rationales), [r for r in rationales if r.status == "ok"]
    bad = [r for r in rationales if r.status != "ok"]
    shown = [*good[: _SHOWN - bool(bad)], *bad[:1], *good[_SHOWN - bool(bad) :], *bad[1:]]
    written = [
        r.usage.completion_tokens for r in rationales if r.usage.completion_tokens is not None
    ]
    low, high = wilson_interval(len(good), asked)
    return Pilot(
        asked=asked,
        statuses=dict(counts.most_common()),
        usable=len(good) / asked,
        usable_ci95=(low, high),
        words=_lengths([len(r.text.split()) for r in good]),
        tokens=_lengths(written),
        reasoned=sum(bool(r.reasoning) for r in rationales),
        answers=tuple(PilotAnswer(r.uid, r.status, r.text, r.detail) for r in shown[:_SHOWN]),
        stopped=stopped,
    )


def _lengths(values: Sequence[int]) -> Lengths | None:
    if not values:
        return None
    return Lengths(min(values), math.ceil(statistics.median(values)), max(values))
