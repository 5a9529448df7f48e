"""Predictions of an arm's folder: those that the results are about, each seed's once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tutelage.core.errors import UsageError
from tutelage.core.results import load_results
from tutelage.experiment.prediction_files import compare_files, evaluate_file


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The finished run, and in one arm what an earlier call with another choice would leave."""
    folder = tmp_path / "small"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("model"))
    results = load_results(folder / "results.json")
    other, own = results.arm("labels"), results.arm("reasoning")
    stale = folder / "arms" / "reasoning" / "lr-0.5_w-0.3" / "seed-0"
    stale.mkdir(parents=True)
    shutil.copy(folder / other.folder_by_seed[0] / "test.jsonl", stale)
    assert f"{own.folder_by_seed[0]}" != str(stale)
    return folder


def test_an_arm_s_folder_holds_what_the_results_are_about(copied: Path) -> None:
    results = load_results(copied / "results.json")
    for arm in results.arms:
        found, unknown = evaluate_file(copied / "arms" / arm.name)
        assert not unknown
        assert (found.accuracy_by_seed, found.ci95) == (arm.test.accuracy_by_seed, arm.test.ci95)
    compared, unknown = compare_files(copied / "arms" / "reasoning", copied / "arms" / "labels")
    expected = results.comparisons[0]
    assert not unknown
    assert (compared.difference, compared.ci95, compared.seeds) == (
        expected.difference,
        expected.ci95,
        2,
    )


def test_without_results_a_seed_that_is_there_twice_is_refused(copied: Path) -> None:
    (copied / "results.json").unlink()
    found, _ = evaluate_file(copied / "arms" / "labels")
    assert found.seeds == (0, 1)
    with pytest.raises(UsageError, match=r"two files of predictions with seed 0, .*name a folder"):
        evaluate_file(copied / "arms" / "reasoning")


def test_one_student_s_file_knows_its_groups(copied: Path) -> None:
    arm = load_results(copied / "results.json").arm("labels")
    found, unknown = evaluate_file(copied / arm.folder_by_seed[1] / "test.jsonl")
    assert not unknown and found.accuracy == arm.test.accuracy_by_seed[1]


def test_a_folder_without_predictions_says_which_one_is_expected(copied: Path) -> None:
    with pytest.raises(UsageError, match=r"such as runs/NAME/arms/ARM$"):
        evaluate_file(copied / "rationales")
