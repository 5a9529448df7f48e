"""Draws the learning curves: dev accuracy by training rows, one line for each arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from tutelage.core.wording import percent, percent_interval
from tutelage.report.curve_section import LearningCurve
from tutelage.report.figures.svg import (
    FIRST,
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PLOT = {WIDE: 300, NARROW: 250}  # pixels: the height of the axes
_BELOW, _LEFT, _RIGHT = 48, 58, 14  # pixels around them
_ENTRY = 24  # pixels: a line of the legend above
_COLUMNS = {WIDE: 2, NARROW: 1}  # of the legend
_STYLES = (
    (INK, "o", "-"),
    (FIRST, "s", "-"),
    (SECOND, "D", "-"),
    (FIRST, "^", "--"),
    (SECOND, "v", "--"),
    (MUTED, "P", "-"),
    (MUTED, "X", "--"),
)
_APART = 0.006
"""Offset between arms at one number of rows, as a share of the axis, so that intervals do not
overlap."""


def curve_plot(curve: LearningCurve, name: str, metric: str = "accuracy") -> Markup:
    """Mean dev accuracy, or other metric, with its interval by training rows (log scale), for
    labels alone and the treatment arms.

    name:   unique in the page
    metric: in words
    """
    lines = [(arm, curve.of(arm)) for arm in curve.drawn]
    rows = [point.rows for point in curve.points]

    def entries(width: int) -> int:
        return math.ceil(len(lines) / _COLUMNS[width])

    def height(width: int) -> int:
        return _PLOT[width] + _BELOW + _ENTRY * entries(width) + 10

    def draw(figure: Figure, width: int) -> None:
        whole = height(width)
        axes = figure.add_axes(
            (_LEFT / width, _BELOW / whole, 1 - (_LEFT + _RIGHT) / width, _PLOT[width] / whole)
        )
        _set_up(axes, rows, width, metric)
        span = math.log(rows[-1] / rows[0])
        for number, (arm, points) in enumerate(lines):
            colour, marker, dashes = _STYLES[number % len(_STYLES)]
            shift = math.exp((number - (len(lines) - 1) / 2) * _APART * span)
            accuracies = [100 * reached.dev_accuracy for _, reached in points]
            low = [100 * (r.dev_accuracy - r.ci95[0]) for _, r in points]
            high = [100 * (r.ci95[1] - r.dev_accuracy) for _, r in points]
            room = int((width - _LEFT) / _COLUMNS[width] / LETTER) - 8
            axes.errorbar(
                [shift * count for count, _ in points], accuracies, yerr=(low, high),
                color=colour, marker=marker, linestyle=dashes, linewidth=2, markersize=7,
                elinewidth=1.5, capsize=3, label=shortened(arm, room),
            )  # fmt: skip
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=_COLUMNS[width], frameon=False,
            labelcolor=INK, fontsize=12.5, borderpad=0.2, labelspacing=0.35, handlelength=3,
        )  # fmt: skip

    described = "; ".join(
        f"{arm}: "
        + ", ".join(
            f"{percent(reached.dev_accuracy)} ({percent_interval(reached.ci95)}) with "
            f"{count:,} rows"
            for count, reached in points
        )
        for arm, points in lines
    )
    title = f"Dev {metric} by number of training rows, with 95% intervals"
    return both_widths(draw, height, name, title, described)


def _set_up(axes: Axes, rows: Sequence[int], width: int, metric: str) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_facecolor("none")
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.yaxis.grid(visible=True, color=LINE, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.set_xscale("log")
    margin = math.exp(0.05 * math.log(rows[-1] / rows[0]))
    axes.set_xlim(rows[0] / margin, rows[-1] * margin)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    shown = _legible(rows, width - _LEFT - _RIGHT)
    axes.set_xticks(shown, [f"{count:,}" for count in shown])
    axes.locator_params(axis="y", nbins=6)
    axes.set_xlabel("training rows (log scale)")
    axes.set_ylabel(f"dev {metric}, %")


def _legible(rows: Sequence[int], pixels: int) -> list[int]:
    """The numbers of rows whose labels fit on the axis without overlap, the last first."""
    scale = pixels / (1.1 * math.log(rows[-1] / rows[0]))
    shown = [rows[-1]]
    for count in reversed(rows[:-1]):
        if scale * math.log(shown[-1] / count) > LETTER * len(f"{shown[-1]:,}") + 6:
            shown.append(count)
    return shown
