"""Macro-F1 and calibration error with their intervals, or why they have none."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from report_sample import sample_results
from test_page import Page

from tutelage.report.page import render_markdown, render_report

METHOD = "bootstrap by parts over 31 groups of rows and 2 seeds, 1,000 resamples"
"""Of 90 rows in threes, one of which has another premise (`NASTY`)."""


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    made = sample_results(90, 2, {"labels": 0.0, "informed-reasoning": 0.1})
    for number, arm in enumerate(made["arms"]):
        arm["test"] |= {
            "macro_f1": 0.5 + number / 8,
            "macro_f1_ci95": [0.25, 0.75] if number == 0 else None,
            "macro_f1_ci_method": METHOD if number == 0 else "no interval: no variance",
        }
    return made


def test_both_stand_beside_their_scores(results: dict[str, Any]) -> None:
    page = Page(render_report(results, title="intervals")).text
    markdown = render_markdown(results, title="intervals")
    assert "0.500 0.250 to 0.750 2" in page and "0.625 2" in page
    assert f"Macro-F1's interval: {METHOD}; or no interval: no variance." in page
    assert "| 0.500 (0.250 to 0.750) | 2 |" in markdown and "| 0.625 | 2 |" in markdown
    assert f"Macro-F1's 95% interval: {METHOD}; or no interval: no variance." in markdown
    for of in results["looks"].values():
        found = of["calibration"]
        low, high = found["ece_ci95"]
        assert found["ece_ci_method"] == METHOD
        assert low < found["ece"] < high
        assert f"{found['ece']:.3f} {low:.3f} to {high:.3f}" in page
        assert f"| {found['ece']:.3f} ({low:.3f} to {high:.3f}) |" in markdown
    assert f"with what chance adds to it: {METHOD}." in page
    assert markdown.count(f"with what chance adds to it: {METHOD}.") == 1


def test_results_of_an_earlier_version_have_none(results: dict[str, Any]) -> None:
    old = copy.deepcopy(results)
    for arm in old["arms"]:
        del arm["test"]["macro_f1_ci95"], arm["test"]["macro_f1_ci_method"]
    for of in old["looks"].values():
        del of["calibration"]["ece_ci95"], of["calibration"]["ece_ci_method"]
    page = Page(render_report(old, title="old")).text
    assert "0.500 2" in page
    for text in (page, render_markdown(old, title="old")):
        assert "resamples" not in text and "chance adds" not in text
