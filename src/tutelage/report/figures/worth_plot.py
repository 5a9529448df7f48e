"""Draws accuracy against what was paid: one line for each way of spending the money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from tutelage.core.results.worth import ArmWorth, Worth
from tutelage.core.wording import percent, percent_interval
from tutelage.report.figures.svg import (
    FIRST,
    GOOD,
    INK,
    LETTER,
    LINE,
    MUTED,
    NARROW,
    SECOND,
    WIDE,
    both_widths,
    shortened,
)
from tutelage.report.worth_section import WorthSection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PLOT = {WIDE: 340, NARROW: 280}  # pixels: the height of the axes
_BELOW, _LEFT, _RIGHT = 48, 58, 62  # pixels around them
_ENTRY, _COLUMNS = 24, {WIDE: 2, NARROW: 1}  # the legend above
_APART = 14  # pixels: the labels of the second axis are at least so far apart
_FAR = 30
"""Ratio of the largest to the smallest cost above which the axis is logarithmic."""
_STYLES = {
    "labels alone": (INK, "o", "none"),
    "gold rows": (INK, "o", "-"),
    "teacher labels": (FIRST, "s", "-"),
    "teacher labels and rationales": (SECOND, "D", "-"),
    "rationales": (SECOND, "v", "--"),
    "agreed labels": (FIRST, "^", "--"),
    "self-training": (GOOD, "P", "--"),
    "control": (MUTED, "X", "none"),
}
_MARKERS = ("s", "D", "^", "v", "P", "X")
_UNITS = {
    "usd": "US dollars, cost of use",
    "tokens": "tokens, cost of use",
    "requests": "requests, cost of use",
    "rows": "rows that the teacher was asked about",
}


def worth_plot(section: WorthSection, name: str) -> Markup:
    """Test accuracy, or the run's other metric, with its interval by cost of use; on the right, how
    many gold rows reach it.

    Costs are in dollars where all are known, else in the unit of the experiment's spend. An arm
    whose cost is not known is not drawn. `name` is unique in the page.
    """
    worth = section.worth
    unit = cost_axis(worth)
    lines = cost_lines(section, unit)

    def entries(width: int) -> int:
        return math.ceil(len(lines) / _COLUMNS[width])

    def height(width: int) -> int:
        return _PLOT[width] + _BELOW + _ENTRY * entries(width) + 10

    def draw(figure: Figure, width: int) -> None:
        whole = height(width)
        axes = figure.add_axes(
            (_LEFT / width, _BELOW / whole, 1 - (_LEFT + _RIGHT) / width, _PLOT[width] / whole)
        )
        axes.set_facecolor("none")
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.yaxis.grid(visible=True, color=LINE, linewidth=1)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        for number, (label, points) in enumerate(lines.items()):
            colour, marker, dashes = _STYLES[points[0][1].intervention]
            if label != points[0][1].intervention:  # one of several teachers
                marker = _MARKERS[number % len(_MARKERS)]
            accuracies = [100 * arm.accuracy for _, arm in points]
            below = [100 * (arm.accuracy - arm.ci95[0]) for _, arm in points]
            above = [100 * (arm.ci95[1] - arm.accuracy) for _, arm in points]
            room = int((width - _LEFT) / _COLUMNS[width] / LETTER) - 8
            axes.errorbar(
                [cost for cost, _ in points], accuracies, yerr=(below, above), color=colour,
                marker=marker, linestyle=dashes, linewidth=2, markersize=7, elinewidth=1.5,
                capsize=3, label=shortened(label, room), clip_on=False,
            )  # fmt: skip
        axes.locator_params(axis="y", nbins=6)
        costs = [cost for points in lines.values() for cost, _ in points]
        axes.set_xlabel(_UNITS[unit] + (" (log scale)" if _cost_axis(axes, costs, width) else ""))
        axes.set_ylabel(f"test {section.metric}, %")
        _gold_axis(axes, gold_ticks(worth), _PLOT[width])
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=_COLUMNS[width], frameon=False,
            labelcolor=INK, fontsize=12.5, borderpad=0.2, labelspacing=0.35, handlelength=3,
        )  # fmt: skip

    described = "; ".join(
        f"{label}: "
        + ", ".join(
            f"{arm.arm} {percent(arm.accuracy)} ({percent_interval(arm.ci95)}) for "
            f"{f'${cost:,.4g}' if unit == 'usd' else f'{cost:,.0f} {unit}'}"
            for cost, arm in points
        )
        for label, points in lines.items()
    )
    if ticks := gold_ticks(worth):
        described += "; gold rows alone: " + ", ".join(
            f"{percent(accuracy)} with {size:,}" for size, accuracy in ticks
        )
    title = f"Test {section.metric} by cost of use, with 95% intervals"
    return both_widths(draw, height, name, title, described)


def cost_axis(worth: Worth) -> str:
    """The field of `CostOfUse` that all arms which bought something can be compared in."""
    costs = [arm.cost for arm in worth.arms if arm.cost is not None]
    if all(cost.usd is not None for cost in costs) and any(cost.usd for cost in costs):
        return "usd"
    return worth.unit if worth.unit in ("tokens", "requests") else "rows"


def cost_lines(section: WorthSection, unit: str) -> dict[str, list[tuple[float, ArmWorth]]]:
    """Name of a line -> its arms with their cost, the cheapest first.

    A line is an intervention; where several teachers serve one, each has a line. Gold rows have a
    cost in dollars alone; otherwise they are on the second axis only.
    """
    asked: dict[str, set[str | None]] = {}
    for arm in section.worth.arms:
        asked.setdefault(arm.intervention, set()).add(section.models.get(arm.arm))
    lines: dict[str, list[tuple[float, ArmWorth]]] = {}
    for arm in section.worth.arms:
        priced = unit == "usd" or arm.intervention != "gold rows"
        cost = None if arm.cost is None or not priced else getattr(arm.cost, unit)
        if cost is None:
            continue
        model = section.models.get(arm.arm)
        several = len(asked[arm.intervention]) > 1 and model is not None
        label = f"{arm.intervention} by {model}" if several else arm.intervention
        lines.setdefault(label, []).append((float(cost), arm))
    return {label: sorted(points, key=lambda point: point[0]) for label, points in lines.items()}


def gold_ticks(worth: Worth) -> list[tuple[int, float]]:
    """The sizes of the curve of gold rows and their accuracies, as long as more rows do better.

    A size whose accuracy is not above that of a smaller one has no place on an axis.
    """
    ticks: list[tuple[int, float]] = []
    for size, arm in worth.curve:
        accuracy = worth.arm(arm).accuracy
        if not ticks or accuracy > ticks[-1][1]:
            ticks.append((size, accuracy))
    return ticks


def _cost_axis(axes: Axes, costs: Sequence[float], width: int) -> bool:
    """Linear; where labels by people dwarf what a teacher costs, logarithmic above the smallest
    cost, so that zero has a place. Returns whether it is logarithmic."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    paid = [cost for cost in costs if cost > 0]
    far = bool(paid) and max(paid) > _FAR * min(paid)
    if far:
        axes.set_xscale("symlog", linthresh=min(paid), linscale=0.5)
        axes.set_xlim(-0.1 * min(paid), 1.6 * max(paid))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.locator_params(axis="x", nbins=5 if width == NARROW else 8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:,.4g}"))
    return far


def _gold_axis(axes: Axes, ticks: Sequence[tuple[int, float]], pixels: int) -> None:
    """On the right, at the accuracy that so many gold rows alone reach, their number."""
    if not ticks:
        return
    # So that all of the curve is on the axis.
    low, high = axes.get_ylim()
    low, high = min(low, 100 * ticks[0][1] - 0.5), max(high, 100 * ticks[-1][1] + 0.5)
    axes.set_ylim(low, high)
    shown: list[tuple[int, float]] = []
    for size, accuracy in ticks:
        far = _APART * (high - low) / pixels
        if not shown or 100 * (accuracy - shown[-1][1]) >= far:
            shown.append((size, accuracy))
    right = axes.twinx()
    right.set_facecolor("none")
    right.spines[["left", "right", "top", "bottom"]].set_visible(False)
    right.set_ylim(low, high)
    right.set_yticks([100 * accuracy for _, accuracy in shown], [f"{size:,}" for size, _ in shown])
    right.tick_params(length=4, color=MUTED)
    right.set_ylabel("gold rows that reach it", color=MUTED)
