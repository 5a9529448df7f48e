"""Words, table and page of a frontier: what the teacher's help costs, and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tutelage.core.storage import write_atomic
from tutelage.core.wording import dollars, percent, percent_interval, points, points_interval
from tutelage.evaluation.frontier import Frontier, FrontierPoint
from tutelage.report.figures.trade_off import trade_off_plot
from tutelage.report.page import environment

COLUMNS = ("answered by", "threshold", "asked", "no label", "accuracy", "US dollars for 1,000")

_SHARES = 10
"""Steps between the student and the teacher that a table shows; frontier.json has all of them."""


def frontier_rows(frontier: Frontier) -> list[tuple[str, ...]]:
    """The cells of a table: the student, some thresholds with the chosen one, the teacher."""
    student = frontier.student
    rows: list[tuple[str, ...]] = [
        ("student", "", "0%", "", _alone(student.accuracy, student.ci95), "$0")
    ]
    for point in _shown(frontier):
        mark = "both (chosen)" if point == frontier.chosen else "both"
        rows.append(
            (
                mark,
                f"{point.threshold:.4f}",
                percent(point.asked),
                percent(point.unanswered),
                percent(point.accuracy),
                dollars(point.usd),
            )
        )
    teacher = frontier.teacher_alone
    rows.append(
        ("teacher", "", "100%", "", _alone(teacher.accuracy, teacher.ci95), dollars(teacher.usd))
    )
    return rows


def _alone(accuracy: float, ci95: Sequence[float]) -> str:
    return f"{percent(accuracy)} ({percent_interval(ci95)})"


def _shown(frontier: Frontier) -> list[FrontierPoint]:
    """The first point from each tenth of the rows on, and the chosen one."""
    shown = {frontier.chosen.threshold: frontier.chosen}
    for step in range(1, _SHARES + 1):
        point = next((p for p in frontier.points if p.asked >= step / _SHARES - 1e-9), None)
        if point is not None:
            shown.setdefault(point.threshold, point)
    return [shown[t] for t in sorted(shown)]


def frontier_sentences(frontier: Frontier) -> list[str]:
    """What the teacher's help is worth, and what a reader should know."""
    chosen, student = frontier.chosen, frontier.student
    gained = chosen.accuracy - student.accuracy
    sentences = [
        f"Chosen: threshold {chosen.threshold:.4f} ({frontier.rule}). On {frontier.rows:,} rows of "
        f"dev the teacher, {frontier.teacher}, is asked about {percent(chosen.asked)} of the rows, "
        f"and the accuracy is {percent(chosen.accuracy)}, {points(gained)} points from the "
        f"student's {percent(student.accuracy)}: {worth(gained, chosen.usd)}."
    ]
    if frontier.test is not None:
        test = frontier.test
        sentences.append(
            f"On {test.rows:,} rows of test: {percent(test.point.accuracy)}, the student alone "
            f"{percent(test.student)}, a difference of {points(test.gain)} points "
            f"({points_interval(test.ci95)}), with {percent(test.point.asked)} asked: "
            f"{worth(test.gain, test.point.usd)}."
        )
    if frontier.others:
        found = "; ".join(
            f"{each['threshold']:.4f}"
            + (f" ({percent(each['answer']['point']['accuracy'])})" if each.get("answer") else "")
            for each in frontier.others
        )
        sentences.append(
            f"The test set was opened for {len(frontier.others)} other threshold"
            f"{'s' if len(frontier.others) > 1 else ''} before: {found}. The best of several is "
            "too good on average."
        )
    return [*sentences, *frontier.notes]


def worth(gain: float, usd: float | None) -> str:
    """What the teacher's help is worth for 1,000 rows."""
    rows = 1000 * gain
    if usd is None:
        return f"{rows:+.0f} right answers in 1,000 rows, at an unknown price"
    each = f", {dollars(usd / rows)} for each" if rows > 0.5 and usd > 0 else ""
    return f"{rows:+.0f} right answers in 1,000 rows for {dollars(usd)}{each}"


def write_frontier(frontier: Frontier, path: Path) -> Path:
    """Write the page, one self-contained HTML file; returns its path."""
    page = environment(autoescape=True).get_template("frontier.html.j2")
    content = page.render(
        frontier=frontier,
        columns=COLUMNS,
        rows=frontier_rows(frontier),
        sentences=frontier_sentences(frontier),
        figure=trade_off_plot(frontier, "trade-off"),
    )
    write_atomic(path, content)
    return path
