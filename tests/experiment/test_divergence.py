"""Trainings that diverge: nothing ends, nothing is dropped, and everything is said.

A learning rate of 1e30 makes the weights overflow in the first step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe_file import parse_recipe
from tutelage.core.progress import Silent
from tutelage.core.results import Results, load_results
from tutelage.core.storage import read_json, read_jsonl
from tutelage.core.task import NLI
from tutelage.experiment.prepare import load_splits
from tutelage.experiment.run import run
from tutelage.report.answer import answer_sentences
from tutelage.student.training import trainer

Make = Callable[..., dict[str, Any]]
GOOD, BAD, WORSE = 3e-3, 1e30, 2e30
FEW = {
    "train": "synthetic:nli?n=48&seed=1",
    "dev": "synthetic:nli?n=12&seed=2",
    "test": "synthetic:nli?n=24&seed=3",
}
ARMS = [{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}]


class _Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.trained = 0

    def note(self, line: str) -> None:
        self.lines.append(line)

    def job(self, progress: Any) -> None:
        self.trained += 1


def _run(values: dict[str, Any], runs: Path, **more: Any) -> tuple[Results, _Notes]:
    notes = _Notes()
    done = run(parse_recipe(values), runs=runs, workers=1, observer=notes, **more)
    return done.results, notes


def _same(one: Results, other: Results) -> bool:
    return (one.arms, one.comparisons, one.choosing_on_test, one.recommended) == (
        other.arms,
        other.comparisons,
        other.choosing_on_test,
        other.recommended,
    )


def _majority_accuracy(values: dict[str, Any]) -> tuple[str, float]:
    splits = load_splits(parse_recipe(values))
    counts = Counter(e.label for e in splits.train)
    label = max(NLI.labels, key=lambda name: counts[name])
    return label, sum(e.label == label for e in splits.test) / len(splits.test)


@pytest.mark.usefixtures("once")
def test_a_trial_that_diverges_is_counted_and_not_chosen(
    small_recipe: Make, tmp_path: Path
) -> None:
    values = small_recipe(
        arms=ARMS,
        search={"learning_rate": [BAD, GOOD], "label_weight": [0.3]},
        explain_rows=0,
        data=FEW,
    )
    results, notes = _run(values, tmp_path)
    for arm in results.arms:
        assert [(t.seed, t.config.learning_rate) for t in arm.trials] == [
            (0, BAD), (0, GOOD), (1, BAD), (1, GOOD)
        ]  # fmt: skip
        for trial in arm.trials:
            assert (trial.diverged_at is None) == (trial.config.learning_rate == GOOD)
            assert (trial.dev_accuracy is None) == (trial.diverged_at is not None)
        assert [c and c.learning_rate for c in arm.config_by_seed] == [GOOD, GOOD]
        assert arm.training.diverged_at_by_seed == (None, None)
    assert results.choosing_on_test is not None
    # Two trials that have an accuracy, and two students that were tested.
    assert {b.models_tried for b in results.choosing_on_test.by_arm.values()} == {4}
    lines = [line for line in notes.lines if "diverged" in line]
    assert len(lines) == 4
    assert "reasoning, seed 1: the trial with learning rate 1e+30 and label weight 0.3" in lines[-1]
    (sentence,) = [s for s in answer_sentences(results) if "diverged" in s]
    for words in ("labels, 2 of 4", "reasoning, 2 of 4", "1e+30", "seeds 0 and 1"):
        assert words in sentence
    report = (tmp_path / "small" / "report.md").read_text(encoding="utf-8")
    assert sentence.split(":")[0] in report and "diverged at step" in report

    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("done.json")}
    again, notes = _run(values, tmp_path)
    assert notes.trained == 0  # not those that diverged either
    assert stamps == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("done.json")}
    assert _same(again, results)


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("rates", [[BAD], [BAD, WORSE]])
def test_without_any_checkpoint_the_most_frequent_label_answers(
    small_recipe: Make, tmp_path: Path, rates: list[float]
) -> None:
    """One configuration: the training that is tested diverges. Two: all trials do."""
    values = small_recipe(
        arms=ARMS,
        search={"learning_rate": rates, "label_weight": [0.3]},
        explain_rows=5,
        data=FEW,
    )
    results, notes = _run(values, tmp_path, fractions=[0.5])
    label, accuracy = _majority_accuracy(values)
    searched = len(rates) > 1
    for arm in results.arms:
        assert arm.test.accuracy_by_seed == pytest.approx((accuracy, accuracy))
        assert arm.training.best_step_by_seed == (0, 0)
        assert all((config is None) == searched for config in arm.config_by_seed)
        assert all((step is None) == searched for step in arm.training.diverged_at_by_seed)
        for folder in arm.folder_by_seed:
            rows = list(read_jsonl(tmp_path / "small" / folder / "test.jsonl"))
            assert {row["label"] for row in rows} == {label}
            assert not (tmp_path / "small" / folder / "model").exists()
    assert [c.difference for c in results.comparisons] == [0.0]
    assert results.recommended is None and results.explanations is None
    assert results.learning_curve is not None
    answer = " ".join(answer_sentences(results))
    for arm in ("labels", "reasoning"):
        for seed in (0, 1):
            assert f"The training of {arm} with seed {seed}" in answer
    assert "the most frequent training label answered in place of a student" in answer
    assert ("every trial diverged" in answer) == searched
    assert ("learning rate 1e+30" in answer) is True
    page = (tmp_path / "small" / "report.html").read_text(encoding="utf-8")
    assert "the most frequent training label answered in place of a student" in page

    again, notes = _run(values, tmp_path, fractions=[0.5])
    assert notes.trained == 0 and _same(again, results)
    assert load_results(tmp_path / "small" / "results.json").learning_curve is not None


def test_a_tested_training_that_diverges_counts_with_its_best_checkpoint(
    small_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels' training with seed 1 diverges after its first evaluation, and only there."""
    schedule = trainer._Training._schedule

    def exploding(self: Any, step: int) -> float:
        of_labels = self.settings.objective == "label" and self.settings.seed == 1
        return 1e33 if of_labels and step >= 3 else schedule(self, step)

    monkeypatch.setattr(trainer._Training, "_schedule", exploding)
    values = small_recipe(
        arms=ARMS, search={"learning_rate": [GOOD], "label_weight": [0.3]}, explain_rows=0
    )
    results, notes = _run(values, tmp_path)
    labels, reasoning = results.arms
    assert labels.training.best_step_by_seed[1] == 3
    assert labels.training.diverged_at_by_seed[0] is None
    step = labels.training.diverged_at_by_seed[1]
    assert step is not None and step > 3
    assert reasoning.training.diverged_at_by_seed == (None, None)
    folder = tmp_path / "small" / labels.folder_by_seed[1]
    rows = list(read_jsonl(folder / "dev.jsonl"))
    accuracy = sum(row["gold"] == row["label"] for row in rows) / len(rows)
    result = read_json(folder / "done.json")["result"]
    assert labels.dev.accuracy_by_seed[1] == pytest.approx(accuracy)
    assert (result["dev_accuracy"], result["diverged_at"]) == (pytest.approx(accuracy), step)
    assert len(labels.test.accuracy_by_seed) == 2
    (line,) = [line for line in notes.lines if "diverged" in line]
    assert line == (
        "labels, seed 1: the training with learning rate 0.003 and label weight 1 diverged at step "
        f"{step}; its best checkpoint, of step 3, is tested"
    )
    (sentence,) = [s for s in answer_sentences(results) if "diverged" in s]
    assert "labels with seed 1 (learning rate 0.003, label weight 1)" in sentence

    again, notes = _run(values, tmp_path)
    assert notes.trained == 0 and _same(again, results)
