"""Draws accuracy against cost, from the student alone to the teacher alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from tutelage.core.wording import dollars, percent
from tutelage.evaluation.frontier import Frontier
from tutelage.report.figures.svg import (
    FIRST,
    GOOD,
    INK,
    LINE,
    MUTED,
    NARROW,
    SECOND,
    WIDE,
    both_widths,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PLOT = {WIDE: 320, NARROW: 260}  # pixels: the height of the axes
_BELOW, _LEFT, _RIGHT, _KEY = 48, 58, 16, 80  # pixels around them; the key is above


def trade_off_plot(frontier: Frontier, name: str) -> Markup:
    """Dev accuracy by cost for 1,000 rows, or by the share of rows that the teacher is asked about
    where no price is known. `name` is unique in the page."""
    priced = frontier.teacher_alone.usd is not None
    points = frontier.points

    def across(usd: float | None, asked: float) -> float:
        return (usd or 0.0) if priced else 100 * asked

    def height(width: int) -> int:
        return _PLOT[width] + _BELOW + _KEY

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
        axes.plot(
            [across(p.usd, p.asked) for p in points], [100 * p.accuracy for p in points],
            color=INK, linewidth=2, label="both, by threshold",
        )  # fmt: skip
        for alone, asked, colour, marker, label in (
            (frontier.student, 0.0, FIRST, "o", "student alone"),
            (frontier.teacher_alone, 1.0, SECOND, "D", "teacher alone"),
        ):
            low, high = alone.ci95
            axes.errorbar(
                [across(alone.usd, asked)], [100 * alone.accuracy],
                yerr=([100 * (alone.accuracy - low)], [100 * (high - alone.accuracy)]),
                color=colour, marker=marker, linestyle="none", markersize=9, elinewidth=1.5,
                capsize=3, label=label, clip_on=False,
            )  # fmt: skip
        chosen = frontier.chosen
        axes.plot(
            [across(chosen.usd, chosen.asked)], [100 * chosen.accuracy],
            color=GOOD, marker="*", markersize=15, linestyle="none", label="chosen threshold",
        )  # fmt: skip
        axes.locator_params(axis="y", nbins=6)
        axes.locator_params(axis="x", nbins=5 if width == NARROW else 8)
        what = "US dollars for 1,000 rows" if priced else "rows that the teacher is asked about, %"
        axes.set_xlabel(what, color=MUTED)
        axes.set_ylabel("dev accuracy, %")
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=2 if width == WIDE else 1,
            frameon=False, labelcolor=INK, fontsize=12 if width == WIDE else 11, borderpad=0.2,
            labelspacing=0.3,
        )  # fmt: skip

    chosen = frontier.chosen
    described = (
        f"student alone {percent(frontier.student.accuracy)} at no cost; teacher alone "
        f"{percent(frontier.teacher_alone.accuracy)} for {dollars(frontier.teacher_alone.usd)}; "
        f"at the chosen threshold {percent(chosen.accuracy)} for {dollars(chosen.usd)}, with "
        f"{percent(chosen.asked)} of the rows asked about"
    )
    title = "Dev accuracy by the cost of the teacher's help"
    return both_widths(draw, height, name, title, described)
