"""What the teacher cost is the sum of all that was charged, and its parts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from report_sample import sample_results
from test_page import Page

from tutelage.report.costs import Spent, costs_of
from tutelage.report.page import render_markdown, render_report

ARMS = ("labels", "informed-reasoning", "informed-reasoning-shuffled")


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return sample_results(90, 2, dict.fromkeys(ARMS, 0.0))


def test_the_baseline_s_questions_are_in_the_sum(results: dict[str, Any]) -> None:
    results = copy.deepcopy(results)
    results["teacher"]["tokens"]["completion"] = 400_000
    costs = costs_of(results)
    assert costs.rationales == Spent(9310, 310, 1_204_331, 400_000, 1.37)
    assert costs.baseline == Spent(398, 2, 62_000, 1_200, pytest.approx(0.0262))
    assert costs.in_all == Spent(9708, 312, 1_266_331, 401_200, pytest.approx(1.3962))
    assert costs.in_all.questions == 10_020
    assert [what for what, _ in costs.lines] == ["in all", "for rationales", "as a baseline"]


def test_what_is_not_known_makes_the_sum_unknown_and_never_less(results: dict[str, Any]) -> None:
    unpriced = copy.deepcopy(results)
    unpriced["baselines"]["teacher"][1]["cost_usd"] = None
    costs = costs_of(unpriced)
    assert costs.rationales.cost_usd == 1.37
    assert costs.baseline is not None and costs.baseline.cost_usd is None
    assert costs.in_all.cost_usd is None
    assert costs.in_all.completion is None  # the sample's rationales do not say it
    shown = Page(render_report(unpriced, title="unpriced")).text
    assert "The teacher cost unknown rationales $1.37, baseline unknown" in shown


def test_no_baseline_has_no_parts(results: dict[str, Any]) -> None:
    for baselines in ({}, {"baselines": None}, {"baselines": {"teacher": []}}):
        alone = {key: value for key, value in results.items() if key != "baselines"} | baselines
        costs = costs_of(alone)
        assert costs.baseline is None and costs.in_all == costs.rationales
        assert len(costs.lines) == 1
    shown = Page(render_report(alone, title="alone")).text
    assert "The teacher cost $1.37 9,620 questions" in shown
    assert "as a baseline" not in shown


def test_the_page_and_the_markdown_show_the_whole_its_parts_and_each_arm(
    results: dict[str, Any],
) -> None:
    page = Page(render_report(results, title="costs")).text
    assert "The teacher cost $1.40 rationales $1.37, baseline $0.0262" in page
    assert "$1.37 for rationales, $0.0262 for the teacher as a baseline" in page
    assert "10,020 in all: 9,708 asked by the last call, 312 answered from the ledger" in page
    assert "informed-reasoning scripted 4,000 0 $0.4100" in page
    assert "informed-reasoning-shuffled scripted 4,000 0 $0.4100 that of informed-reasoning" in page
    markdown = render_markdown(results, title="costs")
    assert "- Teacher, in all: \\$1.40, 10,020 questions" in markdown
    assert "- Teacher, as a baseline: \\$0.0262, 400 questions" in markdown
    assert (
        "| informed-reasoning-shuffled | scripted | \\$0.4100, that of informed-reasoning |"
        in markdown
    )


def test_results_of_an_earlier_version_are_shown(results: dict[str, Any]) -> None:
    old = copy.deepcopy(results)
    for asked in old["teacher"]["by_arm"].values():
        del asked["cost_usd"], asked["shares_with"]
    for entry in old["baselines"]["teacher"]:
        del entry["requests"], entry["cached"], entry["tokens"]
    page = Page(render_report(old, title="old")).text
    assert "The teacher cost $1.40 rationales $1.37, baseline $0.0262" in page
    assert "– in all: – asked by the last call" in page
    assert "informed-reasoning scripted 4,000 0 unknown" in page
    assert "- Teacher, in all: \\$1.40, – questions" in render_markdown(old, title="old")
