"""The students' own explanations: measured in a run, and on examples worked by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tutelage.config.arm_settings import ArmSection
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.progress import Silent
from tutelage.core.results import ArmExplanations, Results, load_results
from tutelage.core.storage import read_jsonl
from tutelage.core.task import NLI, Task
from tutelage.core.types import Example, Explanation, ObjectiveName, Prediction, Rationale
from tutelage.evaluation.overlap import chrf, rouge_l
from tutelage.experiment.prepare import Splits
from tutelage.experiment.run import run
from tutelage.experiment.self_explanations import REFERENCES, describe_explanations
from tutelage.experiment.summarise import ArmRun

Make = Callable[..., dict[str, Any]]

LABELS = NLI.labels
CONTENT = {
    "entailment": "so one follows from the other",
    "neutral": "nothing is said of it",
    "contradiction": "both cannot be",
}


def _examples(count: int, reasons: Sequence[str | None] = ()) -> list[Example]:
    return [
        Example(
            f"r{i}",
            {"premise": f"Text {i // 2}.", "hypothesis": "This."},
            LABELS[i % 3],
            reasons[i] if reasons else None,
        )
        for i in range(count)
    ]


def _arm_run(
    train: Sequence[Example],
    test: Sequence[Example],
    text: Callable[[str], str],
    objective: ObjectiveName = "label_then_rationale",
) -> ArmRun:
    """An arm whose training rationales are `text` of their labels, and whose one student is right
    about all rows but the first."""
    arm = ArmSection(name="arm", strategy="informed_reasoning", objective=objective)
    predictions = [
        Prediction(e.uid, e.label if i else "neutral", {}, e.label) for i, e in enumerate(test)
    ]
    rationales = [Rationale(e.uid, "x", text(e.label), "ok") for e in train]
    return ArmRun(arm, [], {}, rationales, {3: predictions}, {3: predictions})


def _own_groups(rows: Sequence[Example], task: Task) -> dict[str, str]:
    return {e.uid: task.group(e.uid, e.fields) for e in rows}


def _described(
    written: Sequence[Explanation],
    arm_run: ArmRun,
    train: Sequence[Example],
    test: Sequence[Example],
) -> ArmExplanations:
    splits: Splits = SimpleNamespace(train=train, test=test, groups=_own_groups)  # type: ignore[assignment]
    described = describe_explanations({"arm": (3, written)}, [arm_run], splits, NLI)
    assert described is not None
    return described["arm"]


def _written(test: Sequence[Example], text: Callable[[str], str]) -> list[Explanation]:
    return [Explanation(e.uid, text(e.label), e.label, 6, False) for e in test]


def test_content_predicts_the_label_and_naming_it_is_leakage() -> None:
    train, test = _examples(90), _examples(60)

    def measured(text: Callable[[str], str]) -> dict[str, float]:
        arm_run = _arm_run(train, test, text)
        found = _described(_written(test, text), arm_run, train, test).label_predictability
        assert found is not None and found.trained_on == 90
        return {
            "as_written": found.as_written.mean, "masked": found.masked.mean,
            "majority": found.majority.mean, "leakage": found.leakage.mean,
            "gain": found.gain.mean,
        }  # fmt: skip

    chance = pytest.approx(1 / 3)
    assert measured(CONTENT.__getitem__) == {
        "as_written": 1.0, "masked": 1.0, "majority": chance, "leakage": 0.0,
        "gain": pytest.approx(2 / 3),
    }  # fmt: skip
    assert measured(lambda label: f"The answer is {label}.") == {
        "as_written": 1.0, "masked": chance, "majority": chance,
        "leakage": pytest.approx(2 / 3), "gain": 0.0,
    }  # fmt: skip
    empty = measured(lambda label: "the same for all")
    assert empty["as_written"] == chance and empty["gain"] == 0.0


def test_where_there_is_too_little_to_test_or_train_on_it_says_so() -> None:
    for trained, explained, why in (
        (49, 60, "49 training rationales, of at least 50"),
        (90, 19, "19 rows explained, of at least 20"),
    ):
        train, test = _examples(trained), _examples(explained)
        arm_run = _arm_run(train, test, CONTENT.__getitem__)
        found = _described(_written(test, CONTENT.__getitem__), arm_run, train, test)
        assert (found.label_predictability, found.label_predictability_missing) == (None, why)
    train, test = _examples(50), _examples(20)
    arm_run = _arm_run(train, test, CONTENT.__getitem__)
    found = _described(_written(test, CONTENT.__getitem__), arm_run, train, test)
    assert found.label_predictability is not None
    assert found.label_predictability.trained_on == 50
    assert found.label_predictability_missing is None


def test_empty_cut_and_disagreeing_rows_stay_in_the_count() -> None:
    train, test = _examples(60), _examples(40)
    written = _written(test, CONTENT.__getitem__)
    written[5] = Explanation("r5", "", None, 0, False)
    written[6] = Explanation("r6", "one two three", "entailment", 99, True)
    for objective, agrees in (
        ("label_then_rationale", 38 / 40),  # r0 writes what was not predicted, r5 nothing
        ("rationale_then_label", 38 / 40),
        ("multitask", None),
    ):
        arm_run = _arm_run(train, test, CONTENT.__getitem__, objective)  # type: ignore[arg-type]
        found = _described(written, arm_run, train, test)
        assert (found.seed, found.rows, found.empty, found.cut) == (3, 40, 1, 1)
        assert found.label_agreement == agrees
        assert found.references is None and found.rouge_l is None and found.chrf is None
    words = [len(CONTENT[e.label].split()) for e in test]
    words[5:7] = [0, 3]
    assert found.mean_words == pytest.approx(sum(words) / 40)
    assert found.mean_tokens == pytest.approx((38 * 6 + 99) / 40)


def test_overlap_is_with_the_most_similar_of_the_datas_own_reasons() -> None:
    reasons = ["nothing is said here", None, "both cannot be true"] * 4
    train, test = _examples(60), _examples(12, reasons)
    for row, more in (
        (2, {"human-2": CONTENT["contradiction"]}),
        (3, {"informed_reasoning": CONTENT["entailment"]}),  # no person's
    ):
        test[row] = replace(test[row], references=more)
    arm_run = _arm_run(train, test, CONTENT.__getitem__)
    written = _written(test, CONTENT.__getitem__)
    written[0] = Explanation("r0", "", None, 0, False)
    found = _described(written, arm_run, train, test)
    assert (found.references, found.referenced) == (REFERENCES, 8)
    for measured, score in ((found.rouge_l, rouge_l), (found.chrf, chrf)):
        follows = score(CONTENT["entailment"], [reasons[0] or ""])
        cannot = score(CONTENT["contradiction"], [reasons[2] or ""])
        mean = (0 + 3 * follows + 1 + 3 * cannot) / 8
        assert measured is not None and measured.mean == pytest.approx(mean)
        low, high = measured.ci95 or ()
        assert 0 <= low < mean < high <= 1


def test_no_overlap_at_all_is_not_known_to_be_none() -> None:
    train, test = _examples(60), _examples(30, ["both cannot be true"] * 30)
    test = [replace(e, fields={**e.fields, "premise": f"Text {e.uid}."}) for e in test]
    arm_run = _arm_run(train, test, CONTENT.__getitem__)
    found = _described(_written(test, lambda label: "xyz"), arm_run, train, test)
    for measured in (found.rouge_l, found.chrf):
        assert measured is not None and measured.mean == 0
        assert measured.ci95 == pytest.approx((0, 0.116), abs=5e-4)


def test_nothing_written_is_none() -> None:
    splits: Splits = SimpleNamespace(train=[], test=[], groups=_own_groups)  # type: ignore[assignment]
    assert describe_explanations({}, [], splits, NLI) is None


class _Watching(Silent):
    """Notes what results.json holds when the students are about to explain; then may stop."""

    def __init__(self, results: Path, stop_after: int | None = None) -> None:
        self.results, self.stop_after = results, stop_after
        self.seen: Results | None = None

    def stage(self, title: str) -> None:
        if title == "Generating the students' own rationales":
            self.seen = load_results(self.results)

    def jobs(self, done: int, total: int, verb: str) -> None:
        if self.seen is not None and done == self.stop_after:
            raise KeyboardInterrupt


def _recipe(small_recipe: Make) -> dict[str, Any]:
    reasoning = {"strategy": "informed_reasoning"}
    return small_recipe(
        arms=[
            {"name": "labels"},
            {"name": "after", **reasoning},
            {"name": "after-shuffled", **reasoning, "control": "shuffled"},
            {"name": "first", **reasoning, "objective": "rationale_then_label"},
            {"name": "two", **reasoning, "objective": "multitask"},
        ],
        search={"learning_rate": [3e-3], "label_weight": [0.3]},
        seeds=[4, 1],
        student={
            "model": "scratch:t5-tiny",
            "epochs": 1,
            "batch_size": 16,
            "warmup_steps": 1,
            "max_rationale_tokens": 12,
        },
        explain_rows=25,
    )


def test_a_run_explains_last_and_once_and_resumes_where_it_was_stopped(
    small_recipe: Make, tmp_path: Path
) -> None:
    recipe = parse_recipe(_recipe(small_recipe))
    folder = tmp_path / "small"
    watching = _Watching(folder / "results.json", stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, runs=tmp_path, workers=1, observer=watching)
    assert watching.seen is not None
    assert watching.seen.comparisons and watching.seen.explanations is None
    assert watching.seen.finished is False and watching.seen.seconds is None
    files = sorted(folder.glob("arms/*/*/seed-*/explanations.jsonl"))
    assert len(files) == 2
    stamps = {path: path.stat().st_mtime_ns for path in files}

    results = run(recipe, runs=tmp_path, workers=1).results
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    files = sorted(folder.glob("arms/*/*/seed-*/explanations.jsonl"))
    arms = ["after", "after-shuffled", "first", "two"]
    assert [file.parts[-4] for file in files] == arms
    assert {file.parts[-2] for file in files} == {"seed-4"}  # the first of the recipe's seeds
    uids = [[row["uid"] for row in read_jsonl(file)] for file in files]
    assert len(uids[0]) == 25 and all(each == uids[0] for each in uids)

    explained = results.explanations
    assert explained is not None
    assert list(explained) == arms
    for name, file in zip(arms, files, strict=True):
        rows = list(read_jsonl(file))
        scored = {row["uid"]: row["label"] for row in read_jsonl(file.with_name("test.jsonl"))}
        of = explained[name]
        assert (of.seed, of.rows, of.referenced) == (4, 25, 25)
        assert of.empty == sum(not row["text"] for row in rows)
        assert of.cut == sum(row["cut"] for row in rows)
        expected = sum(row["label"] == scored[row["uid"]] for row in rows) / 25
        assert of.label_agreement == (None if name == "two" else pytest.approx(expected))
        assert of.label_predictability is not None
        assert of.label_predictability.trained_on == 90
    assert load_results(folder / "results.json").finished is True

    # What was written decides nothing.
    assert results.arms == watching.seen.arms
    assert results.comparisons == watching.seen.comparisons


def test_the_number_of_rows_is_bounded(small_recipe: Make) -> None:
    assert parse_recipe(small_recipe(explain_rows=500)).explain_rows == 500
    for wrong in (-1, 501):
        with pytest.raises(Exception, match="explain_rows"):
            parse_recipe(small_recipe(explain_rows=wrong))
