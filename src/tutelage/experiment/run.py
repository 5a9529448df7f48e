"""One experiment from end to end. The file to read first.

    load -> examine the student -> annotate -> controls
         -> for each seed and arm: search on dev, train the choice afresh
         -> fractions of the rows, if requested
         -> test set, opened once -> compare -> results.json, report.html and report.md
         -> more seeds, if the recipe plans to add them until the comparisons are decided

Everything that was done is in the run folder. So the same call again, after an interruption or at
the end, does only what is missing and ends with the same `arms` and `comparisons`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tutelage.config.recipe import Recipe
from tutelage.core.errors import UsageError, require_extra
from tutelage.core.progress import Observer, Silent
from tutelage.core.results import (
    Baselines,
    CurvePoint,
    DepartureResult,
    OtherAnswer,
    PreviewedArm,
    ProtocolSummary,
    Results,
    StudentSummary,
    TaskSummary,
    TeacherAgreement,
    TeacherBaseline,
)
from tutelage.core.storage import digest, write_json, write_jsonl
from tutelage.core.types import Prediction, Rationale
from tutelage.experiment import (
    diagnostics,
    interim,
    learning_curves,
    manifest,
    replication,
    summarise,
)
from tutelage.experiment.arm_rows import draw_rows
from tutelage.experiment.baselines import (
    describe_bag_of_words,
    describe_majority,
    describe_teacher_labels,
    fit_bag_of_words,
)
from tutelage.experiment.before_buying import compare_with_known_labels
from tutelage.experiment.control_comparisons import describe_controls, describe_shares
from tutelage.experiment.interim import Analysis
from tutelage.experiment.learnt_rows import ArmRows
from tutelage.experiment.prepare import Splits, annotate_arms, learnt_rationales, load_splits
from tutelage.experiment.preview import preview, preview_line
from tutelage.experiment.self_explanations import describe_explanations
from tutelage.experiment.student_check import check_student
from tutelage.experiment.summarise import ArmRun
from tutelage.experiment.teacher_baseline import ask_for_labels
from tutelage.experiment.teacher_summary import describe_teacher
from tutelage.experiment.train_arms import Trained, train_all
from tutelage.experiment.training_rows import TrainingRows, write_drawn
from tutelage.experiment.trainings import MakeRunner, Students
from tutelage.experiment.worth_of_run import describe_worth
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
    elsewhere: MakeRunner | None = None,
    power_line: Callable[[Recipe, Splits, Path], str | None] | None = None,
) -> Run:
    """Run an experiment, or what is missing of it, and return its results.

    runs:    the folder that holds a folder for each run
    ledger:  where paid answers are kept; None: `.tutelage/ledger.sqlite`
    workers: trainings at the same time; None: as many as the machine can hold
    retry_failed, wait: as in `annotate_arms`
    track:   experiment trackers, instead of the recipe's `student.tracking`
    fractions: of the training rows, for learning curves (see `learning_curves`); none: no curves
    elsewhere: runs the trainings in the place of this machine's workers
    power_line: gives a line about what the run can detect, shown before anything is paid for
    until:   the last stage; after "training" the test set is unopened and there are no results
    """
    adapted = recipe.student.lora is not None
    also = ("sklearn",) if "bag_of_words" in recipe.baselines else ()
    require_extra("train", "running an experiment", *also, *(("peft",) if adapted else ()))
    observer = observer or Silent()
    if track:
        student = recipe.student.model_copy(update={"tracking": tuple(track)})
        recipe = recipe.model_copy(update={"student": student})
    check_trackers(recipe.student.tracking)
    fractions = learning_curves.check_fractions(fractions)
    if fractions and recipe.draws_rows:
        raise UsageError(
            "--fractions: does not work where each seed draws its own rows: add arms with gold: to "
            "the recipe, which are a curve of gold rows"
        )
    for departure in recipe.departures_made():
        observer.note(str(departure))
    folder = Path(runs) / recipe.name
    started = time.time()

    observer.stage("Loading the data")
    splits = load_splits(recipe)
    task = recipe.resolved_task()
    subsets = learning_curves.nested_subsets(splits.train, task, fractions)
    for line in summarise.warnings(splits, recipe):
        observer.note(line)
    manifest.begin(folder, recipe, splits)

    recipe = check_student(recipe, splits, ledger, observer)
    if power_line is not None and (detectable := power_line(recipe, splits, Path(runs))):
        observer.note(detectable)

    drawn: ArmRows | None = None
    previewed: tuple[PreviewedArm, ...] = ()
    agreement: tuple[TeacherAgreement, ...] = ()
    rationales: dict[str, list[Rationale]]
    if recipe.draws_rows:
        agreement = compare_with_known_labels(
            recipe, splits, folder, ledger, observer, retry_failed=retry_failed
        )
        observer.stage("Drawing each seed's rows, and asking the teacher")
        drawn = draw_rows(recipe, splits, ledger, observer, retry_failed=retry_failed, wait=wait)
        annotations = drawn.annotations
        rationales = {name: list(each.rationales) for name, each in annotations.items()}
        previewed = preview(recipe, splits, drawn)
        observer.note(preview_line(previewed, recipe.metric))
    else:
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

    prepared = _Prepared(
        splits, annotations, rationales, teacher_labels, teacher_note, previewed, agreement
    )
    training = TrainingRows(recipe, splits, rationales, drawn)
    students = Students(recipe, folder, splits, training, workers, observer, elsewhere)
    with students.runner:
        for analysis in interim.analyses_of(recipe):  # one, unless the recipe plans to add seeds
            students.recipe = recipe.with_first_replicates(analysis.seeds)
            if analysis.planned:
                observer.stage(
                    f"An interim analysis: {analysis.seeds} of at most {analysis.plan[-1]} seeds"
                )
            trained = train_all(students, subsets)
            if students.rows.drawn is not None:
                write_drawn(folder, students.rows.drawn)
            if until == "training":
                return Run(folder, None)
            tested = _test(students, trained, prepared, analysis)
            if tested.results.interim is None or tested.results.interim.decided:
                break

        observer.stage("What choosing on the test set would have claimed")
        # Only now, with the answer on disk, are the trials tested.
        accuracies = students.accuracies_on_test(trained.trials, tested.predictions)
        explained = {}
        if recipe.explain_rows:
            observer.stage("Generating the students' own rationales")
            explained = students.explain(trained.replicates)
    results = replace(
        tested.results,
        choosing_on_test=summarise.describe_choosing_on_test(accuracies, recipe),
        explanations=describe_explanations(
            explained, tested.arm_runs, splits, task, students.rows.labels(splits)
        ),
        selection=diagnostics.describe_selection(
            accuracies,
            tested.arm_runs,
            recipe.baseline.name,
            splits,
            task,
            balanced=recipe.balanced,
        ),
        finished=True,
        seconds=round(time.time() - started, 1),
    )
    write_json(folder / "results.json", results)
    # The report is made from the files, so that it can be made again from them alone.
    write_report(folder)
    return Run(folder, results)


@dataclass(frozen=True)
class _Prepared:
    """What is there before the first training, whatever the seeds."""

    splits: Splits
    annotations: Mapping[str, Annotation]
    rationales: Mapping[str, list[Rationale]]
    teacher_labels: tuple[TeacherBaseline, ...]
    teacher_note: str | None
    preview: tuple[PreviewedArm, ...]
    agreement: tuple[TeacherAgreement, ...]


@dataclass(frozen=True)
class _Tested:
    """What the test set showed."""

    predictions: Mapping[str, Mapping[int, list[Prediction]]]
    arm_runs: Sequence[ArmRun]
    results: Results


def _test(students: Students, trained: Trained, prepared: _Prepared, analysis: Analysis) -> _Tested:
    """Open the test set for what dev chose, and write the results."""
    recipe, folder, observer = students.recipe, students.folder, students.observer
    splits = prepared.splits
    observer.stage("Opening the test set")
    test_sha256, rows_sha256 = splits.sources["test"].sha256, digest(list(splits.test))
    opening = manifest.opening_of(
        trained.choices, students.identity(trained.choices), test_sha256, rows_sha256
    )
    plan = analysis.plan if analysis.planned else ()
    other_answers = manifest.record_test_opening(folder, opening, plan)
    for line in replication.other_openings(other_answers):
        observer.note(line)
    if others := manifest.record_runs_on_same_rows(folder, rows_sha256):
        observer.note(f"other runs were evaluated on the same rows: {', '.join(others)}")
    write_jsonl(folder / "rows.jsonl", summarise.describe_rows(splits, students.task))
    test = students.evaluate_on_test(trained.replicates)
    arm_runs = [
        ArmRun(
            arm,
            trained.trials[arm.name],
            trained.replicates[arm.name],
            students.rows.learnt_rationales(arm, prepared.rationales),
            students.evaluate_on_dev(trained.replicates[arm.name]),
            test[arm.name],
            None
            if (drawn := students.rows.drawn) is None
            else drawn.learnt[arm.name][recipe.replicates[0]].rows,
        )
        for arm in recipe.arms
    ]
    drawn = students.rows.drawn
    words = fit_bag_of_words(
        recipe, splits, None if drawn is None else drawn.gold_of(recipe.baseline.name)
    )
    results = _results(
        recipe,
        splits,
        arm_runs,
        prepared.annotations,
        students,
        analysis,
        baselines=Baselines(
            majority=describe_majority(recipe, splits),
            bag_of_words=describe_bag_of_words(words, recipe, splits),
            teacher_labels=describe_teacher_labels(recipe, splits, prepared.annotations),
            teacher=prepared.teacher_labels,
            teacher_note=prepared.teacher_note,
        ),
        learning_curve=learning_curves.describe_curve(
            trained.curve, arm_runs, prepared.annotations, recipe, splits
        ),
        bag_of_words={seed: each.predictions for seed, each in words.items()},
        other_answers=other_answers,
        test_rows_also_used_by=others,
        preview=prepared.preview,
        agreement=prepared.agreement,
    )
    # An earlier report would contradict these results; theirs is written when they are complete.
    for name in ("report.html", "report.md"):
        (folder / name).unlink(missing_ok=True)
    write_json(folder / "results.json", results)
    manifest.record_answer(folder, opening, results.comparisons)
    return _Tested(test, arm_runs, results)


def _results(
    recipe: Recipe,
    splits: Splits,
    arm_runs: Sequence[ArmRun],
    annotations: Mapping[str, Annotation],
    students: Students,
    analysis: Analysis,
    *,
    baselines: Baselines,
    learning_curve: tuple[CurvePoint, ...] | None,
    bag_of_words: Mapping[int, Sequence[Prediction]],
    other_answers: tuple[OtherAnswer, ...],
    test_rows_also_used_by: tuple[str, ...],
    preview: tuple[PreviewedArm, ...],
    agreement: tuple[TeacherAgreement, ...],
) -> Results:
    """What is known once the test set has been opened; the last stages add the rest."""
    task, families, margin = recipe.resolved_task(), recipe.comparisons(), recipe.margin / 100
    balanced = recipe.balanced
    arms = summarise.describe_arms(arm_runs, splits, task, recipe, students.folder)
    comparisons, unseen = (
        interim.corrected(
            summarise.describe_comparisons(
                arm_runs, families, splits, task, unseen_only=only, margin=margin, balanced=balanced
            ),
            analysis,
        )
        for only in (False, True)
    )
    return Results(
        name=recipe.name,
        tutelage_version=manifest.version(),
        finished=False,
        task=TaskSummary(task.name, task.fields, task.labels, task.context),
        metric=recipe.metric,
        data=summarise.describe_data(splits, recipe),
        teacher=describe_teacher(recipe, annotations, students.rows.drawn),
        student=StudentSummary(
            model=recipe.student.model,
            parameters=students.parameters,
            settings=recipe.student.model_dump(mode="json", exclude={"model", "tracking"}),
        ),
        protocol=ProtocolSummary(recipe.protocol, recipe.left_out()),
        search=replication.describe_search(recipe),
        arms=arms,
        recommended=replication.recommended_model(arms, comparisons),
        comparisons=comparisons,
        comparisons_unseen=unseen,
        context_comparisons=summarise.describe_context_comparisons(
            arm_runs,
            splits,
            task,
            majority="majority" in recipe.baselines,
            bag_of_words=bag_of_words,
            margin=margin,
            balanced=balanced,
        ),
        control_comparisons=describe_controls(arm_runs, recipe, splits),
        shares_of_gain=describe_shares(arm_runs, recipe, comparisons, splits),
        departures=tuple(
            DepartureResult(d.rule, d.what, d.reason) for d in recipe.departures_made()
        ),
        choosing_on_test=None,
        explanations=None,
        diagnostics=diagnostics.describe_diagnostics(arm_runs, recipe.baseline.name, splits, task),
        selection=None,
        baselines=baselines,
        learning_curve=learning_curve,
        interim=interim.describe_interim(comparisons, analysis),
        worth=None
        if (drawn := students.rows.drawn) is None
        else describe_worth(recipe, splits, drawn, arms, arm_runs, preview, agreement),
        other_answers=other_answers,
        test_rows_also_used_by=test_rows_also_used_by,
        training_seconds=summarise.training_seconds(arm_runs),
        seconds=None,
    )
