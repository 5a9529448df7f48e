"""Format numbers for readers: percentage points, intervals, p-values, counts, costs, times."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNKNOWN = "–"
"""Shown where a value is undefined or unknown; never 0."""


def percent(share: float | None, digits: int = 1) -> str:
    """0.713 -> `71.3%`."""
    return UNKNOWN if share is None else f"{100 * share:.{digits}f}%"


def points(difference: float | None, *, sign: bool = True) -> str:
    """A difference in accuracy as percentage points: 0.031 -> `+3.1`, -0.02 -> `−2.0`."""
    if difference is None:
        return UNKNOWN
    text = f"{100 * abs(difference):.1f}"
    if float(text) == 0:
        return text
    return ("−" if difference < 0 else "+" if sign else "") + text


def points_interval(interval: Sequence[float], turned: bool = False) -> str:
    """(0.012, 0.05) -> `1.2 to 5.0`; turned: that of the opposite difference."""
    low, high = (-interval[1], -interval[0]) if turned else (interval[0], interval[1])
    return f"{points(low, sign=False)} to {points(high, sign=False)}"


STABLE = 1.3
"""Ends of a range whose ratio is smaller are shown as one number."""


def detectable_points(size: float | None, spread: Sequence[float | None]) -> str:
    """The size that a test detects, or the range that few seeds leave possible: `4.2`, `12 to 57`.

    size, spread: fractions; None for what not even a difference of 100 points is, and `–` where
    nothing is known
    """
    low, high = spread
    if low is None:
        return UNKNOWN
    if high is None:
        return f"more than {points(low, sign=False)}"
    if size is not None and high < STABLE * low:
        return points(size, sign=False)
    return points_interval((low, high))


def margin_in_points(margin: float) -> str:
    """A margin of equivalence, with as many digits as the recipe gave: 0.01 -> `1.0 points`."""
    value = 100 * margin
    return f"{max(f'{value:.1f}', f'{value:.6g}', key=len)} points"


def percent_interval(interval: Sequence[float]) -> str:
    """(0.58, 0.64) -> `58.0 to 64.0%`."""
    return f"{100 * interval[0]:.1f} to {percent(interval[1])}"


def p_value(p: float) -> str:
    """`< 0.001`, three digits below 0.1, two above; a p just below 0.05 is never shown as 0.050."""
    if p < 0.001:
        return "< 0.001"
    if 0.0495 <= p < 0.05:
        return f"{math.floor(1e4 * p) / 1e4:.4f}"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def count(number: float | None) -> str:
    """4912 -> `4,912`."""
    return UNKNOWN if number is None else f"{number:,.0f}"


def dollars(cost: float | None) -> str:
    """`$0.0042`, `$12.30`; `unknown` where no price is known."""
    if cost is None:
        return "unknown"
    return f"${cost:,.2f}" if cost >= 1 or cost == 0 else f"${cost:.4f}"


def duration(seconds: float | None) -> str:
    """`42 s`, `7 min 13 s`, `1 h 18 min`."""
    if seconds is None:
        return UNKNOWN
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def decimal(value: float | None) -> str:
    """A score between 0 and 1, with three digits; a dash where it is undefined."""
    return UNKNOWN if value is None else f"{value:.3f}"


def several(number: int, noun: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """`premises`, `stories`, `classes`; a word that ends in a single s is taken as a plural."""
    if noun.endswith(("ss", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun if noun.endswith("s") else noun + "s"


def joined(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`; empty for no parts."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def first_labels(labels: Sequence[str], most: int = 10) -> str:
    """A task's labels for one line: of many, the first and how many there are."""
    shown = ", ".join(labels[:most])
    return shown if len(labels) <= most else f"{shown}, … {len(labels)} labels"
