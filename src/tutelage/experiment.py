"""One experiment from end to end. The file to read first.

    load -> annotate -> controls -> search on dev -> chosen configuration on all seeds
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

from tutelage import manifest, outcome
from tutelage.observer import Observer, Silent
from tutelage.outcome import ArmOutcome
from tutelage.preparation import Splits, annotate_arms, learnt_rationales, load_splits
from tutelage.recipe import ArmSection, Config, Recipe
from tutelage.records import Prediction
from tutelage.report.page import write_report
from tutelage.runfolder import read_json, write_json, write_jsonl
from tutelage.student.jobs import (
    Runner,
    ScoringJob,
    TrainingJob,
    cores,
    finished,
    read_predictions,
    workers_for,
)
from tutelage.student.settings import TrainResult
from tutelage.student.target import build_training_examples
from tutelage.student.tracking import Tracking, check_trackers
from tutelage.teacher.annotate import Annotation

Tried = Sequence[tuple[Config, int, TrainResult]]
"""Trained configurations of one arm: (configuration, seed, result)."""


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
) -> Run:
    """Run an experiment, or what is missing of it, and return its results.

    runs:    the folder that holds a folder for each run
    ledger:  where paid answers are kept; None: `.tutelage/ledger.sqlite`
    workers: trainings at once; None: as many as the machine carries
    retry_failed, wait: as in `annotate_arms`
    track:   who follows the trainings, in the place of the recipe's `student.tracking`
    until:   the last stage; after "training" the test set is untouched and there are no results
    """
    observer = observer or Silent()
    if track:
        student = recipe.student.model_copy(update={"tracking": tuple(track)})
        recipe = recipe.model_copy(update={"student": student})
    check_trackers(recipe.student.tracking)
    folder = Path(runs) / recipe.name
    started = time.time()

    observer.stage("Reading the data")
    splits = load_splits(recipe)
    for line in outcome.warnings(splits):
        observer.note(line)
    manifest.begin(folder, recipe, splits)

    if recipe.student.lora is not None:
        from tutelage.student.adapters import check_targets

        # A name that is misspelt is told before anything is paid for.
        check_targets(recipe.student.model, recipe.student.lora.settings())

    observer.stage("Asking the teacher")
    annotations = annotate_arms(
        recipe, splits, ledger, observer, retry_failed=retry_failed, wait=wait
    )
    rationales = learnt_rationales(recipe, splits, annotations)
    for arm, rows in rationales.items():
        write_jsonl(folder / "rationales" / f"{arm}.jsonl", rows)

    students = _Students(recipe, folder, splits, rationales, workers, observer)
    with students.runner:
        observer.stage("Training: the search on dev")
        tried = students.search()
        chosen = {arm: choose(results) for arm, results in tried.items()}
        observer.stage("Training: the chosen configurations on all seeds")
        by_seed = students.train(chosen)
        if until == "training":
            return Run(folder, {})

        observer.stage("Opening the test set")
        manifest.record_test_reading(folder, chosen, splits.sources["test"].sha256)
        write_jsonl(folder / "rows.jsonl", outcome.describe_rows(splits, students.task))
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
        results = _results(recipe, splits, outcomes, annotations, students, folder)
        _write(folder, results)

        observer.stage("What choosing on the test set would have claimed")
        # Only now, with the answer on disk, does anything that dev did not choose see the test set.
        accuracies = students.accuracies_on_test(tried, chosen, test)
    results["choosing_on_test"] = outcome.describe_choosing_on_test(accuracies, recipe)
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
    students: _Students,
    folder: Path,
) -> dict[str, Any]:
    task, pairs = recipe.resolved_task(), recipe.comparisons()
    return {
        "name": recipe.name,
        "tutelage_version": manifest.version(),
        "finished": False,
        "task": {"name": task.name, "fields": task.fields, "labels": task.labels},
        "data": outcome.describe_data(splits),
        "teacher": outcome.describe_teacher(recipe, annotations),
        "student": {
            "model": recipe.student.model,
            "parameters": students.parameters,
            "settings": recipe.student.model_dump(exclude={"model", "tracking"}),
        },
        "arms": outcome.describe_arms(outcomes, splits, task),
        "comparisons": outcome.describe_comparisons(outcomes, pairs, splits, task),
        "comparisons_unseen": outcome.describe_comparisons(
            outcomes, pairs, splits, task, unseen_only=True
        ),
        "choosing_on_test": None,
        "test_readings": manifest.test_readings(folder),
        "training_seconds": {
            o.arm.name: round(sum(result.seconds for _, _, result in o.tried), 1) for o in outcomes
        },
    }


def _write(folder: Path, results: Mapping[str, Any]) -> None:
    write_json(folder / "results.json", results)
    # The report is made of the files, so that it can be made again from them alone.
    write_report(folder)


class _Students:
    """The trainings and readings of one run: jobs in the run folder's arms/ARM/CONFIG/seed-N."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        splits: Splits,
        rationales: Mapping[str, Any],
        workers: int | None,
        observer: Observer,
    ) -> None:
        self.recipe, self.folder, self.splits, self.observer = recipe, folder, splits, observer
        self.task = recipe.resolved_task()
        self.training = {
            arm.name: build_training_examples(
                splits.train, self.task, rationales.get(arm.name), arm.effective_objective
            )
            for arm in recipe.arms
        }
        new = recipe.student.model.startswith("scratch:")
        if new:
            # New students are small, whatever their number of weights will be.
            self.runner = Runner(workers or cores(), observer.job)
            if not (folder / "results.json").exists():
                self.runner.warm_up()
        # Only here, with the workers under way: this imports torch as well.
        from tutelage.student.model import count_parameters

        self.tokenizer = self._train_tokenizer() if new else None
        self.parameters = count_parameters(recipe.student.model, self.tokenizer)
        if not new:
            adapted = recipe.student.lora is not None
            self.runner = Runner(workers or workers_for(self.parameters, adapted), observer.job)

    def _train_tokenizer(self) -> Path:
        """For new weights: a tokenizer trained on the training rows of all arms, shared by all."""
        from tutelage.student.scratch import tokenizer_for

        rows = (row for examples in self.training.values() for row in examples)
        return tokenizer_for(rows, self.folder / "tokenizer")

    def job(self, arm: ArmSection, config: Config, seed: int) -> TrainingJob:
        """One training."""
        name = f"{arm.name}/{config.name}/seed-{seed}"
        return TrainingJob(
            self.recipe.student.model,
            self.tokenizer,
            self.training[arm.name],
            self.splits.dev,
            self.task,
            self.recipe.student.settings(config, seed, arm.effective_objective),
            self.folder / "arms" / name,
            Tracking(self.recipe.student.tracking, f"{self.recipe.name}/{name}"),
        )

    def search(self) -> Mapping[str, Tried]:
        """Every configuration of every arm on the search's seeds."""
        plan = [
            (arm, config, seed)
            for seed in self.recipe.search_seeds
            for arm in self.recipe.arms
            for config in self.recipe.configs(arm)
        ]
        results = self._run([self.job(*place) for place in plan])
        tried: dict[str, list[tuple[Config, int, TrainResult]]] = {}
        for (arm, config, seed), result in zip(plan, results, strict=True):
            tried.setdefault(arm.name, []).append((config, seed, result))
        return tried

    def train(self, chosen: Mapping[str, Config]) -> dict[str, dict[int, TrainResult]]:
        """The chosen configuration of every arm on all seeds."""
        plan = [(arm, seed) for seed in self.recipe.seeds for arm in self.recipe.arms]
        jobs = [self.job(arm, chosen[arm.name], seed) for arm, seed in plan]
        by_seed: dict[str, dict[int, TrainResult]] = {}
        for (arm, seed), result in zip(plan, self._run(jobs), strict=True):
            by_seed.setdefault(arm.name, {})[seed] = result
        return by_seed

    def read_dev(self, arm: ArmSection, config: Config) -> dict[int, list[Prediction]]:
        """What the arm's students said of dev, by seed."""
        return {
            seed: read_predictions(self.job(arm, config, seed).folder / "dev.jsonl")
            for seed in self.recipe.seeds
        }

    def read_test(self, chosen: Mapping[str, Config]) -> dict[str, dict[int, list[Prediction]]]:
        """Have every chosen student read the test set."""
        plan = [(arm, seed) for seed in self.recipe.seeds for arm in self.recipe.arms]
        jobs = [self._scoring(self.job(arm, chosen[arm.name], seed)) for arm, seed in plan]
        predictions: dict[str, dict[int, list[Prediction]]] = {}
        for (arm, seed), rows in zip(plan, self._run(jobs), strict=True):
            predictions.setdefault(arm.name, {})[seed] = rows
        return predictions

    def _scoring(self, job: TrainingJob, output: str = "test") -> ScoringJob:
        return ScoringJob(job, self.splits.test, job.folder / f"{output}.jsonl")

    def accuracies_on_test(
        self,
        tried: Mapping[str, Tried],
        chosen: Mapping[str, Config],
        test: Mapping[str, Mapping[int, Sequence[Prediction]]],
    ) -> dict[str, list[float]]:
        """Test accuracy of every model of every arm, chosen or not. Of those not chosen only the
        accuracy is kept, so that nobody can go on with their predictions."""
        path = self.folder / "choosing_on_test.json"
        known: dict[str, float] = read_json(path) if path.exists() else {}
        plan = [
            (arm.name, self.job(arm, config, seed))
            for arm in self.recipe.arms
            for config, seed, _ in tried[arm.name]
            if config != chosen[arm.name] or seed not in self.recipe.seeds
        ]
        scorings = [ScoringJob(job, self.splits.test, None) for _, job in plan]
        missing = [scoring for scoring in scorings if scoring.key not in known]
        for scoring, rows in zip(missing, self._run(missing), strict=True):
            known[scoring.key] = sum(p.label == p.gold for p in rows) / len(rows)
        if missing:
            write_json(path, known)
        accuracies = {
            arm: [sum(p.label == p.gold for p in rows) / len(rows) for rows in by_seed.values()]
            for arm, by_seed in test.items()
        }
        for (arm_name, _), scoring in zip(plan, scorings, strict=True):
            accuracies[arm_name].append(known[scoring.key])
        return accuracies

    def _run(self, jobs: Sequence[TrainingJob | ScoringJob]) -> list[Any]:
        """The results of jobs, in their order; what is already on disk is not done again."""
        results = {i: known for i, job in enumerate(jobs) if (known := finished(job)) is not None}
        missing = [i for i in range(len(jobs)) if i not in results]
        self.observer.jobs(len(results), len(jobs))
        for index, result in self.runner.run([jobs[i] for i in missing]):
            results[missing[index]] = result
            self.observer.jobs(len(results), len(jobs))
        return [results[i] for i in range(len(jobs))]
