"""The learning curve as the report shows it: what is claimed, and that it is drawn harmlessly."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from report_sample import HOSTILE, as_document, from_document, sample_results

from tutelage.core.results import CurvePoint, Results
from tutelage.core.results.decode import MismatchError, decode
from tutelage.report.curve_section import learning_curve, rows_at
from tutelage.report.page import render_markdown, render_report

CURVES = {
    "labels": (0.50, 0.60, 0.64),
    HOSTILE: (0.55, 0.62, 0.75),
    "informed-reasoning": (0.49, 0.63, 0.62),
    "informed-reasoning-shuffled": (0.48, 0.58, 0.61),
}
UNLIKE = {(HOSTILE, 0), (HOSTILE, 2), ("informed-reasoning", 0), ("informed-reasoning", 2)}
"""Whose difference from labels has an interval without zero: (arm, number of the point)."""


def made_curve() -> list[dict[str, Any]]:
    """`learning_curve` of a results.json: 100, 300 and 1,000 rows."""
    points = []
    for number, rows in enumerate((100, 300, 1000)):
        reached = {name: accuracies[number] for name, accuracies in CURVES.items()}
        treated = [name for name in CURVES if "shuffled" not in name and name != "labels"]
        points.append(
            {
                "fraction": rows / 1000,
                "rows": rows,
                "dev_rows": 600,
                "arms": [
                    {
                        "name": name,
                        "control": "shuffled" if "shuffled" in name else None,
                        "with_rationale": 0 if name == "labels" else rows - 1,
                        "dev_accuracy": accuracy,
                        "ci95": [accuracy - 0.03, accuracy + 0.02],
                        "by_seed": [accuracy - 0.01, accuracy + 0.01],
                    }
                    for name, accuracy in reached.items()
                ],
                "differences": [
                    {
                        "arm": name,
                        "baseline": "labels",
                        "difference": (gap := reached[name] - reached["labels"]),
                        "ci95": [gap - half, gap + half],
                        "test": "a crossed test",
                    }
                    for name in treated
                    for half in [0.005 if (name, number) in UNLIKE else 0.2]
                ],
                "annotation": [
                    {
                        "arm": name,
                        "requests": rows - 7,
                        "cost_usd": None if name == HOSTILE else rows / 100,
                        "tokens": {"prompt": 10 * rows, "completion": None},
                    }
                    for name in treated
                ],
            }
        )
    return points


@pytest.fixture(scope="module")
def results() -> Results:
    points = tuple(decode(CurvePoint, point) for point in made_curve())
    return replace(sample_results(rows=60, seeds=2), learning_curve=points)


def test_the_rows_that_a_level_takes() -> None:
    curve = [(100, 0.5), (1000, 0.6), (10_000, 0.6), (100_000, 0.9)]
    assert rows_at(curve, 0.55) == pytest.approx(100 * 10**0.5)
    assert rows_at(curve, 0.5) == pytest.approx(100)
    assert rows_at(curve, 0.6) == pytest.approx(1000)  # the first of those that reach it
    assert rows_at(curve, 0.7) == pytest.approx(10_000 * 10 ** (1 / 3))
    assert rows_at(curve, 0.49) is None  # below all points: it may lie anywhere before them
    assert rows_at(curve, 0.91) is None
    assert rows_at([(100, 0.5), (300, 0.3), (900, 0.6)], 0.45) is None  # begins above it
    assert rows_at([], 0.5) is rows_at([(100, 0.5)], 0.6) is None


def test_a_number_of_rows_is_claimed_only_where_the_curves_show_it(results: Results) -> None:
    curve = learning_curve(results)
    assert curve is not None
    # Half-way from 100 to 300 on the log scale: 173. Not claimed: 62.0% at 300 rows, whose
    # difference may be none; 75.0%, which labels never reach; 49.0%, below all of their points.
    level = "about 170 rows (difference at 100 rows: 4.5 to 5.5 points)."
    fewer = "about 550 rows (difference at 1,000 rows: −2.5 to −1.5 points)."
    assert curve.sentences == (
        f"{HOSTILE} reaches 55.0% with 100 rows, for which labels needs {level}",
        f"informed-reasoning reaches 62.0% with 1,000 rows, for which labels needs {fewer}",
    )
    assert curve.drawn == ("labels", HOSTILE, "informed-reasoning")


def test_the_page_shows_the_curve_and_its_cost(results: Results) -> None:
    html = render_report(results, title="t")
    section = html[html.index('aria-labelledby="curve"') :]
    section = section[: section.index("</section>")]
    assert section.count("<svg") == 2 and "<script" not in section
    described = re.findall(r"<desc[^>]*>(.*?)</desc>", section)
    assert "labels: 50.0% (47.0 to 52.0%) with 100 rows, 60.0%" in described[0]
    assert "shuffled" not in described[0]  # controls are in the table only
    text = " ".join(re.sub(r"<[^>]+>", " ", section[section.index("<tbody") :]).split())
    row = (
        "informed-reasoning 300 (30%) 299 with explanation 63.0% 60.0 to 65.0% +3.0 −17.0 to 23.0 "
    )
    assert row + "293 $3.00" in text
    assert "+5.0 4.5 to 5.5 93 unknown" in text
    row = "informed-reasoning-shuffled control: shuffled 100 (10%) 99 with explanation 48.0% "
    assert row + "45.0 to 50.0% – – –" in text
    assert "labels 1,000 (100%) 64.0% 61.0 to 66.0% – – –" in text
    assert section.count("<tr>") == 1 + 4 * 3


def test_the_markdown_says_the_same(results: Results) -> None:
    text = render_markdown(results, title="t")
    section = text[text.index("## More rows or explanations?") :]
    assert "| informed-reasoning | 300 | 63.0% | 60.0 to 65.0% | +3.0 | −17.0 to 23.0 | 293 | " in (
        section
    )
    assert "\n- informed-reasoning reaches 62.0% with 1,000 rows, for which labels needs" in section
    lines = section[: section.index("\n- ")].strip().splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines[2:]}) == 1


def test_without_a_curve_there_is_no_section(results: Results) -> None:
    without = replace(results, learning_curve=None)
    assert "More rows" not in render_report(without, title="t")
    assert "More rows" not in render_markdown(without, title="t")


def test_a_curve_that_lacks_something_is_refused(results: Results) -> None:
    damaged = as_document(results)
    del damaged["learning_curve"][1]["annotation"]
    with pytest.raises(MismatchError, match=r"learning_curve\[1\] lacks the key 'annotation'"):
        from_document(damaged)


def test_labels_alone_have_a_curve_too(results: Results) -> None:
    points = tuple(
        replace(point, arms=point.arms[:1], differences=(), annotation=())
        for point in results.learning_curve or ()
    )
    alone = replace(results, learning_curve=points)
    curve = learning_curve(alone)
    assert curve is not None and curve.drawn == ("labels",) and curve.sentences == ()
    assert "More rows or explanations?" in render_report(alone, title="t")


def test_the_curve_names_the_metric_of_the_run(results: Results) -> None:
    """And so does everything else, but what is about rows: slices and calibration."""
    about = replace(results, metric="balanced_accuracy")
    page = render_report(about, title="t")
    page = re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.S)
    page = re.sub(
        r'<section aria-labelledby="(slices|calibration)">.*?</section>', "", page, flags=re.S
    )
    shown = re.sub(r"<[^>]*>", " ", page)
    markdown = re.sub(
        r"^## (Accuracy by slice|Calibration).*?(?=^## |\Z)", "", render_markdown(about, title="t"),
        flags=re.MULTILINE | re.S,
    )  # fmt: skip
    for text in (shown, markdown):
        assert "dev balanced accuracy" in text.lower()
        assert re.findall(r"(?<!balanced )\baccurac\w+.{20}", text, re.IGNORECASE) == []
