"""`tutelage report`, `compare` and `evaluate` on folders as a run leaves them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from report_sample import sample_predictions, sample_rows, write_folder
from typer.testing import CliRunner, Result

from tutelage.cli.main import app
from tutelage.core.errors import RunFolderError, UsageError
from tutelage.core.storage import read_jsonl, write_jsonl

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
    # What is named is written, and nothing else.
    notes = tmp_path / "mine.md"
    assert page.exists() and not notes.exists()
    tutelage("report", runs / "a", "--output", notes)
    assert notes.read_text(encoding="utf-8").startswith("# ")
    with pytest.raises(UsageError, match="is a directory"):
        tutelage("report", runs / "a", "--output", tmp_path)


def test_compare_two_runs(runs: Path) -> None:
    shown = tutelage("compare", runs / "a", runs / "b").stdout
    assert "A minus B" in shown and shown.count("paired") == 2 and "unpaired" not in shown
    assert "crossed random effects over 20 groups of rows and 3 seeds" in shown
    assert "unpaired: 3 seeds and 2 seeds" in tutelage("compare", runs / "a", runs / "c").stdout
    both = json.loads(tutelage("compare", runs / "a", runs / "b", "--json").stdout)
    assert [arm["arm"] for arm in both["arms"]] == list(ARMS)
    assert both["shared"] == 60 and both["arms"][1]["paired"]["seeds"] == 3


def test_compare_says_what_it_wants(runs: Path) -> None:
    with pytest.raises(UsageError, match="two runs' folders"):
        tutelage("compare", runs / "a", runs / "a" / "arms" / "labels" / "lr-0.003_w-1")
    with pytest.raises(UsageError, match="--data or --recipe"):
        tutelage("compare", runs / "a", runs / "b", "--data", "x.jsonl")


CONFIG = "lr-0.003_w-1"
INDEPENDENT = "tutelage: warning: rows are treated as independent: where several share a premise"


def as_json(*arguments: str | Path) -> tuple[dict[str, Any], str]:
    done = tutelage(*arguments, "--json")
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def apart(runs: Path, tmp_path: Path) -> Path:
    """The arms of a run without the run, and the rows that they read, three to a premise."""
    shutil.copytree(runs / "a" / "arms", tmp_path / "arms")
    rows = [
        {"uid": r["uid"], "premise": r["group"], "hypothesis": r["uid"], "label": r["label"]}
        for r in sample_rows(60)
    ]
    write_jsonl(tmp_path / "rows-read.jsonl", rows)
    return tmp_path


def test_evaluate_knows_the_premises_of_a_run(runs: Path, apart: Path) -> None:
    results = json.loads((runs / "a" / "results.json").read_text())
    known, stderr = as_json("evaluate", runs / "a" / "arms" / "labels" / CONFIG)
    assert (known["rows_taken_as_independent"], stderr) == (False, "")
    assert known["ci95"] == results["arms"][0]["test"]["ci95"]
    of_seed, _ = as_json(
        "evaluate", runs / "a" / "arms" / "labels" / CONFIG / "seed-0" / "test.jsonl"
    )
    assert not of_seed["rows_taken_as_independent"] and "groups of rows" in of_seed["ci_method"]

    alone, stderr = as_json("evaluate", apart / "arms" / "labels" / CONFIG)
    assert alone["rows_taken_as_independent"] and stderr.startswith(INDEPENDENT)
    assert stderr.count("\n") == 1 and "--data" in stderr
    assert alone["ci95"] != known["ci95"]
    given, stderr = as_json(
        *("evaluate", apart / "arms" / "labels" / CONFIG, "--data", apart / "rows-read.jsonl")
    )
    assert given == known and stderr == ""
    shown = tutelage("evaluate", apart / "arms" / "labels" / CONFIG)
    assert INDEPENDENT in shown.stderr and "accuracy" in shown.stdout


def test_compare_knows_the_premises_of_a_run(runs: Path, apart: Path) -> None:
    results = json.loads((runs / "a" / "results.json").read_text())
    arms = [Path("arms") / name / CONFIG for name in ("informed-reasoning", "labels")]
    whole, stderr = as_json("compare", *(runs / "a" / arm for arm in arms))
    assert (whole["rows_taken_as_independent"], stderr) == (False, "")
    assert whole["groups"] == 20
    assert whole["ci95"] == results["comparisons"][0]["ci95"]
    for pair in ((runs / "a" / arms[0], apart / arms[1]), (apart / arms[0], runs / "a" / arms[1])):
        known, stderr = as_json("compare", *pair)
        assert (known["groups"], stderr) == (20, "")
    alone, stderr = as_json("compare", *(apart / arm for arm in arms))
    assert alone["groups"] == 60 and alone["rows_taken_as_independent"]
    assert stderr.startswith(INDEPENDENT)
    given, stderr = as_json(
        "compare", *(apart / arm for arm in arms), "--data", apart / "rows-read.jsonl"
    )
    assert given["groups"] == 20 and stderr == ""


def test_rows_that_were_not_read_say_nothing(runs: Path, tmp_path: Path) -> None:
    """Another test set's, as an earlier call of the run left; and dev's, of whatever uid."""
    run = tmp_path / "run"
    shutil.copytree(runs / "a", run)
    of_arm = run / "arms" / "labels" / CONFIG
    shutil.copy(of_arm / "seed-0" / "test.jsonl", of_arm / "seed-0" / "dev.jsonl")
    dev, stderr = as_json("evaluate", of_arm / "seed-0" / "dev.jsonl")
    assert dev["rows_taken_as_independent"] and stderr.startswith(INDEPENDENT)
    rows = list(read_jsonl(run / "rows.jsonl"))
    for changed in (rows[1:], [rows[0] | {"label": rows[1]["label"]}, *rows[1:]]):
        write_jsonl(run / "rows.jsonl", changed)
        assert as_json("evaluate", of_arm)[0]["rows_taken_as_independent"]
    (run / "rows.jsonl").write_text('{"uid": "r0"}\n')
    with pytest.raises(RunFolderError, match=r"rows\.jsonl: holds no test rows"):
        tutelage("evaluate", of_arm)
