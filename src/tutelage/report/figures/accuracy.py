"""Draws the differences between arms and their accuracies, one line each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from tutelage.core.results import ArmResult, Comparison, TestEvaluation
from tutelage.core.wording import (
    percent,
    percent_interval,
    points,
    points_interval,
    several,
)
from tutelage.report.figures.svg import (
    FIRST,
    GROUND,
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
from tutelage.report.findings import is_significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROWS = {WIDE: 44, NARROW: 72}  # pixels: height of a row; a narrow one includes its text
_MARGIN = 44  # pixels: the axis below
_INSETS = {
    WIDE: (290, 175),
    NARROW: (14, 14),
}  # pixels left and right: room for text if wide


def forest_plot(
    comparisons: Sequence[Comparison],
    controls: Sequence[str],
    name: str,
    metric: str = "accuracy",
) -> Markup:
    """The differences with their intervals, one below the other, around the line of no difference.

    controls: names of the control arms (drawn as squares; other baselines as circles)
    name:     unique in the page
    metric:   what the differences are of, in words

    A filled mark is a significant difference.
    """

    def draw(axes: Axes, width: int) -> None:
        for y, c in enumerate(comparisons):
            colour, marker = (SECOND, "s") if c.baseline in controls else (FIRST, "o")
            low, high = (100 * end for end in c.ci95)
            axes.plot([low, high], [y, y], color=colour, linewidth=2.5, solid_capstyle="round")
            axes.plot(
                100 * c.difference, y, marker, color=colour, markersize=8, markeredgewidth=2,
                markerfacecolor=colour if is_significant(c) else GROUND,
            )  # fmt: skip
            value = f"{points(c.difference)} ({points_interval(c.ci95)})"
            _label_row(axes, y, (c.arm, f"− {c.baseline}"), value, width)
        axes.axvline(0, color=MUTED, linewidth=1.2, zorder=0)
        axes.set_xlabel(f"points of {metric}; the arm is better to the right of 0")
        ends = [100 * end for c in comparisons for end in c.ci95] + [0.0]
        _set_range(axes, ends, least=2.0)

    described = "; ".join(
        f"{c.arm} minus {c.baseline}: {points(c.difference)} points, 95% interval "
        f"{points_interval(c.ci95)}, {'significant' if is_significant(c) else 'not significant'}"
        for c in comparisons
    )
    title = f"Differences in {metric} between arms, with 95% intervals"
    return _rows_figure(draw, len(comparisons), name, title, described)


def accuracy_plot(arms: Sequence[ArmResult], name: str, metric: str = "accuracy") -> Markup:
    """Mean test accuracy, or other metric, of each arm with its interval, and each seed as a dot.

    metric: in words
    """

    def draw(axes: Axes, width: int) -> None:
        for y, arm in enumerate(arms):
            test = arm.test
            colour = MUTED if arm.is_control else FIRST
            low, high = (100 * end for end in test.ci95)
            axes.plot([low, high], [y, y], color=colour, linewidth=2.5, solid_capstyle="round")
            seeds = [100 * accuracy for accuracy in test.accuracy_by_seed]
            axes.plot(
                seeds, [y + 0.22] * len(seeds), "o", color=INK, markersize=4.5, alpha=0.55,
                markeredgewidth=0,
            )  # fmt: skip
            axes.plot(100 * test.accuracy, y, "D", color=colour, markersize=8)
            value = f"{percent(test.accuracy)} ({percent_interval(test.ci95)})"
            _label_row(axes, y, (arm.name,), value, width)
        axes.set_xlabel(f"{metric}, %")
        shown = [
            100 * value for arm in arms for value in (*arm.test.ci95, *arm.test.accuracy_by_seed)
        ]
        _set_range(axes, shown, least=4.0)

    described = "; ".join(_accuracy_in_words(arm.name, arm.test) for arm in arms)
    title = f"Test {metric} of each arm, with 95% intervals and seeds"
    return _rows_figure(draw, len(arms), name, title, described)


def _accuracy_in_words(name: str, test: TestEvaluation) -> str:
    seeds = ", ".join(percent(accuracy) for accuracy in test.accuracy_by_seed)
    return (
        f"{name}: {percent(test.accuracy)}, 95% interval {percent_interval(test.ci95)}, "
        f"{several(len(test.accuracy_by_seed), 'seed')} at {seeds}"
    )


def _label_row(axes: Axes, y: int, label: Sequence[str], value: str, width: int) -> None:
    """The row's name and its numbers: left and right of the axes, or above them if narrow.

    label: one or two lines, the second in a quieter colour.
    """
    from matplotlib.transforms import blended_transform_factory

    across = blended_transform_factory(axes.figure.transFigure, axes.transData)
    if width == NARROW:
        lines = [(" ".join(label), 0.02, "left", INK, -0.56), (value, 0.02, "left", MUTED, -0.31)]
        room = int(width / LETTER)
    else:
        middle = (len(label) - 1) / 2
        lines = [
            (line, 0.01, "left", MUTED if number else INK, 0.38 * (number - middle))
            for number, line in enumerate(label)
        ]
        lines.append((value, 0.99, "right", INK, 0.0))
        room = int(_INSETS[width][0] / LETTER)
    for text, x, alignment, colour, below in lines:
        axes.text(
            x, y + below, shortened(text, room), transform=across, ha=alignment, va="center",
            color=colour, fontsize=12.5,
            bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 1.5},  # above the grid
        )  # fmt: skip


def _set_range(axes: Axes, values: Sequence[float], least: float) -> None:
    low, high = min(values), max(values)
    margin = max(0.04 * (high - low), (least - (high - low)) / 2, 0.2)
    axes.set_xlim(low - margin, high + margin)


def _rows_figure(
    draw: Callable[[Axes, int], None], rows: int, name: str, title: str, described: str
) -> Markup:
    """Rows below one another over one axis; nothing where there are none."""
    if rows == 0:
        return Markup("")

    def draw_figure(figure: Figure, width: int) -> None:
        height = figure.get_figheight() * 72
        left, right = _INSETS[width]
        axes = figure.add_axes(
            (left / width, _MARGIN / height, 1 - (left + right) / width, 1 - _MARGIN / height)
        )
        axes.set_facecolor("none")
        axes.set_ylim(rows - (0.6 if width == NARROW else 0.5), -0.75 if width == NARROW else -0.5)
        axes.set_yticks([])
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.xaxis.grid(visible=True, color=LINE, linewidth=1)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", length=0)
        axes.locator_params(axis="x", nbins=5 if width == NARROW else 7)
        draw(axes, width)

    return both_widths(
        draw_figure, lambda width: rows * _ROWS[width] + _MARGIN, name, title, described
    )
