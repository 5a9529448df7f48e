"""Macro-F1 and calibration error with their intervals, or why they have none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_sample import sample_results
from test_page import Page

from tutelage.core.results import Results
from tutelage.report.page import render_markdown, render_report

METHOD = "bootstrap by parts over 31 groups of rows and 2 seeds, 1,000 resamples"
"""Of 90 rows in threes, one of which has another premise (`NASTY`)."""


@pytest.fixture(scope="module")
def results() -> Results:
    made = sample_results(90, 2, {"labels": 0.0, "informed-reasoning": 0.1})
    first, second = made.arms
    with_interval = replace(
        first.test, macro_f1=0.5, macro_f1_ci95=(0.25, 0.75), macro_f1_ci_method=METHOD
    )
    without = replace(second.test, macro_f1=0.625, macro_f1_ci_method="no interval: no variance")
    return replace(made, arms=(replace(first, test=with_interval), replace(second, test=without)))


def test_both_are_shown_with_their_scores(results: Results) -> None:
    page = Page(render_report(results, title="intervals")).text
    markdown = render_markdown(results, title="intervals")
    assert "0.500 0.250 to 0.750 2" in page and "0.625 2" in page
    assert f"Macro-F1's interval: {METHOD}; or no interval: no variance." in page
    assert "| 0.500 (0.250 to 0.750) | 2 |" in markdown and "| 0.625 | 2 |" in markdown
    assert f"Macro-F1's 95% interval: {METHOD}; or no interval: no variance." in markdown
    for of in results.diagnostics.values():
        found = of.calibration
        low, high = found.ece_ci95 or ()
        assert found.ece_ci_method == METHOD
        assert low < found.ece < high
        assert f"{found.ece:.3f} {low:.3f} to {high:.3f}" in page
        assert f"| {found.ece:.3f} ({low:.3f} to {high:.3f}) |" in markdown
    assert f"upward bias included: {METHOD}." in page
    assert markdown.count(f"upward bias included: {METHOD}.") == 1
