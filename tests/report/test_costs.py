"""What the teacher cost is the sum of all that was charged, and its parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_sample import as_document, from_document, sample_results
from test_page import Page

from tutelage.core.results import Results
from tutelage.report.costs import Spent, costs_of
from tutelage.report.page import render_markdown, render_report

ARMS = ("labels", "informed-reasoning", "informed-reasoning-shuffled")


@pytest.fixture(scope="module")
def results() -> Results:
    return sample_results(90, 2, dict.fromkeys(ARMS, 0.0))


def test_the_baseline_s_requests_are_in_the_sum(results: Results) -> None:
    document = as_document(results)
    document["teacher"]["tokens"]["completion"] = 400_000
    costs = costs_of(from_document(document))
    assert costs.rationales == Spent(9310, 310, 1_204_331, 400_000, 1.37)
    assert costs.baseline == Spent(398, 2, 62_000, 1_200, pytest.approx(0.0262))
    assert costs.total == Spent(9708, 312, 1_266_331, 401_200, pytest.approx(1.3962))
    assert costs.total.requests == 10_020
    assert [what for what, _ in costs.lines] == ["in total", "for explanations", "as a baseline"]


def test_what_is_not_known_makes_the_sum_unknown_and_never_less(results: Results) -> None:
    document = as_document(results)
    document["baselines"]["teacher"][1]["cost_usd"] = None
    unpriced = from_document(document)
    costs = costs_of(unpriced)
    assert costs.rationales.cost_usd == 1.37
    assert costs.baseline is not None and costs.baseline.cost_usd is None
    assert costs.total.cost_usd is None
    assert costs.total.completion is None  # the sample's rationales do not say it
    shown = Page(render_report(unpriced, title="unpriced")).text
    assert "The teacher cost unknown explanations $1.37, baseline unknown" in shown


def test_no_baseline_has_no_parts(results: Results) -> None:
    alone = replace(results, baselines=replace(results.baselines, teacher=()))
    costs = costs_of(alone)
    assert costs.baseline is None and costs.total == costs.rationales
    assert len(costs.lines) == 1
    shown = Page(render_report(alone, title="alone")).text
    assert "The teacher cost $1.37 9,620 requests" in shown
    assert "as a baseline" not in shown


def test_the_page_and_the_markdown_show_the_whole_its_parts_and_each_arm(
    results: Results,
) -> None:
    page = Page(render_report(results, title="costs")).text
    assert "The teacher cost $1.40 explanations $1.37, baseline $0.0262" in page
    assert "$1.37 for explanations, $0.0262 for the teacher as a baseline" in page
    assert "10,020 in total: 9,708 sent by the last call, 312 answered from the ledger" in page
    assert "informed-reasoning scripted 4,000 0 $0.4100" in page
    assert (
        "informed-reasoning-shuffled scripted 4,000 0 $0.4100 shared with informed-reasoning"
        in page
    )
    markdown = render_markdown(results, title="costs")
    assert "- Teacher, in total: \\$1.40, 10,020 requests" in markdown
    assert "- Teacher, as a baseline: \\$0.0262, 400 requests" in markdown
    assert (
        "| informed-reasoning-shuffled | scripted | \\$0.4100, shared with informed-reasoning |"
        in markdown
    )
