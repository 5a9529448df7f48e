"""The sections on slices, confidence, baselines and chance: in the page and in Markdown."""

from __future__ import annotations

import copy
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from report_sample import HOSTILE, sample_results

from tutelage.report.diagnostic_sections import MOST_SLICES, looks_of
from tutelage.report.page import render_markdown, render_report
from tutelage.report.sanity_checks import baselines_of
from tutelage.report.wording import percent, points, points_interval

SECTIONS = ("baselines", "chance", "where", "sure")


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
def results() -> dict[str, Any]:
    found = sample_results(rows=180, seeds=3)
    found["arms"][2]["control"], found["arms"][2]["omits"] = None, ["premise"]
    found["arms"][2]["strategy"] = None
    return found


@pytest.fixture(scope="module")
def html(results: dict[str, Any]) -> str:
    return render_report(results, title="sample")


@pytest.fixture(scope="module")
def page(html: str) -> Sections:
    return Sections(html)


def figure(html: str, name: str) -> str:
    found = re.search(rf'<desc id="{name}-wide-described">(.*?)</desc>', html, re.DOTALL)
    assert found is not None
    return unescape(found[1])


def test_every_slice_of_every_arm_is_in_a_table(page: Sections, results: dict[str, Any]) -> None:
    for of_arm in results["looks"].values():
        for kind in ("by_label", "by_length", "by_tag"):
            for entry in of_arm[kind]:
                assert percent(entry["accuracy"]) in page["where"]
                if entry["difference"]:
                    difference, interval = (entry["difference"][k] for k in ("difference", "ci95"))
                    shown = f"{points(difference)} ({points_interval(interval)})"
                    told = entry["difference"]["p_adjusted"] < 0.05
                    assert (f"{shown} told" in page["where"]) == told and shown in page["where"]
    for fact in ("By length of the premise", "entailment 60 rows", "<b>names</b> 36 rows"):
        assert fact in page["where"]
    assert "Controls and baselines: 3 arms" in page["where"]


def test_figures_show_labels_and_rationale_arms_and_tables_the_rest(
    html: str, page: Sections, results: dict[str, Any]
) -> None:
    looks = looks_of(results)
    assert looks is not None
    main = ["labels", "information-extraction", "informed-reasoning", HOSTILE]
    folded = ["information-extraction-shuffled", "informed-reasoning-shuffled", "echo"]
    assert (list(looks.main), list(looks.folded), looks.baseline) == (main, folded, "labels")
    described = figure(html, "slices")
    assert described.count("; ") == 8  # three labels, four lengths, two tags
    accuracy = {arm: of["by_label"][0]["accuracy"] for arm, of in results["looks"].items()}
    for arm in main:
        assert f"{arm} {percent(accuracy[arm])}" in described
    for name in ("slices", "reliability", "risk-coverage"):
        assert "echo" not in figure(html, name)
    for arm in [*main, *folded]:
        found = results["looks"][arm]["calibration"]
        between = f"{found['ece_ci95'][0]:.3f} to {found['ece_ci95'][1]:.3f}"
        told = f"{found['ece']:.3f} {between} {found['ece_if_calibrated']:.3f}"
        assert told in page["sure"]
        assert f"{results['looks'][arm]['risk_coverage']['area']:.3f}" in page["sure"]


def test_figures_say_confidence_and_risk(html: str, results: dict[str, Any]) -> None:
    labels = results["looks"]["labels"]
    reliability, risk = figure(html, "reliability"), figure(html, "risk-coverage")
    for part in labels["reliability"]:
        text = f"{percent(part['confidence'])} sure, {percent(part['accuracy'])} right"
        assert text in reliability
    for point in labels["risk_coverage"]["points"]:
        text = f"{percent(point['risk'])} wrong of the surest {percent(point['coverage'], 0)}"
        assert text in risk


def test_baselines_and_the_students_beside_them(page: Sections, results: dict[str, Any]) -> None:
    for fact in (
        "Majority class “neutral”, the commonest label in training, for every row 33.4%",
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


def test_the_best_of_k_is_read_for_what_it_is(page: Sections, results: dict[str, Any]) -> None:
    best_of = {e["models"]: e["gain_by_chance"] for e in results["selection"]["best_of"]}
    nine, three = points(best_of[9], sign=False), points(best_of[3], sign=False)
    assert f"the best of nine lies {nine} points too high" in page["chance"]
    assert f"the best of three {three}" in page["chance"]
    labels = results["selection"]["by_arm"]["labels"]
    assert (
        f"labels 13 {percent(labels['best_accuracy'])} {percent(labels['chosen_accuracy'])} "
        f"{points(labels['gain'])} {points(labels['gain_by_chance'])}"
    ) in page["chance"]


def test_what_one_seed_cannot_show_is_said(results: dict[str, Any]) -> None:
    single = copy.deepcopy(results)
    for entry in [*single["selection"]["by_arm"].values(), *single["selection"]["best_of"]]:
        entry["gain_by_chance"] = None
    page = Sections(render_report(single, title="single"))
    assert "takes two seeds to see" in page["chance"] and "best of nine" not in page["chance"]
    assert "takes two seeds to see" in render_markdown(single, title="single")


def test_markdown_has_the_same_tables(results: dict[str, Any]) -> None:
    text = render_markdown(results, title="sample").replace("\\", "")
    for heading in (
        "## Baselines", "## What the best of k shows by chance", "## Where it is right",
        "## Is it sure when it is right?",
    ):  # fmt: skip
        assert heading in text
    for of_arm in (results["looks"]["labels"], results["looks"]["informed-reasoning"]):
        for kind in ("by_label", "by_length", "by_tag"):
            assert all(percent(entry["accuracy"]) in text for entry in of_arm[kind])
        assert f"{of_arm['calibration']['brier']:.3f}" in text
    assert "2 answers without a readable label" in text
    for block in re.findall(r"(?:^\|.*\n)+", render_markdown(results, title="x"), re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(cells) == 1 and block.splitlines()[1].startswith("|---"), block
    assert "\n\n\n\n" not in text


def test_many_tags_are_cut_and_counted(results: dict[str, Any]) -> None:
    many = copy.deepcopy(results)
    for of_arm in many["looks"].values():
        entry = of_arm["by_tag"][0]
        of_arm["by_tag"] = [{**entry, "name": f"tag {i}"} for i in range(MOST_SLICES + 31)]
    page = Sections(render_report(many, title="many"))
    assert "results.json has 31 more" in page["where"]
    assert f"tag {MOST_SLICES - 1}" in page["where"] and f"tag {MOST_SLICES} " not in page["where"]
    assert "results.json has 31 more" in render_markdown(many, title="many")


def test_many_controls_stand_in_tables_that_fit_on_paper(results: dict[str, Any]) -> None:
    many = copy.deepcopy(results)
    echo = next(arm for arm in many["arms"] if arm["name"] == "echo")
    for number in range(9):
        many["arms"].append({**echo, "name": f"echo {number}"})
        many["looks"][f"echo {number}"] = many["looks"]["echo"]
    where = render_report(many, title="many").partition('<h2 id="where">')[2]
    tables = re.findall(r'<table class="full slices">.*?</thead>', where, re.DOTALL)
    columns = [re.findall(r'<th scope="col">(.*?)</th>', table)[1:] for table in tables]
    assert max(map(len, columns)) <= 5
    folded = [columns[at : at + 3] for at in range(len(columns)) if "echo 0" in columns[at]]
    assert folded and all("echo 8" in part[-2] + part[-1] for part in folded)


@pytest.mark.parametrize("empty", [None, "absent"])
def test_results_without_them_leave_the_sections_out(results: dict[str, Any], empty: Any) -> None:
    old = copy.deepcopy(results)
    for arm in old["arms"]:
        arm.pop("omits", None)
    for key in ("looks", "selection", "baselines"):
        del old[key]
        if empty is None:
            old[key] = None
    page = Sections(render_report(old, title="old"))
    assert not set(SECTIONS) & set(page.parts)
    assert "## Where" not in render_markdown(old, title="old")
