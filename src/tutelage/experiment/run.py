"""One experiment from end to end. The file to read first.

    load -> examine the student -> annotate -> controls -> search on dev
         -> chosen configuration on all seeds -> fractions of the rows, if requested
         -> test set, opened once -> compare -> results.json, report.html and report.md

Everything that was done is in the run folder. So the same call again, after an interruption or at
the end, does only what is missing and ends with the same `arms` and `comparisons`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tutelage.config.recipe import Recipe
from tutelage.config.training_settings import Config
from tutelage.core.errors import UsageError, require_extra
from tutelage.core.progress import Observer, Silent
from tutelage.core.results import (
    Baselines,
    CurvePoint,
    DepartureResult,
    Results,
    StudentSummary,
    TaskSummary,
    TeacherBaseline,
)
from tutelage.core.storage import digest, write_json, write_jsonl
from tutelage.experiment import diagnostics, learning_curves, manifest, summarise
from tutelage.experiment.baselines import describe_majority, describe_teacher_labels
from tutelage.experiment.prepare import Splits, annotate_arms, learnt_rationales, load_splits
from tutelage.experiment.self_explanations import describe_explanations
from tutelage.experiment.student_check import check_student
from tutelage.experiment.summarise import ArmRun
from tutelage.experiment.teacher_baseline import ask_for_labels
from tutelage.experiment.trainings import Students, Tried
from tutelage.report.page import write_report
from tutelage.student.training.tracking import check_trackers
from tutelage.teacher.annotate import Annotation


@dataclass(frozen=True)
class Run:
    """A run: its folder, and what it found.

    found: the content of the folder's results.json; None where the run was to end after training
    """

    folder: Path
    found: Results | None

    @property
    def results(self) -> Results:
        """What the run found. Raises UsageError where it was to end after training."""
        if self.found is None:
            raise UsageError(
                f"{self.folder}: has no results, because the run was to end after training: run it "
                'with until="report"'
            )
        return self.found


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
    workers: trainings at the same time; None: as many as the machine can hold
    retry_failed, wait: as in `annotate_arms`
    track:   experiment trackers, instead of the recipe's `student.tracking`
    fractions: of the training rows, for learning curves (see `learning_curves`); none: no curves
    until:   the last stage; after "training" the test set is unopened and there are no results
    """
    adapted = recipe.student.lora is not None
    require_extra("train", "running an experiment", *(("peft",) if adapted else ()))
    observer = observer or Silent()
    if track:
        student = recipe.student.model_copy(update={"tracking": tuple(track)})
        recipe = recipe.model_copy(update={"student": student})
    check_trackers(recipe.student.tracking)
    fractions = learning_curves.check_fractions(fractions)
    for departure in recipe.departures_made():
        observer.note(str(departure))
    folder = Path(runs) / recipe.name
    started = time.time()

    observer.stage("Loading the data")
    splits = load_splits(recipe)
    task = recipe.resolved_task()
    subsets = learning_curves.nested_subsets(splits.train, task, fractions)
    for line in summarise.warnings(splits):
        observer.note(line)
    manifest.begin(folder, recipe, splits)

    if recipe.student.lora is not None:
        from tutelage.student.model.lora import check_targets

        # A misspelt name is reported before anything is paid for.
        check_targets(recipe.student.model, recipe.student.lora)

    if recipe.student.compile:
        from tutelage.student.model.precision import check_compiled

        check_compiled(recipe.student.model)

    recipe = check_student(recipe, splits, ledger, observer)

    observer.stage("Asking the teacher for rationales")
    annotations = annotate_arms(
        recipe, splits, ledger, observer, retry_failed=retry_failed, wait=wait
    )
    rationales = learnt_rationales(recipe, splits, annotations)
    learning_curves.check_rationales(subsets, rationales)
    for arm, rows in rationales.items():
        write_jsonl(folder / "rationales" / f"{arm}.jsonl", rows)

    teacher_labels: tuple[TeacherBaseline, ...] = ()
    teacher_note = None
    if until == "report":
        observer.stage("Asking the teacher for labels, as a baseline")
        teacher_labels, teacher_note = ask_for_labels(
            recipe, splits, ledger, observer, retry_failed=retry_failed
        )

    students = Students(recipe, folder, splits, rationales, workers, observer)
    with students.runner:
        observer.stage("Training: the search on dev")
        tried = students.search()
        chosen = {arm: choose(results) for arm, results in tried.items()}
        observer.stage("Training: the chosen configurations on all seeds")
        by_seed = students.train(chosen)
        curve = learning_curves.train_subsets(students, chosen, subsets)
        if until == "training":
            return Run(folder, None)

        observer.stage("Opening the test set")
        test_sha256, rows_sha256 = splits.sources["test"].sha256, digest(list(splits.test))
        manifest.record_test_opening(
            folder, chosen, students.identity(chosen), test_sha256, rows_sha256
        )
        if (openings := manifest.test_set_openings(folder)) > 1:
            observer.note(f"it has now been opened {openings} times, each time for another choice")
        if others := manifest.record_runs_on_same_rows(folder, rows_sha256):
            observer.note(f"other runs were evaluated on the same rows: {', '.join(others)}")
        write_jsonl(folder / "rows.jsonl", summarise.describe_rows(splits, students.task))
        test = students.evaluate_on_test(chosen)
        arm_runs = [
            ArmRun(
                arm,
                tried[arm.name],
                chosen[arm.name],
                by_seed[arm.name],
                rationales.get(arm.name),
                students.evaluate_on_dev(arm, chosen[arm.name]),
                test[arm.name],
            )
            for arm in recipe.arms
        ]
        results = _results(
            recipe,
            splits,
            arm_runs,
            annotations,
            students,
            baselines=Baselines(
                majority=describe_majority(recipe, splits),
                teacher_labels=describe_teacher_labels(recipe, splits, annotations),
                teacher=teacher_labels,
                teacher_note=teacher_note,
            ),
            learning_curve=learning_curves.describe_curve(
                curve, arm_runs, annotations, recipe, splits
            ),
            test_set_openings=openings,
            test_rows_also_used_by=others,
        )
        _write(folder, results)

        observer.stage("What choosing on the test set would have claimed")
        # Only now, with the answer on disk, are models that dev did not choose tested.
        accuracies = students.accuracies_on_test(tried, chosen, test)
        explained = {}
        if recipe.explain_rows:
            observer.stage("Generating the students' own rationales")
            explained = students.explain(chosen)
    results = replace(
        results,
        choosing_on_test=summarise.describe_choosing_on_test(accuracies, recipe),
        explanations=describe_explanations(explained, arm_runs, splits, task, recipe.seeds[0]),
        selection=diagnostics.describe_selection(
            accuracies, arm_runs, recipe.baseline.name, splits, task
        ),
        finished=True,
        seconds=round(time.time() - started, 1),
    )
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
    arm_runs: Sequence[ArmRun],
    annotations: Mapping[str, Annotation],
    students: Students,
    *,
    baselines: Baselines,
    learning_curve: tuple[CurvePoint, ...] | None,
    test_set_openings: int,
    test_rows_also_used_by: tuple[str, ...],
) -> Results:
    """What is known once the test set has been opened; the last stages add the rest."""
    task, families, margin = recipe.resolved_task(), recipe.comparisons(), recipe.margin / 100
    return Results(
        name=recipe.name,
        tutelage_version=manifest.version(),
        finished=False,
        task=TaskSummary(task.name, task.fields, task.labels, task.context),
        data=summarise.describe_data(splits),
        teacher=summarise.describe_teacher(recipe, annotations),
        student=StudentSummary(
            model=recipe.student.model,
            parameters=students.parameters,
            settings=recipe.student.model_dump(mode="json", exclude={"model", "tracking"}),
        ),
        arms=summarise.describe_arms(arm_runs, splits, task),
        comparisons=summarise.describe_comparisons(arm_runs, families, splits, task, margin=margin),
        comparisons_unseen=summarise.describe_comparisons(
            arm_runs, families, splits, task, unseen_only=True, margin=margin
        ),
        context_comparisons=summarise.describe_context_comparisons(
            arm_runs, splits, task, majority="majority" in recipe.baselines, margin=margin
        ),
        departures=tuple(
            DepartureResult(d.rule, d.what, d.reason) for d in recipe.departures_made()
        ),
        choosing_on_test=None,
        explanations=None,
        diagnostics=diagnostics.describe_diagnostics(arm_runs, recipe.baseline.name, splits, task),
        selection=None,
        baselines=baselines,
        learning_curve=learning_curve,
        test_set_openings=test_set_openings,
        test_rows_also_used_by=test_rows_also_used_by,
        training_seconds=summarise.training_seconds(arm_runs),
        seconds=None,
    )


def _write(folder: Path, results: Results) -> None:
    write_json(folder / "results.json", results)
    # The report is made from the files, so that it can be made again from them alone.
    write_report(folder)
