"""Draws the diagnostics: accuracy by slice, reliability diagrams, risk-coverage curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tutelage.core.results import SliceResult
from tutelage.core.wording import percent, percent_interval
from tutelage.report.diagnostic_sections import DiagnosticSections, SliceKind
from tutelage.report.figures.svg import (
    BAD,
    FIRST,
    GOOD,
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES = [(INK, "o"), (FIRST, "D"), (SECOND, "s"), (GOOD, "^"), (BAD, "v"), (MUTED, "P")]
"""Colour and mark of the arms; after the last they start again."""

# Pixels.
_AXIS, _KEY, _HEADING, _MARK, _GAP = 44, 21, 30, 12, 12
_NAME = {WIDE: 190, NARROW: 14}  # left of the axes: a wide one has its names there
_ABOVE = {WIDE: 0, NARROW: 17}  # above each slice: a narrow one has its names there
_PANEL, _TITLE, _LEFT = {WIDE: 190, NARROW: 125}, 26, {WIDE: 50, NARROW: 42}


def slices_plot(sections: DiagnosticSections, name: str) -> Markup:
    """Accuracy with its interval in every slice, the arms of `sections.main` below one another."""
    arms = sections.main

    def height(width: int) -> int:
        block = len(arms) * _MARK + _GAP + _ABOVE[width]
        slices = sum(_HEADING + len(kind.names) * block for kind in sections.kinds)
        return len(arms) * _KEY + slices + _AXIS

    def draw(figure: Figure, width: int) -> None:
        whole, key = height(width), len(arms) * _KEY
        axes = figure.add_axes(
            (
                _NAME[width] / width,
                _AXIS / whole,
                1 - (_NAME[width] + 14) / width,
                1 - (_AXIS + key) / whole,
            )
        )
        axes.set_ylim(whole - _AXIS - key, 0)
        _quiet(axes)
        _draw_key(axes, arms)
        y = 0.0
        for kind in sections.kinds:
            _text(axes, 0.01, y + _HEADING * 0.6, kind.title, MUTED)
            y += _HEADING
            for slice_name in kind.names:
                words = f"{slice_name} ({kind.rows[slice_name]:,})"
                if width == NARROW:
                    room, place = int(width / LETTER), y + _ABOVE[width] / 2
                else:
                    room, place = int(_NAME[width] / LETTER), y + len(arms) * _MARK / 2
                _text(axes, 0.01, place, shortened(words, room), INK)
                y += _ABOVE[width]
                for number, arm in enumerate(arms):
                    if found := kind.arms[arm].get(slice_name):
                        _draw_accuracy(axes, y + _MARK * (number + 0.5), found, number)
                y += len(arms) * _MARK + _GAP
        axes.set_xlabel("accuracy, %")

    described = "; ".join(
        f"{kind.title}, {slice_name}: {_in_words(kind, slice_name, arms)}"
        for kind in sections.kinds
        for slice_name in kind.names
    )
    return both_widths(draw, height, name, "Accuracy by slice, with 95% intervals", described)


def _in_words(kind: SliceKind, slice_name: str, arms: Sequence[str]) -> str:
    found = {arm: kind.arms[arm][slice_name] for arm in arms if slice_name in kind.arms[arm]}
    return ", ".join(
        f"{arm} {percent(its.accuracy)} ({percent_interval(its.ci95)})"
        for arm, its in found.items()
    )


def _draw_key(axes: Axes, arms: Sequence[str]) -> None:
    """The legend above the axes: the mark of each arm."""
    for number, arm in enumerate(arms):
        colour, marker = _STYLES[number % len(_STYLES)]
        y = _KEY * (number + 0.5 - len(arms))
        axes.plot(
            [0.03], [y], marker, color=colour, markersize=7, clip_on=False,
            transform=_across(axes),
        )  # fmt: skip
        _text(axes, 0.05, y, shortened(arm, 44), INK)


def _draw_accuracy(axes: Axes, y: float, found: SliceResult, number: int) -> None:
    colour, marker = _STYLES[number % len(_STYLES)]
    low, high = (100 * end for end in found.ci95)
    axes.plot([low, high], [y, y], color=colour, linewidth=1.8, solid_capstyle="round")
    axes.plot(100 * found.accuracy, y, marker, color=colour, markersize=6)


def _across(axes: Axes) -> Any:
    """Coordinates with x as a share of the figure and y in data units."""
    from matplotlib.transforms import blended_transform_factory

    return blended_transform_factory(axes.figure.transFigure, axes.transData)


def _text(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.text(
        x, y, text, transform=_across(axes), ha="left", va="center", color=colour, fontsize=12.5,
        bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 1.5},  # above the grid
    )  # fmt: skip


def _quiet(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.set_yticks([])
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.xaxis.grid(visible=True, color=LINE, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)


def reliability_plot(sections: DiagnosticSections, name: str) -> Markup:
    """A panel for each arm of `sections.main`: accuracy by confidence."""
    curves = {arm: sections.of[arm].reliability for arm in sections.main}
    bins = [b for curve in curves.values() for b in curve]
    left = 100 * min(b.confidence for b in bins) - 3
    right = min(100 * max(b.confidence for b in bins) + 3, 101.5)
    bottom = max(0.0, 100 * min(b.ci95[0] for b in bins) - 3)

    def draw(axes: Axes, arm: str) -> None:
        corner = max(left, bottom)
        axes.plot([corner, 100], [corner, 100], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        points = [(b.confidence, b.accuracy, b.ci95) for b in curves[arm]]
        _draw_points(axes, points, FIRST, "o")
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, 101.5)

    described = "; ".join(
        f"{arm}: "
        + ", ".join(
            f"confidence {percent(b.confidence)}, accuracy {percent(b.accuracy)}"
            for b in curves[arm]
        )
        for arm in sections.main
    )
    title = "Accuracy by confidence, with 95% intervals"
    return _panels(sections.main, draw, ("confidence, %", "accuracy, %"), name, title, described)


def risk_coverage_plot(sections: DiagnosticSections, name: str) -> Markup:
    """A panel for each arm of `sections.main`: error rate among its most confident predictions."""
    curves = {arm: sections.of[arm].risk_coverage.points for arm in sections.main}
    high = 100 * max(p.ci95[1] for curve in curves.values() for p in curve)

    def draw(axes: Axes, arm: str) -> None:
        if arm != sections.baseline:
            grey = [(p.coverage, p.risk, None) for p in curves[sections.baseline]]
            _draw_points(axes, grey, MUTED, "")
        points = [(p.coverage, p.risk, p.ci95) for p in curves[arm]]
        _draw_points(axes, points, FIRST, "o")
        axes.set_xlim(12, 104)
        axes.set_ylim(0, high + 3)

    described = "; ".join(
        f"{arm}: "
        + ", ".join(
            f"{percent(p.risk)} wrong of the most confident {percent(p.coverage, 0)}"
            for p in curves[arm]
        )
        for arm in sections.main
    )
    title = "Error rate among the most confident predictions, with 95% intervals"
    return _panels(sections.main, draw, ("answered, %", "wrong, %"), name, title, described)


def _draw_points(
    axes: Axes,
    points: Sequence[tuple[float, float, Sequence[float] | None]],
    colour: str,
    marker: str,
) -> None:
    """A line through (x, y) with the interval of each y, all of them fractions."""
    for x, _, interval in points:
        if interval is not None:
            axes.plot(
                [100 * x] * 2, [100 * end for end in interval], color=colour, linewidth=1.6,
                solid_capstyle="round",
            )  # fmt: skip
    axes.plot(
        [100 * x for x, _, _ in points], [100 * y for _, y, _ in points], color=colour,
        linewidth=1.4, marker=marker, markersize=5,
    )  # fmt: skip


def _panels(
    arms: Sequence[str],
    draw: Callable[[Axes, str], None],
    labels: tuple[str, str],
    name: str,
    title: str,
    described: str,
) -> Markup:
    """Equal axes side by side, one for each arm, with its name above and `labels` on x and y."""

    columns = {WIDE: 4 if len(arms) > 3 else 3, NARROW: 2}

    def lines(width: int) -> int:
        return -(-len(arms) // columns[width])

    def height(width: int) -> int:
        return lines(width) * (_TITLE + _PANEL[width] + _AXIS + 8)

    def draw_figure(figure: Figure, width: int) -> None:
        whole, across = height(width), width / columns[width]
        for number, arm in enumerate(arms):
            line, column = divmod(number, columns[width])
            below = whole - (line + 1) * (_TITLE + _PANEL[width] + _AXIS + 8) + _AXIS + 8
            axes = figure.add_axes(
                (
                    (column * across + _LEFT[width]) / width,
                    below / whole,
                    (across - _LEFT[width] - 12) / width,
                    _PANEL[width] / whole,
                )
            )
            axes.set_facecolor("none")
            axes.spines[["right", "top"]].set_visible(False)
            axes.grid(visible=True, color=LINE, linewidth=1)
            axes.set_axisbelow(True)
            axes.tick_params(length=0)
            axes.locator_params(nbins=3 if width == NARROW else 5)
            axes.set_xlabel(labels[0])
            if column == 0:
                axes.set_ylabel(labels[1])
            room = int((across - 12) / LETTER)
            axes.text(
                (column * across + 8) / width, (below + _PANEL[width] + _TITLE / 2) / whole,
                shortened(arm, room), transform=figure.transFigure, va="center", color=INK,
                fontsize=12.5,
            )  # fmt: skip
            draw(axes, arm)

    return both_widths(draw_figure, height, name, title, described)
