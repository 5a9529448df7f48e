"""Two runs are compared row by row where they can be, and said to be unpaired where not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_sample import sample_predictions, write_folder

from tutelage.core.errors import UsageError
from tutelage.core.storage import read_jsonl, write_json, write_jsonl
from tutelage.core.task import NLI
from tutelage.evaluation.compare import compare
from tutelage.evaluation.unpaired import difference_interval
from tutelage.report.compare_runs import compare_runs, is_run

ARMS = {"labels": 0.0, "informed-reasoning": 0.1}
MORE = {"labels": 0.1, "informed-reasoning": 0.2, "information-extraction": 0.0}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, lifts, first in (("a", ARMS, 7), ("b", MORE, 8)):
        write_folder(folder / name, sample_predictions(90, 3, lifts, first))
    return folder


@pytest.fixture
def runs(written: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two runs that a test may change."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path / "a", tmp_path / "b"


def change(run: Path, **values: Any) -> None:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    write_json(run / "results.json", results | values)


def test_shared_rows_are_paired_as_compare_pairs_them(runs: tuple[Path, Path]) -> None:
    both = compare_runs(*runs)
    a, b = sample_predictions(90, 3, ARMS, 7), sample_predictions(90, 3, MORE, 8)
    named = {f"{run} {arm}": by_seed for run, of in zip("ab", (a, b), strict=True)
             for arm, by_seed in of.items()}  # fmt: skip
    pairs = [(f"a {arm}", f"b {arm}") for arm in ARMS]
    groups = {f"r{i}": f"{i // 3}" for i in range(90)}
    expected = compare(named, pairs, NLI, groups)
    assert [arm.arm for arm in both.arms] == list(ARMS)
    for found, wanted in zip(both.arms, expected, strict=True):
        assert found.paired is not None and found.why == ""
        assert (found.difference, found.ci95) == (wanted.difference, wanted.ci95)
        assert found.paired.p_adjusted == wanted.p_adjusted
        assert (found.paired.groups, found.paired.family) == (30, 2)
    assert (both.rows, both.shared, both.remarks) == ((90, 90), 90, ())
    assert both.only == ((), ("information-extraction",))
    assert both.cost_usd == pytest.approx((1.3962, 1.3962))  # rationales and baseline


def test_a_row_whose_text_or_label_differs_is_not_the_same_row(runs: tuple[Path, Path]) -> None:
    predictions = sample_predictions(90, 3, MORE, 8)
    for of_seed in (rows for by_seed in predictions.values() for rows in by_seed.values()):
        of_seed[20] = replace(of_seed[20], gold="neutral")
    write_folder(runs[1], predictions)
    rows = list(read_jsonl(runs[1] / "rows.jsonl"))
    rows[20]["label"] = "neutral"
    rows[10]["fields"]["premise"] = "Something else."
    write_jsonl(runs[1] / "rows.jsonl", rows)
    both = compare_runs(*runs)
    assert both.shared == 88 and both.arms[0].paired is not None
    assert both.arms[0].paired.n == 88
    assert both.remarks == ("paired on the 88 test rows that both runs have, of 90 and 90",)
    (runs[0] / "rows.jsonl").unlink()  # without texts, uid and label have to do
    both = compare_runs(*runs)
    assert both.shared == 89 and both.arms[0].paired is not None
    assert both.arms[0].paired.groups == 30  # as the other folder has them
    assert "where uid and gold label are equal" in both.remarks[-1]
    assert "independent" not in both.remarks[-1]
    (runs[1] / "rows.jsonl").unlink()
    both = compare_runs(*runs)
    assert "to be independent" in both.remarks[-1]
    assert both.arms[0].paired is not None and both.arms[0].paired.groups == 89


def test_what_cannot_be_paired_is_compared_by_its_intervals(runs: tuple[Path, Path]) -> None:
    def check(why: str) -> None:
        for arm in compare_runs(*runs).arms:
            assert arm.paired is None and arm.why == why
            (a, b), (first, second) = arm.accuracies, arm.intervals
            assert arm.difference == a - b
            assert arm.ci95 == difference_interval(a, first, b, second)

    write_folder(runs[1], sample_predictions(90, 2, MORE, 8))
    check("3 seeds and 2 seeds")
    shutil.rmtree(runs[1] / "arms")
    check("predictions are missing from a run folder")


def test_other_test_rows(runs: tuple[Path, Path]) -> None:
    for path in runs[1].rglob("*.jsonl"):
        if path.name in ("rows.jsonl", "test.jsonl"):
            rows = [row | {"uid": "other " + row["uid"]} for row in read_jsonl(path)]
            write_jsonl(path, rows)
    both = compare_runs(*runs)
    assert both.shared == 0
    assert {arm.why for arm in both.arms} == {"the runs share no test rows"}


def test_what_a_reader_should_know(runs: tuple[Path, Path]) -> None:
    results = json.loads((runs[1] / "results.json").read_text())
    results["student"]["model"] = "another"
    results["data"]["train"]["sha256"] = "00"
    change(runs[1], student=results["student"], data=results["data"], finished=False)
    assert compare_runs(*runs).remarks == (
        "different students: scratch:t5-tiny and another",
        "trained on different rows",
        "sample has not finished: its figures are the results so far",
    )


def test_runs_that_cannot_be_compared(runs: tuple[Path, Path], tmp_path: Path) -> None:
    assert is_run(runs[0]) and not is_run(tmp_path)
    write_folder(runs[1], sample_predictions(30, 3, {"labels-b": 0.0, "labels": 0.0}))
    results = json.loads((runs[1] / "results.json").read_text())
    change(runs[1], arms=results["arms"][:1])
    with pytest.raises(
        UsageError, match=r"no arm with the same name .*informed-reasoning; labels-b"
    ):
        compare_runs(*runs)
    change(runs[1], task=results["task"] | {"labels": ["yes", "no"]})
    with pytest.raises(UsageError, match="different labels"):
        compare_runs(*runs)
