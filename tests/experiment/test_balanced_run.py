"""A run whose metric is balanced accuracy: what it chooses by, what it says, what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import balanced_accuracy_score

from tutelage.cli import terminal
from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.config.training_settings import Config, TrainSettings
from tutelage.core.errors import DataError, UsageError
from tutelage.core.results import load_results
from tutelage.core.storage import read_json, read_jsonl, write_json
from tutelage.core.task import NLI
from tutelage.data.load import load_examples
from tutelage.evaluation.compare import compare
from tutelage.experiment import learning_curves
from tutelage.experiment.prepare import load_splits
from tutelage.experiment.run import Run, run
from tutelage.experiment.summarise import describe_comparisons, too_few_unseen
from tutelage.experiment.trainings import Trial
from tutelage.planning.power_analysis import analyse_power
from tutelage.report.compare_runs import compare_runs
from tutelage.report.page import render_markdown, render_report
from tutelage.report.worth_section import worth_of_run
from tutelage.student.jobs.jobs import TrainingJob, read_predictions
from tutelage.student.training.result import TrainResult

POOL = {"rows": "unlabelled"}
UNEQUAL = {"entailment": 4, "neutral": 9, "contradiction": 2}
"""Rows of each label, in dev; test has twice as many."""


def write_rows(path: Path, source: str, counts: dict[str, int]) -> str:
    """So many rows of each label, of premises of their own; returns the path."""
    left, premises, kept = dict(counts), set(), []
    for row in load_examples(source, NLI):
        if left.get(row.label, 0) and row.fields["premise"] not in premises:
            left[row.label] -= 1
            premises.add(row.fields["premise"])
            kept.append({"uid": row.uid, **row.fields, "label": row.label})
    assert not any(left.values())
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def values(
    small_recipe: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    values = small_recipe(
        name="balanced",
        metric="balanced_accuracy",
        protocol="quick",
        arms=[{"name": "labels"}, {"name": "bought", "strategy": "label", **POOL}],
        spend={"rows": 24},
    )
    for key in ("controls", "baselines", "departures"):
        del values[key]
    twice = {label: 2 * count for label, count in UNEQUAL.items()}
    values["data"] = {
        **values["data"],
        "dev": write_rows(folder / "dev.jsonl", "synthetic:nli?n=150&seed=2", UNEQUAL),
        "test": write_rows(folder / "test.jsonl", "synthetic:nli?n=300&seed=3", twice),
        "gold": 32,
        "unlabelled": "synthetic:nli?n=60&seed=4",
    }
    return values


@pytest.fixture(scope="module")
def recipe(values: dict[str, Any]) -> Recipe:
    return parse_recipe(values)


@pytest.fixture(scope="module")
def done(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    return run(recipe, runs=folder, ledger=folder / "l.sqlite", workers=1)


def balanced(path: Path) -> float:
    """The balanced accuracy of a file of predictions, by scikit-learn."""
    rows = read_predictions(path)
    score: float = balanced_accuracy_score([p.gold for p in rows], [p.label for p in rows])
    return score


@pytest.mark.filterwarnings("ignore:A single label")
def test_dev_chooses_by_it(done: Run) -> None:
    """Checkpoints; configurations are chosen by what their checkpoints reached."""
    logs = list(done.folder.glob("arms/*/*/*/log.jsonl"))
    assert len(logs) == 6
    for log in logs:
        evaluated = [row for row in read_jsonl(log) if "dev_balanced_accuracy" in row]
        assert not any("dev_accuracy" in row for row in read_jsonl(log)) and evaluated
        best = max(evaluated, key=lambda row: row["dev_balanced_accuracy"])
        result = read_json(log.parent / "done.json")["result"]
        assert (result["dev_accuracy"], result["best_step"]) == (
            best["dev_balanced_accuracy"],
            best["step"],
        )
        assert balanced(log.parent / "dev.jsonl") == pytest.approx(result["dev_accuracy"])
    config = Config(1e-3, 1.0)
    result = TrainResult(**read_json(logs[0].parent / "done.json")["result"])
    assert Trial(0, config, result).dev_accuracy == balanced(logs[0].parent / "dev.jsonl")


def test_the_metric_belongs_to_a_trainings_key_where_it_is_not_accuracy(tmp_path: Path) -> None:
    settings, rows = TrainSettings(), load_examples("synthetic:nli?n=3&seed=1", NLI)
    parts = ("scratch:t5-tiny", None, (), tuple(rows), NLI, settings, tmp_path)
    plain, other = TrainingJob(*parts), TrainingJob(*parts, metric="balanced_accuracy")
    assert plain.key == TrainingJob(*parts, metric="accuracy").key != other.key


@pytest.mark.filterwarnings("ignore:A single label")
def test_every_figure_is_one_of_it(done: Run, recipe: Recipe) -> None:
    results = done.results
    assert results.metric == "balanced_accuracy"
    tests = {
        arm.name: [balanced(done.folder / folder / "test.jsonl") for folder in arm.folder_by_seed]
        for arm in results.arms
    }
    for arm in results.arms:
        assert arm.test.accuracy_by_seed == pytest.approx(tests[arm.name])
        assert "within labels" in arm.test.ci_method or "no variance" in arm.test.ci_method
    mean = {name: sum(of) / len(of) for name, of in tests.items()}
    assert results.comparisons and results.control_comparisons and results.context_comparisons
    own = [*results.comparisons, *results.control_comparisons]
    for each in own:
        assert each.difference == pytest.approx(mean[each.arm] - mean[each.baseline])
    majority = results.baselines.majority
    assert majority is not None and majority.accuracy == pytest.approx(1 / 3)
    for each in results.context_comparisons:
        if each.kind == "majority":
            assert each.difference == pytest.approx(mean[each.arm] - 1 / 3)
    worth = results.worth
    assert worth is not None
    assert {c.arm: c.accuracy for c in worth.candidates} == pytest.approx(
        {name: mean[name] for name in ("labels", "bought")}
    )
    assert [a.accuracy for a in worth.agreement] == [1.0]
    assert worth.agreement[0].majority_share == pytest.approx(1 / 3)
    first = read_json(done.folder / "first-student" / "training" / "done.json")["result"]
    assert worth.agreement[0].student_accuracy == first["dev_accuracy"]
    assert results.choosing_on_test is not None and results.selection is not None
    for name, best in results.choosing_on_test.by_arm.items():
        assert best.best_accuracy >= max(tests[name])
        assert results.selection.by_arm[name].chosen_accuracy == pytest.approx(mean[name])
    # The table of labels, and slices, are about rows as always.
    plain = results.diagnostics["labels"].by_label
    recalls = [found.accuracy for found in plain]
    assert sum(recalls) / 3 == pytest.approx(mean["labels"])


def test_nothing_calls_it_accuracy(done: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """But the sections that are about accuracy: slices, calibration, rows that a reader picks."""
    unqualified = re.compile(r"(?<!balanced )(?<!Balanced )\baccurac", re.IGNORECASE)
    markdown = render_markdown(done.results, title="t")
    about_rows = re.compile(
        r"^## (Accuracy by slice|Calibration|.*[Pp]redictions).*?(?=^## |\Z)", re.MULTILINE | re.S
    )
    assert "Balanced accuracy" in markdown
    assert unqualified.findall(about_rows.sub("", markdown)) == []
    page = render_report(done.results, title="t")
    page = re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.S)
    page = re.sub(
        r'<section aria-labelledby="(slices|calibration)">.*?</section>', "", page, flags=re.S
    )
    shown = re.sub(r"<[^>]*>", " ", page)
    assert "balanced accuracy" in shown
    assert unqualified.findall(shown) == []
    terminal.print_results(done.results)
    from tutelage.cli.worth import worth as worth_command

    worth_command(done.folder)
    printed = " ".join(capsys.readouterr().out.split())
    assert "Differences in test balanced accuracy" in printed
    assert unqualified.findall(printed) == []
    assert "balanced accuracy" in worth_of_run(done.folder).columns


def test_figures_name_it_on_their_axes(done: Run, figures: None) -> None:
    page = render_report(done.results, title="t")
    titles = re.findall(r"<title[^>]*>(.*?)</title>", page)
    assert any("Test balanced accuracy of each arm" in title for title in titles)
    assert any("Differences in balanced accuracy" in title for title in titles)
    assert any("Test balanced accuracy by cost" in title for title in titles)


def test_results_without_the_key_are_about_accuracy(done: Run, tmp_path: Path) -> None:
    document = read_json(done.folder / "results.json")
    assert document.pop("metric") == "balanced_accuracy"
    write_json(tmp_path / "results.json", document)
    assert load_results(tmp_path / "results.json").metric == "accuracy"
    with pytest.raises(UsageError, match="got runs with different metrics, accuracy and balanced"):
        compare_runs(tmp_path, done.folder)
    both = compare_runs(done.folder, done.folder)
    assert both.metric == "balanced accuracy"
    assert all(arm.difference == 0 and arm.paired is not None for arm in both.arms)


def test_a_curve_of_rows_is_of_it_too(done: Run, recipe: Recipe) -> None:
    splits = load_splits(recipe)
    dev = {
        arm.name: {
            seed: read_predictions(done.folder / folder / "dev.jsonl")
            for seed, folder in zip(arm.seeds, arm.folder_by_seed, strict=True)
        }
        for arm in done.results.arms
    }
    groups = splits.groups(splits.dev, NLI)
    (found,) = compare(dev, [("bought", "labels")], NLI, groups, balanced=True)
    arms = {arm.name: arm.dev.accuracy for arm in done.results.arms}
    assert found.difference == pytest.approx(arms["bought"] - arms["labels"])
    assert learning_curves.describe_curve([], [], {}, recipe, splits) is None


def test_plan_expects_wider_intervals(recipe: Recipe, values: dict[str, Any]) -> None:
    splits, nowhere = load_splits(recipe), Path("nowhere")
    found = analyse_power(recipe, splits, nowhere, None)
    plain = analyse_power(parse_recipe(values | {"metric": "accuracy"}), splits, nowhere, None)
    assert found is not None and plain is not None
    sizes = found.expected.detectable, plain.expected.detectable
    assert sizes[0] is None or (sizes[1] is not None and sizes[0] > sizes[1])
    text = " ".join(found.sentences())
    assert "an arm's balanced accuracy over seeds" in text


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_label_with_a_single_row_is_refused_before_anything_is_done(
    values: dict[str, Any], tmp_path: Path, split: str
) -> None:
    few = write_rows(
        tmp_path / "few.jsonl",
        "synthetic:nli?n=150&seed=9",
        {"entailment": 5, "neutral": 5, "contradiction": 1},
    )
    changed = values | {"data": {**values["data"], split: few}}
    with pytest.raises(DataError) as caught:
        run(parse_recipe(changed), runs=tmp_path / "runs", ledger=tmp_path / "l.sqlite")
    message = str(caught.value)
    assert f"{split} has a single row with the label 'contradiction'" in message
    assert message.startswith("metric: balanced_accuracy needs two rows") and "\n" not in message
    assert not (tmp_path / "runs").exists() and not (tmp_path / "l.sqlite").exists()
    load_splits(parse_recipe(changed | {"metric": "accuracy"}))


def test_other_metrics_are_refused_in_one_line(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"metric: .*'f1'"):
        parse_recipe(values | {"metric": "f1"})


def test_rows_without_a_shared_context_may_be_too_few(recipe: Recipe) -> None:
    import dataclasses

    splits = load_splits(recipe)
    assert too_few_unseen(splits, NLI) is None
    alone = next(row for row in splits.test if row.label == "contradiction")
    unseen = frozenset({alone.uid, *(r.uid for r in splits.test if r.label == "neutral")})
    overlap = dataclasses.replace(splits.overlap, unseen_test=unseen)
    partly = dataclasses.replace(splits, overlap=overlap)
    why = too_few_unseen(partly, NLI)
    assert why is not None and "with the label contradiction they have a single row" in why
    families = recipe.comparisons()
    assert describe_comparisons([], families, partly, NLI, unseen_only=True, balanced=True) == ()
