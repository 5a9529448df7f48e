"""`tutelage report` and `tutelage compare RUN RUN` on folders as a run leaves them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_sample import sample_predictions, write_folder
from typer.testing import CliRunner, Result

from tutelage.commands.main import app
from tutelage.errors import UsageError

ARMS = {"labels": 0.0, "informed-reasoning": 0.1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, rows, seeds in (("a", 60, 3), ("b", 60, 3), ("c", 60, 2)):
        write_folder(folder / name, sample_predictions(rows, seeds, ARMS, ord(name)))
    return folder


def tutelage(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_report_writes_page_and_markdown(runs: Path, tmp_path: Path) -> None:
    shown = tutelage("report", runs / "a").stdout
    assert "report.html" in shown and "report.md" in shown and "informed-reasoning" in shown
    assert (runs / "a" / "report.html").exists() and (runs / "a" / "report.md").exists()
    page = tmp_path / "mine.html"
    printed = tutelage("report", runs / "a", "--output", page, "--json").stdout
    assert json.loads(printed) == json.loads((runs / "a" / "results.json").read_text())
    assert page.exists() and (tmp_path / "mine.md").exists()
    with pytest.raises(UsageError, match=r"where report\.md would go"):
        tutelage("report", runs / "a", "--output", tmp_path / "mine.md")


def test_compare_two_runs(runs: Path) -> None:
    shown = tutelage("compare", runs / "a", runs / "b").stdout
    assert "A minus B" in shown and shown.count("paired") == 2 and "unpaired" not in shown
    assert "crossed random effects over 20 groups of rows and 3 seeds" in shown
    assert "unpaired: 3 seeds and 2" in tutelage("compare", runs / "a", runs / "c").stdout
    both = json.loads(tutelage("compare", runs / "a", runs / "b", "--json").stdout)
    assert [arm["arm"] for arm in both["arms"]] == list(ARMS)
    assert both["shared"] == 60 and both["arms"][1]["paired"]["seeds"] == 3


def test_compare_says_what_it_wants(runs: Path) -> None:
    with pytest.raises(UsageError, match="two runs' folders"):
        tutelage("compare", runs / "a", runs / "a" / "arms" / "labels" / "lr-0.003_w-1")
    with pytest.raises(UsageError, match="--data or --recipe"):
        tutelage("compare", runs / "a", runs / "b", "--data", "x.jsonl")
