"""The baselines of the results, from recorded answers that hold the teacher's own labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe_file import parse_recipe
from tutelage.core.progress import Silent
from tutelage.core.results import MajorityBaseline, TeacherLabelsBaseline
from tutelage.experiment.baselines import describe_majority, describe_teacher_labels
from tutelage.experiment.prepare import annotate_arms, load_splits

LABELS = ["entailment", "neutral", "contradiction", "neutral"]


def rows(name: str, count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"uid": f"{name}{i}", "premise": f"{name} p{i}", "hypothesis": "h", "label": LABELS[i % 4]}
        | {key: value(i) for key, value in more.items()}
        for i in range(count)
    ]


def teacher_labels(i: int) -> dict[str, Any]:
    """Right twice in 0 to 3, wrong at 4, no label at all at 5 and a word that is none at 6."""
    said = [LABELS[0], LABELS[1], "C", "n", "neutral", None, "maybe", LABELS[3]][i]
    return {"big": said}


@pytest.fixture
def described(tmp_path: Path) -> Any:
    def describe(
        **changes: Any,
    ) -> tuple[MajorityBaseline | None, tuple[TeacherLabelsBaseline, ...]]:
        train = rows(
            "train",
            8,
            rationales=lambda i: {"cot/big": f"Since {i}.", "cot/small": "So."},
            teacher_labels=teacher_labels,
        )
        train[0]["rationales"]["cot/big"] = None  # a label without words is a label still
        for name, content in (("train", train), ("dev", rows("dev", 4)), ("test", rows("test", 5))):
            text = "".join(json.dumps(row) + "\n" for row in content)
            (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
        big = {"strategy": "recorded", "teacher": f"recorded:{tmp_path}/train.jsonl#cot/big"}
        small = {"strategy": "recorded", "teacher": f"recorded:{tmp_path}/train.jsonl#cot/small"}
        recipe = parse_recipe(
            {
                "name": "small",
                "data": {name: f"{tmp_path}/{name}.jsonl" for name in ("train", "dev", "test")},
                "student": {"model": "scratch:t5-tiny"},
                "protocol": "full",
                "arms": [
                    {"name": "labels"},
                    {"name": "big", **big},
                    {"name": "big-two", **big, "objective": "multitask"},
                    {"name": "small", **small},
                ],
                **changes,
            }
        )
        splits = load_splits(recipe)
        annotations = annotate_arms(recipe, splits, None, Silent())
        return (
            describe_majority(recipe, splits),
            describe_teacher_labels(recipe, splits, annotations),
        )

    return describe


def test_the_majority_of_train_is_evaluated_on_test(described: Any) -> None:
    majority, _ = described()
    assert (majority.label, majority.n) == ("neutral", 5)
    assert majority.accuracy == 2 / 5  # e n c n e
    assert majority.ci95[0] < 2 / 5 < majority.ci95[1]


def test_labels_of_shared_answers_come_once_and_none_are_hidden(described: Any) -> None:
    _, (entry,) = described()
    assert entry.arm == "big" and entry.model.endswith("train.jsonl#cot/big")
    assert (entry.rows, entry.labelled) == (8, 6)
    assert entry.accuracy == pytest.approx(5 / 6)  # row 4 is an entailment
    assert entry.accuracy_of_all == pytest.approx(5 / 8)
    assert entry.ci95[0] < 5 / 6 <= entry.ci95[1]


def test_what_a_recipe_leaves_out_is_not_computed(described: Any) -> None:
    reasons = {"baselines": "a test of leaving them out"}
    found = described(baselines=["omitted_context"], departures=reasons)
    assert found == (None, ())
