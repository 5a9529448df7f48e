"""Learning curves: which rows, which trainings, what the results say, and what is refused."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe_file import parse_recipe
from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import UsageError
from tutelage.core.progress import JobProgress, Silent
from tutelage.core.results import CurveAnnotation, TokenCounts, load_results
from tutelage.core.storage import read_json, read_jsonl
from tutelage.core.task import NLI
from tutelage.core.types import Example, Prediction, Rationale, Usage
from tutelage.data.synthetic import generate
from tutelage.experiment.learning_curves import (
    check_fractions,
    check_rationales,
    describe_curve,
    nested_subsets,
    parse_fractions,
    scaled,
    subset_job,
)
from tutelage.experiment.prepare import load_splits
from tutelage.experiment.run import run
from tutelage.experiment.summarise import ArmRun
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs.jobs import TrainingJob
from tutelage.student.training.result import TrainResult
from tutelage.student.training.tracking import Tracking
from tutelage.teacher.annotate import Annotation
from tutelage.teacher.summary import Summary

Make = Callable[..., dict[str, Any]]
FRACTIONS = (0.1, 0.3, 0.5)
ROWS = generate(300, 1)


def groups_of(rows: Sequence[Example], uids: frozenset[str]) -> tuple[set[str], set[str]]:
    inside = {e.fields["premise"] for e in rows if e.uid in uids}
    return inside, {e.fields["premise"] for e in rows if e.uid not in uids}


def test_subsets_nest_keep_premises_whole_and_come_near() -> None:
    subsets = nested_subsets(ROWS, NLI, FRACTIONS)
    assert [s.name for s in subsets] == ["0.1", "0.3", "0.5"]
    assert subsets[0].uids < subsets[1].uids < subsets[2].uids
    for subset in subsets:
        inside, outside = groups_of(ROWS, subset.uids)
        assert not inside & outside
        assert abs(len(subset.uids) - subset.fraction * len(ROWS)) <= 1.5  # premises have 2 or 3


def test_neither_the_order_of_the_file_nor_other_fractions_decide() -> None:
    mixed = random.Random(3).sample(ROWS, len(ROWS))
    assert nested_subsets(mixed, NLI, FRACTIONS) == nested_subsets(ROWS, NLI, FRACTIONS)
    assert nested_subsets(ROWS, NLI, (0.3,)) == nested_subsets(ROWS, NLI, FRACTIONS)[1:2]
    first = {e.uid for e in ROWS[: len(ROWS) // 2]}
    assert 0.3 < len(nested_subsets(ROWS, NLI, (0.5,))[0].uids & first) / 150 < 0.7


def test_fractions_as_they_are_written() -> None:
    assert parse_fractions(["0.3,0.1", " 5e-1"]) == (0.1, 0.3, 0.5)
    assert parse_fractions(["0.1,1"]) == check_fractions([1.0, 0.1]) == (0.1,)
    assert parse_fractions([]) == ()
    for words, message in (
        ("0.1,x", "got '0.1,x'"),
        ("0.1,,0.2", "got '0.1,,0.2'"),
        ("0", "got 0,"),
        ("-0.5", "got -0.5,"),
        ("1.5", "got 1.5,"),
        ("nan", "got nan,"),
        ("0.1,0.2,0.10", "got 0.1 twice"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_fractions([words])


def test_subsets_that_cannot_be_trained_on_are_refused() -> None:
    with pytest.raises(UsageError, match=r"0\.005 of 300 rows comes to [02], none with label"):
        nested_subsets(ROWS, NLI, (0.005,))
    with pytest.raises(UsageError, match=r"0\.999 of 300 rows comes to 300, which is all of them"):
        nested_subsets(ROWS, NLI, (0.999,))
    with pytest.raises(UsageError, match=r"as many as 0\.5: the rows form \d+ groups"):
        nested_subsets(ROWS, NLI, (0.5, 0.501))


def test_an_arm_without_one_usable_rationale_is_refused() -> None:
    (subset,) = nested_subsets(ROWS, NLI, (0.1,))
    inside = next(iter(subset.uids))

    def answers(usable: Callable[[str], bool]) -> list[Rationale]:
        return [
            Rationale(e.uid, "human", "Because.", "ok" if usable(e.uid) else "refused")
            for e in ROWS
        ]

    check_rationales([subset], {"one": answers(lambda uid: uid == inside)})
    with pytest.raises(UsageError, match=r"0\.1 comes to \d+ rows, and arm 'none' has"):
        check_rationales([subset], {"none": answers(lambda uid: uid not in subset.uids)})


def test_a_fraction_is_trained_as_the_whole_in_small() -> None:
    whole = TrainSettings(batch_size=16, warmup_steps=40, evaluate_every=30, max_steps=200)
    small = scaled(whole, 160, 1600)  # 10 steps an epoch in the place of 100
    assert (small.warmup_steps, small.evaluate_every, small.max_steps) == (4, 3, 20)
    assert small.replace(warmup_steps=40, evaluate_every=30, max_steps=200) == whole
    tiny = scaled(whole, 3, 16_000)
    assert (tiny.warmup_steps, tiny.evaluate_every, tiny.max_steps) == (0, 1, 1)
    without = scaled(TrainSettings(), 160, 1600)
    assert (without.evaluate_every, without.max_steps) == (None, None)


def test_the_training_of_a_subset_is_the_whole_one_with_fewer_rows() -> None:
    (subset,) = nested_subsets(ROWS, NLI, (0.3,))
    swapped = [Rationale(e.uid, "x", f"about {i}", "ok") for i, e in enumerate(reversed(ROWS))]
    rows = build_training_examples(ROWS, NLI, swapped, "label_then_rationale")
    whole = TrainingJob(
        "scratch:t5-tiny",
        None,
        rows,
        ROWS[:9],
        NLI,
        TrainSettings(batch_size=16),
        Path("runs/r/arms/control/lr-1_w-1/seed-2"),
        Tracking(("tensorboard",), "r/control/lr-1_w-1/seed-2"),
    )
    job = subset_job(whole, subset)
    assert job.training == [row for row in rows if row.uid in subset.uids]
    assert len(job.training) == len(subset.uids)
    assert job.folder == Path("runs/r/fractions/0.3/control/lr-1_w-1/seed-2")
    assert job.tracking is not None
    assert job.tracking.run == "r/fractions/0.3/control/lr-1_w-1/seed-2"
    assert (job.dev, job.student, job.key == whole.key) == (whole.dev, whole.student, False)


def test_what_annotating_a_subset_took(small_recipe: Make) -> None:
    """Information extraction makes one request per premise, a template one for distant rows."""
    shared = {"strategy": "template", "template": "Why {{ label }}?"}
    recipe = parse_recipe(
        small_recipe(
            arms=[
                {"name": "labels"},
                {"name": "extraction", "strategy": "information_extraction"},
                {"name": "template", **shared},
                {"name": "looked-up", "strategy": "informed_reasoning"},
            ],
            seeds=[0],
        )
    )
    splits = load_splits(recipe)
    task = recipe.resolved_task()
    (subset,) = nested_subsets(splits.train, task, (0.5,))
    rows = [e for e in splits.train if e.uid in subset.uids]
    premises = {e.fields["premise"] for e in splits.train}

    def annotated(request: Callable[[Example], str], requests: int) -> Annotation:
        """The first row of each request carries 3 tokens and 2 dollars."""
        seen: set[str] = set()
        answers = []
        for e in splits.train:
            new = request(e) not in seen
            seen.add(request(e))
            usage = Usage(1 if new else 0, 2 if new else 0)
            answers.append(
                Rationale(e.uid, "s", "text", "ok", usage=usage, cost_usd=2.0 if new else 0.0)
            )
        summary = Summary({}, requests, 0, 0, Usage(), None, {}, {}, {})
        return Annotation(tuple(answers), summary)

    annotations = {
        "extraction": annotated(lambda e: e.fields["premise"], len(premises)),
        "template": annotated(lambda e: e.label, 3),
        "looked-up": annotated(lambda e: e.uid, 0),
    }

    def took(changed: dict[str, Annotation]) -> list[dict[str, CurveAnnotation]]:
        dev = {0: [Prediction(e.uid, e.label, {}, e.label) for e in splits.dev]}
        arm_runs = [
            ArmRun(
                arm,
                [],
                {},
                changed[arm.name].rationales if arm.strategy else None,
                dev,
                {},
            )
            for arm in recipe.arms
        ]
        predicted = [(subset, {arm.name: dev for arm in recipe.arms})]
        curve = describe_curve(predicted, arm_runs, changed, recipe, splits)
        assert curve is not None
        return [{entry.arm: entry for entry in point.annotation} for point in curve]

    half, whole = took(annotations)
    inside = len({e.fields["premise"] for e in rows})
    assert half["extraction"] == CurveAnnotation(
        "extraction", inside, 2.0 * inside, TokenCounts(inside, 2 * inside)
    )
    assert whole["extraction"].cost_usd == 2.0 * len(premises) > 2.0 * inside
    # The rows that carry the three answers' cost may lie outside: the requests are made inside.
    assert half["template"] == whole["template"]
    assert (half["template"].requests, half["template"].cost_usd) == (3, 6.0)
    nothing = CurveAnnotation("looked-up", 0, 0.0, TokenCounts(0, 0))
    assert half["looked-up"] == whole["looked-up"] == nothing

    def with_one(**values: Any) -> dict[str, Annotation]:
        before = annotations["extraction"]
        index = next(i for i, e in enumerate(splits.train) if e.uid == rows[0].uid)
        answers = list(before.rationales)
        answers[index] = dataclasses.replace(answers[index], **values)
        return {**annotations, "extraction": dataclasses.replace(before, rationales=tuple(answers))}

    unpriced = took(with_one(cost_usd=None, usage=Usage(1, None)))[0]["extraction"]
    assert unpriced.cost_usd is None
    assert unpriced.tokens == TokenCounts(inside, None)
    unanswered = took(with_one(cost_usd=None, usage=Usage(), status="failed"))[0]["extraction"]
    assert (unanswered.requests, unanswered.cost_usd) == (inside, 2.0 * (inside - 1))


@pytest.fixture(scope="module")
def recipe(small_recipe: Make) -> Any:
    arms = [{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}]
    return parse_recipe(
        small_recipe(
            name="curve",
            data={
                "train": "synthetic:nli?n=60&seed=1",
                "dev": "synthetic:nli?n=20&seed=2",
                "test": "synthetic:nli?n=20&seed=3",
            },
            arms=arms,
            search={"learning_rate": [3e-3], "label_weight": [0.3]},
            explain_rows=0,
        )
    )


@pytest.fixture(scope="module")
def finished(recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    return run(recipe, runs=runs, workers=1, fractions=[0.5]).folder


def test_a_run_with_fractions(finished: Path) -> None:
    results = load_results(finished / "results.json")
    points = half, whole = results.learning_curve or ()
    assert [point.fraction for point in points] == [0.5, 1.0]
    assert whole.rows == 60 and abs(half.rows - 30) <= 1
    assert not list(finished.glob("fractions/**/test*"))  # the test set is not opened for it
    for arm in half.arms:
        by_seed = []
        for seed in (0, 1):
            (folder,) = finished.glob(f"fractions/0.5/{arm.name}/*/seed-{seed}")
            rows = list(read_jsonl(folder / "dev.jsonl"))
            by_seed.append(sum(r["gold"] == r["label"] for r in rows) / len(rows))
            result = TrainResult(**read_json(folder / "done.json")["result"])
            assert result.steps == -(-half.rows // 16)  # as many epochs
        assert arm.by_seed == pytest.approx(by_seed)
        assert arm.dev_accuracy == pytest.approx(sum(by_seed) / 2)
        assert arm.ci95[0] <= arm.dev_accuracy <= arm.ci95[1]
        assert arm.with_rationale == (0 if arm.name == "labels" else half.rows)
    for point in points:
        (difference,) = point.differences
        reached = {arm.name: arm.dev_accuracy for arm in point.arms}
        assert (difference.arm, difference.baseline) == ("reasoning", "labels")
        gap = reached["reasoning"] - reached["labels"]
        assert difference.difference == pytest.approx(gap)
        assert [entry.arm for entry in point.annotation] == ["reasoning"]
    on_all = {arm.name: arm.dev.accuracy for arm in results.arms}
    assert {arm.name: arm.dev_accuracy for arm in whole.arms} == on_all
    assert "More rows or explanations?" in (finished / "report.html").read_text()


class _Interrupts(Silent):
    """Presses Ctrl-C in the middle of the second training of a stage."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.seen: set[str] = set()

    def stage(self, title: str) -> None:
        self.stages.append(title)
        self.seen.clear()

    def job(self, progress: JobProgress) -> None:
        self.seen.add(progress.name)
        if "fractions" in self.stages[-1] and len(self.seen) == 2 and progress.done == 2:
            raise KeyboardInterrupt


def test_interrupted_and_taken_up_again_it_is_the_same(
    finished: Path, recipe: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "curve"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "fractions")
    (folder / "results.json").unlink()
    with pytest.raises(KeyboardInterrupt):
        run(recipe, runs=tmp_path, workers=1, fractions=[0.5], observer=_Interrupts())
    (done,) = folder.glob("fractions/*/*/*/seed-*/done.json")
    assert not (folder / "results.json").exists()
    stamp = done.stat().st_mtime_ns
    run(recipe, runs=tmp_path, workers=1, fractions=[0.5])
    assert done.stat().st_mtime_ns == stamp
    results, expected = (load_results(f / "results.json") for f in (folder, finished))
    assert results.learning_curve == expected.learning_curve


def test_results_are_of_the_call_and_the_files_stay(finished: Path, recipe: Any) -> None:
    before = load_results(finished / "results.json")
    stamps = {p: p.stat().st_mtime_ns for p in finished.rglob("done.json")}
    without = run(recipe, runs=finished.parent, workers=1).results
    assert without.learning_curve is None
    assert without.arms == before.arms
    again = run(recipe, runs=finished.parent, workers=1, fractions=[0.5]).results
    assert again.learning_curve == before.learning_curve
    assert stamps == {p: p.stat().st_mtime_ns for p in finished.rglob("done.json")}


def test_it_is_refused_before_anything_is_asked_or_trained(recipe: Any, tmp_path: Path) -> None:
    for fractions, message in (([0.01], "none with label"), ([2.0], "expected numbers between")):
        with pytest.raises(UsageError, match=message):
            run(recipe, runs=tmp_path, workers=1, fractions=fractions)
    assert not list(tmp_path.iterdir())
