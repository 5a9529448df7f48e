"""One experiment from end to end. The file to read first.

    load -> annotate -> controls -> search on dev -> chosen configuration on all seeds
         -> fractions of the rows, if asked for
         -> test, once -> compare -> results.json, report.html and report.md

Everything that was done is in the run folder, so that the same call again, after an interruption or
after all is done, does only what is missing and ends with the same `arms` and `comparisons`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tutelage.config.recipe import Recipe
from tutelage.config.training_settings import Config
from tutelage.core.progress import Observer, Silent
from tutelage.core.storage import as_json, digest, write_json, write_jsonl
from tutelage.experiment import baselines, diagnostics, learning_curves, manifest, summarise
from tutelage.experiment.prepare import Splits, annotate_arms, learnt_rationales, load_splits
from tutelage.experiment.self_explanations import describe_explanations
from tutelage.experiment.summarise import ArmOutcome
from tutelage.experiment.teacher_baseline import ask_for_labels
from tutelage.experiment.trainings import Students, Tried
from tutelage.report.page import write_report
from tutelage.student.training.tracking import check_trackers
from tutelage.teacher.annotate import Annotation


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, and the content of its results.json."""

    folder: Path
    results: Mapping[str, Any]


def run(
    recipe: Recipe,
    *,
    runs: Path | str = "runs",
    ledger: Path | None = None,
    workers: int | None = None,
    observer: Observer | None = None,
    until: Literal["training", "report"] = "report",
    retry_failed: bool = False,
    wait: bool = True,
    track: Sequence[str] = (),
    fractions: Sequence[float] = (),
) -> Run:
    """Run an experiment, or what is missing of it, and return its results.

    runs:    the folder that holds a folder for each run
    ledger:  where paid answers are kept; None: `.tutelage/ledger.sqlite`
    workers: trainings at once; None: as many as the machine carries
    retry_failed, wait: as in `annotate_arms`
    track:   who follows the trainings, in the place of the recipe's `student.tracking`
    fractions: of the training rows, for learning curves (see `curves`); none: no curves
    until:   the last stage; after "training" the test set is untouched and there are no results
    """
    observer = observer or Silent()
    if track:
        student = recipe.student.model_copy(update={"tracking": tuple(track)})
        recipe = recipe.model_copy(update={"student": student})
    check_trackers(recipe.student.tracking)
    fractions = learning_curves.check_fractions(fractions)
    for departure in recipe.departed():
        observer.note(f"departs from the rule of {departure}")
    folder = Path(runs) / recipe.name
    started = time.time()

    observer.stage("Reading the data")
    splits = load_splits(recipe)
    subsets = learning_curves.nested_subsets(splits.train, recipe.resolved_task(), fractions)
    for line in summarise.warnings(splits):
        observer.note(line)
    manifest.begin(folder, recipe, splits)

    if recipe.student.lora is not None:
        from tutelage.student.model.lora import check_targets

        # A name that is misspelt is told before anything is paid for.
        check_targets(recipe.student.model, recipe.student.lora)

    if recipe.student.compile:
        from tutelage.student.model.precision import check_compiled

        check_compiled(recipe.student.model)

    observer.stage("Asking the teacher")
    annotations = annotate_arms(
        recipe, splits, ledger, observer, retry_failed=retry_failed, wait=wait
    )
    rationales = learnt_rationales(recipe, splits, annotations)
    learning_curves.check_rationales(subsets, rationales)
    for arm, rows in rationales.items():
        write_jsonl(folder / "rationales" / f"{arm}.jsonl", rows)

    teacher_labels = {}
    if until == "report":
        observer.stage("Asking the teacher for labels, as a baseline")
        teacher_labels = ask_for_labels(recipe, splits, ledger, observer, retry_failed=retry_failed)

    students = Students(recipe, folder, splits, rationales, workers, observer)
    with students.runner:
        observer.stage("Training: the search on dev")
        tried = students.search()
        chosen = {arm: choose(results) for arm, results in tried.items()}
        observer.stage("Training: the chosen configurations on all seeds")
        by_seed = students.train(chosen)
        curve = learning_curves.train_subsets(students, chosen, subsets)
        if until == "training":
            return Run(folder, {})

        observer.stage("Opening the test set")
        test_sha256, rows_sha256 = splits.sources["test"].sha256, digest(list(splits.test))
        manifest.record_test_reading(
            folder, chosen, students.identity(chosen), test_sha256, rows_sha256
        )
        if (readings := manifest.test_readings(folder)) > 1:
            observer.note(f"it has been opened {readings} times now, for another choice each time")
        if others := manifest.record_other_readers(folder, rows_sha256):
            observer.note(f"the same rows were read by {', '.join(others)}")
        write_jsonl(folder / "rows.jsonl", summarise.describe_rows(splits, students.task))
        test = students.read_test(chosen)
        outcomes = [
            ArmOutcome(
                arm,
                tried[arm.name],
                chosen[arm.name],
                by_seed[arm.name],
                rationales.get(arm.name),
                students.read_dev(arm, chosen[arm.name]),
                test[arm.name],
            )
            for arm in recipe.arms
        ]
        results = _results(recipe, splits, outcomes, annotations, students, folder, others)
        results["baselines"] |= teacher_labels
        results["learning_curve"] = learning_curves.describe_curve(
            curve, outcomes, annotations, recipe, splits
        )
        _write(folder, results)

        observer.stage("What choosing on the test set would have claimed")
        # Only now, with the answer on disk, does anything that dev did not choose see the test set.
        accuracies = students.accuracies_on_test(tried, chosen, test)
        explained = {}
        if recipe.explain_rows:
            observer.stage("Having the students explain")
            explained = students.explain(chosen)
    results["choosing_on_test"] = summarise.describe_choosing_on_test(accuracies, recipe)
    results["explanations"] = describe_explanations(
        explained, outcomes, splits, recipe.resolved_task(), recipe.seeds[0]
    )
    results["selection"] = diagnostics.describe_selection(
        accuracies, outcomes, recipe.baseline.name, splits, recipe.resolved_task()
    )
    results["finished"] = True
    results["seconds"] = round(time.time() - started, 1)
    _write(folder, results)
    return Run(folder, results)


def choose(tried: Tried) -> Config:
    """The configuration with the best mean dev accuracy over its seeds; the earliest of equals."""
    by_config: dict[Config, list[float]] = {}
    for config, _, result in tried:
        by_config.setdefault(config, []).append(result.dev_accuracy)
    return max(by_config, key=lambda config: sum(by_config[config]) / len(by_config[config]))


def _results(
    recipe: Recipe,
    splits: Splits,
    outcomes: Sequence[ArmOutcome],
    annotations: Mapping[str, Annotation],
    students: Students,
    folder: Path,
    others: Sequence[str],
) -> dict[str, Any]:
    task, families, margin = recipe.resolved_task(), recipe.comparisons(), recipe.margin / 100
    return {
        "name": recipe.name,
        "tutelage_version": manifest.version(),
        "finished": False,
        "task": {
            "name": task.name,
            "fields": task.fields,
            "labels": task.labels,
            "context": task.context,
        },
        "data": summarise.describe_data(splits),
        "teacher": summarise.describe_teacher(recipe, annotations),
        "student": {
            "model": recipe.student.model,
            "parameters": students.parameters,
            "settings": recipe.student.model_dump(exclude={"model", "tracking"}),
        },
        "arms": summarise.describe_arms(outcomes, splits, task),
        "comparisons": summarise.describe_comparisons(
            outcomes, families, splits, task, margin=margin
        ),
        "comparisons_unseen": summarise.describe_comparisons(
            outcomes, families, splits, task, unseen_only=True, margin=margin
        ),
        "context_comparisons": summarise.describe_context_comparisons(
            outcomes, splits, task, majority="majority" in recipe.baselines, margin=margin
        ),
        "departures": as_json(recipe.departed()),
        "choosing_on_test": None,
        "explanations": None,
        "looks": diagnostics.describe_looks(outcomes, recipe.baseline.name, splits, task),
        "selection": None,
        "baselines": baselines.describe_baselines(recipe, splits, annotations),
        "test_readings": manifest.test_readings(folder),
        "test_rows_also_read_by": others,
        "training_seconds": summarise.training_seconds(outcomes),
    }


def _write(folder: Path, results: Mapping[str, Any]) -> None:
    write_json(folder / "results.json", results)
    # The report is made of the files, so that it can be made again from them alone.
    write_report(folder)
