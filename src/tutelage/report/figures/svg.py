"""Turns a matplotlib figure into SVG to embed in the page, in the page's own colours and font.

Each figure is drawn twice, for a wide and for a narrow screen, and the page's style shows one. Text
stays text, so that it can be selected and read aloud, and needs no glyphs from matplotlib.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE, NARROW = 880, 350
"""Widths in CSS pixels at which the text of a figure has its nominal size."""

LETTER = 7.2
"""Pixels: about the width of a letter."""

# matplotlib has no CSS variables: it draws with placeholder colours that are replaced afterwards.
INK, MUTED, LINE, FIRST, SECOND, GROUND, GOOD, BAD = (f"#0{i}0{i}0{i}" for i in range(1, 9))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    GROUND: "var(--card)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
}

Draw = Callable[["Figure", int], None]
"""Draws into an empty figure of that width; its size in inches times 72 is its size in pixels."""


def both_widths(
    draw: Draw, height: Callable[[int], int], name: str, title: str, described: str
) -> Markup:
    """The figure for a wide and for a narrow screen.

    height:    in pixels, of the figure that is WIDE or NARROW
    name:      unique in the page
    described: what the figure shows, for screen readers
    """
    variants = ((WIDE, "wide"), (NARROW, "narrow"))
    return Markup("").join(
        _svg(draw, (width, height(width)), f"{name}-{kind}", kind, title, described)
        for width, kind in variants
    )


def shortened(text: str, room: int) -> str:
    """`text`, cut in the middle to `room` letters where it is longer: both ends stay."""
    return text if len(text) <= room else text[: room // 2] + "…" + text[-(room - room // 2 - 1) :]


def _svg(
    draw: Draw, size: tuple[int, int], name: str, kind: str, title: str, described: str
) -> Markup:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # the same results give the same bytes
        "text.parse_math": False,  # a name may contain a dollar sign
        "axes.edgecolor": MUTED,
        "axes.labelcolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "font.size": 12,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        FigureCanvasSVG(figure)
        draw(figure, size[0])
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(buffer.getvalue(), size, name, kind, title, described)


def _for_page(
    svg: str, size: tuple[int, int], name: str, kind: str, title: str, described: str
) -> Markup:
    """matplotlib's file as an element of the page: named, described, with unique ids."""
    body = svg[svg.index("<svg") :]
    body = body[body.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(url\(|href=")#([^")]+)', rf"\1#{name}-\2", body)
    # Only inside style attributes: a label that contains a placeholder or a font stays as it is.
    body = re.sub(r'style="[^"]*"', lambda match: _follow_page(match[0]), body)
    return Markup(
        f'<svg class="{kind}" role="img" aria-labelledby="{name}-title {name}-described" '
        f'viewBox="0 0 {size[0]} {size[1]}" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-described">{escape(described)}</desc>{body}'
    )


def _follow_page(style: str) -> str:
    style = re.sub(r"font: ([^;\"]*?px)[^;\"]*", r"font-size: \1; font-family: inherit", style)
    for placeholder, variable in _VARIABLES.items():
        style = style.replace(placeholder, variable)
    return style
