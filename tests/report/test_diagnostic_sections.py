"""The sections on slices, calibration, baselines and chance: in the page and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest
from report_sample import HOSTILE, as_document, from_document, sample_results

from tutelage.core.results import Baselines, Results
from tutelage.core.wording import percent, points, points_interval
from tutelage.report.baseline_table import baselines_of
from tutelage.report.diagnostic_sections import MOST_SLICES, diagnostic_sections
from tutelage.report.page import render_markdown, render_report

SECTIONS = ("baselines", "chance", "slices", "calibration")


class Sections(HTMLParser):
    """The text of each section, by its name, without that of its figures."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: dict[str, list[str]] = {}
        self.name, self.figures = "", 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self.name = dict(attrs)["aria-labelledby"] or ""
        self.figures += tag == "svg"

    def handle_endtag(self, tag: str) -> None:
        self.figures -= tag == "svg"

    def handle_data(self, data: str) -> None:
        if not self.figures:
            self.parts.setdefault(self.name, []).append(data)

    def __getitem__(self, name: str) -> str:
        return " ".join(" ".join(self.parts[name]).split())


@pytest.fixture(scope="module")
def results() -> Results:
    found = sample_results(rows=180, seeds=3)
    blind = replace(found.arms[2], control=None, omits=("premise",), strategy=None)
    return replace(found, arms=(*found.arms[:2], blind, *found.arms[3:]))


@pytest.fixture(scope="module")
def html(results: Results, drawing: Callable[[], AbstractContextManager[None]]) -> str:
    with drawing():
        return render_report(results, title="sample")


@pytest.fixture(scope="module")
def page(html: str) -> Sections:
    return Sections(html)


def figure(html: str, name: str) -> str:
    found = re.search(rf'<desc id="{name}-wide-described">(.*?)</desc>', html, re.DOTALL)
    assert found is not None
    return unescape(found[1])


def test_every_slice_of_every_arm_is_in_a_table(page: Sections, results: Results) -> None:
    for of_arm in results.diagnostics.values():
        for kind in ("by_label", "by_length", "by_tag"):
            for entry in getattr(of_arm, kind):
                assert percent(entry.accuracy) in page["slices"]
                if found := entry.difference:
                    shown = f"{points(found.difference)} ({points_interval(found.ci95)})"
                    significant = f"{shown} significant" in page["slices"]
                    assert significant == (found.p_adjusted < 0.05)
                    assert shown in page["slices"]
    for fact in ("By length of the premise", "entailment 60 rows", "<b>names</b> 36 rows"):
        assert fact in page["slices"]
    assert "Control arms and baselines: 3 arms" in page["slices"]


def test_figures_show_labels_and_treatment_arms_and_tables_the_rest(
    html: str, page: Sections, results: Results
) -> None:
    sections = diagnostic_sections(results)
    assert sections is not None
    main = ["labels", "information-extraction", "informed-reasoning", HOSTILE]
    folded = ["information-extraction-shuffled", "informed-reasoning-shuffled", "echo"]
    assert (list(sections.main), list(sections.folded), sections.baseline) == (
        main,
        folded,
        "labels",
    )
    described = figure(html, "slices")
    assert described.count("; ") == 8  # three labels, four lengths, two tags
    accuracy = {arm: of.by_label[0].accuracy for arm, of in results.diagnostics.items()}
    for arm in main:
        assert f"{arm} {percent(accuracy[arm])}" in described
    for name in ("slices", "reliability", "risk-coverage"):
        assert "echo" not in figure(html, name)
    for arm in [*main, *folded]:
        found = results.diagnostics[arm].calibration
        low, high = found.ece_ci95 or ()
        row = f"{found.ece:.3f} {low:.3f} to {high:.3f} {found.ece_if_calibrated:.3f}"
        assert row in page["calibration"]
        assert f"{results.diagnostics[arm].risk_coverage.area:.3f}" in page["calibration"]


def test_figures_say_confidence_and_risk(html: str, results: Results) -> None:
    labels = results.diagnostics["labels"]
    reliability, risk = figure(html, "reliability"), figure(html, "risk-coverage")
    for part in labels.reliability:
        text = f"confidence {percent(part.confidence)}, accuracy {percent(part.accuracy)}"
        assert text in reliability
    for point in labels.risk_coverage.points:
        text = f"{percent(point.risk)} wrong of the most confident {percent(point.coverage, 0)}"
        assert text in risk


def test_baselines_and_the_students_to_compare(page: Sections, results: Results) -> None:
    for fact in (
        "Majority class “neutral”, the most frequent label in training, for every row 33.4%",
        "information-extraction-shuffled student that does not see the premise",
        "Labels of recorded:<b>file</b>#k",
        "3,950 training rows 50 rows without a label, not counted; 69.0% if they count as wrong",
        "asked for the label with no worked example 71.0% 64.3 to 76.9% 200 dev rows cost $0.0131",
        "2 answers without a readable label, counted as wrong; cost $0.0131",
    ):  # fmt: skip
        assert fact in page["baselines"]
    names = [line.name for line in baselines_of(results)]
    assert names[-4:] == ["labels", "information-extraction", "informed-reasoning", HOSTILE]
    assert "echo" not in names and len(names) == 9


def test_the_best_of_k_is_compared_with_chance(page: Sections, results: Results) -> None:
    assert results.selection is not None
    best_of = {e.models: e.gain_by_chance for e in results.selection.best_of}
    nine, three = points(best_of[9], sign=False), points(best_of[3], sign=False)
    assert f"the best of nine is {nine} points too high" in page["chance"]
    assert f"the best of three {three}" in page["chance"]
    labels = results.selection.by_arm["labels"]
    assert (
        f"labels 13 {percent(labels.best_accuracy)} {percent(labels.chosen_accuracy)} "
        f"{points(labels.gain)} {points(labels.gain_by_chance)}"
    ) in page["chance"]


def test_what_one_seed_cannot_show_is_said(results: Results) -> None:
    document = as_document(results)
    for entry in [*document["selection"]["by_arm"].values(), *document["selection"]["best_of"]]:
        entry["gain_by_chance"] = None
    single = from_document(document)
    page = Sections(render_report(single, title="single"))
    assert "takes two seeds to see" in page["chance"] and "best of nine" not in page["chance"]
    assert "takes two seeds to see" in render_markdown(single, title="single")


def test_markdown_has_the_same_tables(results: Results) -> None:
    text = render_markdown(results, title="sample").replace("\\", "")
    for heading in (
        "## Baselines", "## What the best of k models shows by chance",
        "## Accuracy by slice", "## Calibration",
    ):  # fmt: skip
        assert heading in text
    for of_arm in (results.diagnostics["labels"], results.diagnostics["informed-reasoning"]):
        for kind in ("by_label", "by_length", "by_tag"):
            assert all(percent(entry.accuracy) in text for entry in getattr(of_arm, kind))
        assert f"{of_arm.calibration.brier:.3f}" in text
    assert "2 answers without a readable label" in text
    for block in re.findall(r"(?:^\|.*\n)+", render_markdown(results, title="x"), re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(cells) == 1 and block.splitlines()[1].startswith("|---"), block
    assert "\n\n\n\n" not in text


def test_many_tags_are_cut_and_counted(results: Results) -> None:
    many = replace(
        results,
        diagnostics={
            arm: replace(
                of,
                by_tag=tuple(
                    replace(of.by_tag[0], name=f"tag {i}") for i in range(MOST_SLICES + 31)
                ),
            )
            for arm, of in results.diagnostics.items()
        },
    )
    page = Sections(render_report(many, title="many"))
    assert "results.json has 31 more" in page["slices"]
    assert (
        f"tag {MOST_SLICES - 1}" in page["slices"] and f"tag {MOST_SLICES} " not in page["slices"]
    )
    assert "results.json has 31 more" in render_markdown(many, title="many")


def test_many_controls_stand_in_tables_that_fit_on_paper(results: Results) -> None:
    names = [f"echo {number}" for number in range(9)]
    more = (replace(results.arm("echo"), name=name) for name in names)
    of_more = dict.fromkeys(names, results.diagnostics["echo"])
    many = replace(
        results, arms=(*results.arms, *more), diagnostics={**results.diagnostics, **of_more}
    )
    section = render_report(many, title="many").partition('<h2 id="slices">')[2]
    tables = re.findall(r'<table class="full slices">.*?</thead>', section, re.DOTALL)
    columns = [re.findall(r'<th scope="col">(.*?)</th>', table)[1:] for table in tables]
    assert max(map(len, columns)) <= 5
    folded = [columns[at : at + 3] for at in range(len(columns)) if "echo 0" in columns[at]]
    assert folded and all("echo 8" in part[-2] + part[-1] for part in folded)


def test_results_without_them_leave_the_sections_out(results: Results) -> None:
    without = replace(
        results,
        arms=tuple(replace(arm, omits=()) for arm in results.arms),
        diagnostics={},
        selection=None,
        baselines=Baselines(None, (), (), None),
    )
    page = Sections(render_report(without, title="without"))
    assert not set(SECTIONS) & set(page.parts)
    assert "## Accuracy by slice" not in render_markdown(without, title="without")
