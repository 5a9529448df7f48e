"""A classifier of labels alone as a baseline arm: trained, compared and named like the others."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "student"))

from tiny_encoders import TASK, make_encoder, reviews

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import load_recipe, parse_recipe
from tutelage.core.errors import StudentError, UsageError
from tutelage.core.results import Results, load_results
from tutelage.experiment.run import run
from tutelage.planning.training_count import count_trainings
from tutelage.report.answer import answer_sentences

Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows and an encoder."""
    place = tmp_path_factory.mktemp("reviews")
    make_encoder(place / "encoder", "Bert")
    for name, count, seed in (("train", 200, 1), ("dev", 16, 2), ("test", 40, 3)):
        rows = [
            {"id": e.uid, **e.fields, "label": e.label, "reason": f"it is {e.label}"}
            for e in reviews(count, seed)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (place / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def make(folder: Path) -> Make:
    def recipe(**changes: Any) -> Recipe:
        data = {name: str(folder / f"{name}.jsonl") for name in ("train", "dev", "test")}
        values: dict[str, Any] = {
            "name": "reviews",
            "task": {"fields": list(TASK.fields), "labels": list(TASK.labels)},
            "data": {**data, "overlap": "drop"},
            "student": {
                "model": "scratch:t5-tiny",
                "batch_size": 8,
                "epochs": 5,
                "evaluate_every": 30,
                "max_steps": 60,
                "warmup_steps": 4,
                "max_source_tokens": 48,
                "max_rationale_tokens": 8,
            },
            "protocol": "quick",
            "arms": [
                {"name": "labels"},
                {"name": "why", "strategy": "human"},
            ],
            "search": {"learning_rate": [1e-5], "trials": 2, "label_weight": [0.4, 0.6]},
            "baselines": [
                {"classifier": str(folder / "encoder"), "learning_rate": [3e-3, 1e-3, 2e-3]}
            ],
            "seeds": [0],
            "explain_rows": 0,
            "controls": [],
            "departures": {"controls": "a small test", "seeds": "a small test"},
        }
        return parse_recipe(values | changes)

    return recipe


@pytest.fixture(scope="module")
def results(make: Make, folder: Path) -> Results:
    return run(make(), runs=folder / "runs", ledger=folder / "l.sqlite", workers=1).results


def test_it_is_trained_by_the_same_protocol(results: Results) -> None:
    arm, labels = results.arm("classifier"), results.arm("labels")
    assert arm.classifier is not None
    assert arm.classifier.endswith("encoder")
    assert (arm.seeds, len(arm.trials)) == (labels.seeds, len(labels.trials))
    assert arm.training.rows == labels.training.rows
    assert {trial.config.learning_rate for trial in arm.trials} <= {3e-3, 1e-3, 2e-3}
    assert (arm.configurations, labels.configurations) == (3, 2)
    assert arm.test.n == labels.test.n
    assert arm.test.accuracy == 1.0  # the task can be learnt from one word


def test_it_is_compared_like_the_others(results: Results) -> None:
    found = {c.arm: c for c in results.context_comparisons if c.kind == "classifier"}
    assert set(found) == {"labels", "why"}  # and not with itself
    for name, comparison in found.items():
        own, other = (results.arm(n).test.accuracy for n in (name, "classifier"))
        assert comparison.difference == pytest.approx(own - other)
        assert comparison.ci95[0] <= comparison.difference <= comparison.ci95[1]
        assert 0 < comparison.p_value < 0.05
    assert not any("classifier" in (c.arm, c.baseline) for c in results.comparisons)


def test_the_answer_names_it_where_it_is_better(results: Results) -> None:
    (sentence,) = [s for s in answer_sentences(results) if "A classifier" in s]
    assert "did better than the best arm with explanations: 100.0% compared with" in sentence
    assert "p " in sentence
    weaker = dataclasses.replace(
        results,
        arms=tuple(
            dataclasses.replace(a, test=dataclasses.replace(a.test, accuracy=0.1))
            if a.classifier
            else a
            for a in results.arms
        ),
    )
    assert not any("A classifier" in s for s in answer_sentences(weaker))
    # The model to use is one of the student's.
    assert results.recommended is not None
    assert results.recommended.arm != "classifier"


def test_the_report_and_the_file_have_it(results: Results, folder: Path) -> None:
    assert load_results(folder / "runs" / "reviews" / "results.json") == results
    page = (folder / "runs" / "reviews" / "report.md").read_text(encoding="utf-8")
    assert "a classifier that learns labels alone" in page


def test_nothing_is_trained_twice(
    make: Make, folder: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("tutelage.student.training.trainer.train", never)
    again = run(make(), runs=folder / "runs", ledger=folder / "l.sqlite", workers=1).results
    assert again.arms == results.arms
    assert again.comparisons == results.comparisons


def test_a_list_of_classifiers_is_added_to_the_protocol_s(make: Make, tmp_path: Path) -> None:
    recipe = make()
    assert recipe.baselines[:2] == ("majority", "bag_of_words")
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(str(path)) == recipe
    two = make(baselines=["majority", "bag_of_words", {"classifier": "a"}, {"classifier": "b"}])
    assert [a.name for a in two.arms if a.classifier] == ["classifier", "classifier-2"]


def test_plan_counts_its_trainings(make: Make) -> None:
    own, *_ = count_trainings(make(), None)
    assert (own.arms, own.total) == (3, 3 * 3)  # labels, why, the classifier


@pytest.mark.parametrize(
    ("baseline", "line"),
    [
        ({"classifier": "scratch:t5-tiny"}, "expected a hub name or a folder"),
        ({"classifier": "a", "learning_rate": [0]}, "expected numbers above 0"),
        ({"classifier": "a", "rate": [1e-5]}, "rate: unknown key"),
        ("classifier", "input should be 'majority'"),
    ],
)
def test_bad_settings_are_refused(make: Make, baseline: Any, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        make(baselines=[baseline])


def test_a_writer_of_rationales_is_examined_as_one(make: Make, folder: Path) -> None:
    encoder = str(folder / "encoder")
    with pytest.raises(StudentError, match=r"baselines: \[\{classifier: MODEL\}\]"):
        run(make(name="two", student={"model": encoder}), runs=folder / "runs", workers=1)


def test_the_draft_s_line_is_a_valid_baseline(folder: Path, tmp_path: Path) -> None:
    from tutelage import api

    text, _ = api.draft(
        str(folder / "train.jsonl"),
        teacher="scripted",
        student="scratch:t5-tiny",
        dev=None,
        test=None,
    )
    line = "# baselines: ["
    assert text.count(line) == 1
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace(line, line[2:]), encoding="utf-8")
    (arm,) = [arm for arm in load_recipe(str(path)).arms if arm.classifier]
    assert arm.classifier is not None
    assert arm.classifier.rates == (2e-5, 1e-5, 5e-5)
