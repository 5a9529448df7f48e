"""Slices of the test rows: which rows are in each, and the scores."""

from __future__ import annotations

import pytest

from tutelage.core.errors import UsageError
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction
from tutelage.evaluation.compare import compare
from tutelage.evaluation.metrics import evaluate
from tutelage.evaluation.slices import accuracy_by, by_label, by_length, by_tag, difference_by
from tutelage.evaluation.statistics import holm

TASK = Task("yes or no", ("text",), ("yes", "no"))
ROWS = [
    Example(f"r{i}", {"text": "word " * (1 + i % 8)}, "no" if i % 3 else "yes", tags=tags)
    for i, tags in enumerate([("name",), ("name", "number"), (), ("number", "name")] * 15)
]
GROUPS = {row.uid: i // 2 for i, row in enumerate(ROWS)}


def predictions(every: int) -> dict[int, list[Prediction]]:
    """Wrong in every `every`-th row, later by a row for each seed."""
    other = {"yes": "no", "no": "yes"}
    return {
        seed: [
            Prediction(
                row.uid, other[row.label] if (i + seed) % every == 0 else row.label, {}, row.label
            )
            for i, row in enumerate(ROWS)
        ]
        for seed in (0, 1, 2)
    }


def test_labels_in_the_tasks_order_and_tags_by_frequency() -> None:
    assert {name: len(uids) for name, uids in by_label(ROWS, TASK).items()} == {"yes": 20, "no": 40}
    assert list(by_label(ROWS, TASK)) == ["yes", "no"]
    assert by_label(ROWS[1:2], TASK) == {"no": {"r1"}}
    assert [(n, len(uids)) for n, uids in by_tag(ROWS).items()] == [("name", 45), ("number", 30)]


def test_lengths_in_parts_of_about_as_many_rows() -> None:
    slices = by_length(ROWS, "text")
    assert list(slices) == ["1 to 2 words", "3 to 4 words", "5 to 6 words", "7 to 8 words"]
    assert frozenset.union(*slices.values()) == {row.uid for row in ROWS}
    assert sum(map(len, slices.values())) == 60
    alike = [Example(str(i), {"text": "one two"}, "yes") for i in range(5)]
    assert list(by_length(alike, "text")) == ["2 words"]
    assert by_length([], "text") == {}
    four = [Example(str(i), {"text": "word " * i}, "yes") for i in (1, 2, 3, 4)]
    assert list(by_length(four, "text", bins=2)) == ["1 to 2 words", "3 to 4 words"]


def test_accuracy_in_a_slice_is_that_of_its_rows_alone() -> None:
    results = accuracy_by(by_label(ROWS, TASK), predictions(4), TASK, GROUPS)
    assert [(result.name, result.n) for result in results] == [("yes", 20), ("no", 40)]
    yes = {seed: [p for p in rows if p.gold == "yes"] for seed, rows in predictions(4).items()}
    referee = evaluate(yes, TASK, GROUPS)
    assert (results[0].accuracy, results[0].ci95) == (referee.accuracy, referee.ci95)
    # Of a group's two rows at most one is in the first slice: there rows share no group.
    assert "20 rows" in results[0].ci_method and "30 groups of rows" in results[1].ci_method
    assert accuracy_by({"nobody": frozenset({"x"})}, predictions(4), TASK) == []


def test_differences_are_corrected_for_the_number_of_slices() -> None:
    arms = {"taught": predictions(9), "labels": predictions(2)}
    found = difference_by(by_tag(ROWS), arms, ("taught", "labels"), TASK, GROUPS)
    assert [item.name for item in found] == ["name", "number"]
    names = by_tag(ROWS)["name"]
    alone = {
        arm: {seed: [p for p in rows if p.uid in names] for seed, rows in of.items()}
        for arm, of in arms.items()
    }
    [referee] = compare(alone, [("taught", "labels")], TASK, GROUPS)
    first, second = (item.comparison for item in found)
    assert (first.difference, first.p_value, first.n) == (referee.difference, referee.p_value, 45)
    assert [first.p_adjusted, second.p_adjusted] == holm([first.p_value, second.p_value])
    assert first.p_adjusted > first.p_value or second.p_adjusted > second.p_value
    assert first.family == 2
    with pytest.raises(UsageError, match="'untaught'"):
        difference_by(by_tag(ROWS), arms, ("untaught", "labels"), TASK)
