"""The students of one run: which are trained and evaluated, and in which folders.

A training or an evaluation is a job in the run folder (`student.jobs`); what is already on disk is
not done again. Replicate N of an arm has its trials in arms/ARM/CONFIG/trial-N, and the student
that is tested in arms/ARM/CONFIG/seed-N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tutelage.config.arm_settings import ArmSection
from tutelage.config.recipe import Recipe
from tutelage.config.training_settings import Config
from tutelage.core.main_metric import score
from tutelage.core.progress import JobProgress, Observer
from tutelage.core.storage import digest, read_json, write_json, write_jsonl
from tutelage.core.types import Example, Explanation, Prediction
from tutelage.evaluation.majority import majority_predictions
from tutelage.experiment.prepare import Splits
from tutelage.experiment.search import choose_trial, draw_trials, trial_seed
from tutelage.experiment.training_rows import TrainingRows
from tutelage.student.jobs.explanation_job import ExplanationJob, sample_rows
from tutelage.student.jobs.jobs import (
    Runner,
    ScoringJob,
    TrainingJob,
    finished_result,
    read_predictions,
)
from tutelage.student.jobs.resources import concurrent_jobs, workers_for
from tutelage.student.training.result import TrainResult
from tutelage.student.training.tracking import Tracking

UNTRAINED = "all-trials-diverged"
"""In the place of CONFIG: the folder of a replicate that has nothing to train afresh."""


class JobRunner(AbstractContextManager[Any], Protocol):
    """What runs jobs: `Runner`, or something like it elsewhere."""

    @property
    def workers(self) -> int | None:
        """Jobs at a time; None: as many as there is room for."""

    def run(self, jobs: Sequence[TrainingJob | ScoringJob]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) as each job ends. The first error stops the rest."""


MakeRunner = Callable[[Callable[[JobProgress], None]], JobRunner]
"""Makes what runs the jobs in the place of this machine's workers; they report to its argument."""

Choices = Mapping[str, Mapping[int, Config | None]]
"""Arm -> seed -> the configuration that the replicate chose; None where every trial diverged."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A training of the search.

    seed: of the replicate
    """

    seed: int
    config: Config
    result: TrainResult

    @property
    def dev_accuracy(self) -> float | None:
        """By which it is chosen; None where it diverged, whatever it had reached before."""
        return None if self.result.diverged_at is not None else self.result.dev_accuracy


@dataclass(frozen=True, slots=True)
class Replicate:
    """One replicate of one arm: its choice, and the training afresh that is tested.

    config: None where every trial diverged; there is then no training
    job, result: of the training; None as above
    folder: with the predictions, in the run's folder
    """

    seed: int
    config: Config | None
    job: TrainingJob | None
    result: TrainResult | None
    folder: Path

    @property
    def has_student(self) -> bool:
        """Whether a checkpoint predicts; otherwise the most frequent training label does."""
        return self.result is not None and self.result.has_checkpoint


def workers_of(recipe: Recipe, tokenizer: Path | None) -> int:
    """How many trainings of a recipe run at once on this machine.

    tokenizer: of a new student
    """
    from tutelage.student.model.loading import count_parameters

    student, threads = recipe.student, recipe.student.threads
    fitting = [concurrent_jobs(threads)]
    if not student.model.startswith("scratch:"):  # new students are small
        weights = count_parameters(student.model, tokenizer)
        fitting.append(workers_for(weights, student.lora is not None, threads))
    for arm in recipe.arms:
        if arm.classifier is not None:
            weights = count_parameters(arm.classifier.classifier, classifier=True)
            fitting.append(workers_for(weights, False, threads))
    return min(fitting)


class Students:
    """The trainings and evaluations of one run."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        splits: Splits,
        rows: TrainingRows,
        workers: int | None,
        observer: Observer,
        elsewhere: MakeRunner | None = None,
    ) -> None:
        self.recipe, self.folder, self.splits, self.observer = recipe, folder, splits, observer
        self.task = recipe.resolved_task()
        self.rows = rows
        new = recipe.student.model.startswith("scratch:")
        threads = recipe.student.threads
        runner: JobRunner | None = None if elsewhere is None else elsewhere(observer.job)
        if runner is None and new and not any(arm.classifier for arm in recipe.arms):
            # New students are small, whatever their vocabulary will be.
            runner = here = Runner(workers or concurrent_jobs(threads), observer.job)
            if not (folder / "results.json").exists():
                here.warm_up()
        # Only here, while the workers start: this imports torch as well.
        from tutelage.student.model.loading import count_parameters

        self.tokenizer = self._train_tokenizer() if new else None
        self.parameters = count_parameters(recipe.student.model, self.tokenizer)
        if runner is None:
            runner = Runner(workers or workers_of(recipe, self.tokenizer), observer.job)
        self.runner = runner

    def _train_tokenizer(self) -> Path:
        """For new weights: a tokenizer trained on the training rows of all arms, shared by all."""
        from tutelage.student.model.scratch import tokenizer_for

        return tokenizer_for(self.rows.every(), self.folder / "tokenizer")

    def job(self, arm: ArmSection, config: Config, seed: int) -> TrainingJob:
        """The training of replicate `seed` that is tested."""
        return self._job(arm, config, seed, seed, f"seed-{seed}")

    def trial(self, arm: ArmSection, config: Config, seed: int) -> TrainingJob:
        """A trial of replicate `seed`."""
        return self._job(arm, config, seed, trial_seed(seed), f"trial-{seed}")

    def _job(
        self, arm: ArmSection, config: Config, replicate: int, seed: int, name: str
    ) -> TrainingJob:
        own, name = arm.classifier, f"{arm.name}/{config.name}/{name}"
        return TrainingJob(
            self.recipe.student.model if own is None else own.classifier,
            self.tokenizer if own is None else None,
            self.rows.of(arm, replicate),
            self.splits.dev,
            self.rows.tasks[arm.name],
            self.rows.settings(self.recipe.training(arm, config, seed), arm, replicate),
            self.folder / "arms" / name,
            Tracking(self.recipe.student.tracking, f"{self.recipe.name}/{name}"),
            classifies=own is not None,
            metric=self.recipe.metric,
        )

    def search(self, arms: Sequence[ArmSection]) -> dict[str, list[Trial]]:
        """The trials of every replicate of these arms; none where there is one configuration."""
        plan = [
            (arm, seed, config)
            for seed in self.recipe.replicates
            for arm in arms
            for config in self._drawn(arm, seed)
        ]
        results = self.run([self.trial(arm, config, seed) for arm, seed, config in plan])
        trials: dict[str, list[Trial]] = {arm.name: [] for arm in arms}
        for (arm, seed, config), result in zip(plan, results, strict=True):
            trials[arm.name].append(Trial(seed, config, result))
        return trials

    def _drawn(self, arm: ArmSection, seed: int) -> list[Config]:
        if not self.recipe.trials:
            return []
        return draw_trials(self.recipe.configs(arm), self.recipe.trials, seed, arm.name)

    def choose(self, trials: Mapping[str, Sequence[Trial]]) -> Choices:
        """What each replicate of each arm chooses: by the metric on dev among its own trials.
        Without a search it is the arm's first configuration.

        trials: of the arms that choose
        """
        choices: dict[str, dict[int, Config | None]] = {}
        for arm in self.recipe.arms:
            if arm.name not in trials:
                continue
            for seed in self.recipe.replicates:
                tried = [(t.config, t.dev_accuracy) for t in trials[arm.name] if t.seed == seed]
                chosen = choose_trial(tried) if tried else self.recipe.configs(arm)[0]
                choices.setdefault(arm.name, {})[seed] = chosen
        return choices

    def train(self, choices: Choices) -> dict[str, dict[int, Replicate]]:
        """Train the choice of every replicate of these arms afresh, under the replicate's seed."""
        arms = [arm for arm in self.recipe.arms if arm.name in choices]
        plan = [(arm, seed) for seed in self.recipe.replicates for arm in arms]
        jobs = [
            None if (config := choices[arm.name][seed]) is None else self.job(arm, config, seed)
            for arm, seed in plan
        ]
        results = iter(self.run([job for job in jobs if job is not None]))
        replicates: dict[str, dict[int, Replicate]] = {}
        for (arm, seed), job in zip(plan, jobs, strict=True):
            untrained = self.folder / "arms" / arm.name / UNTRAINED / f"seed-{seed}"
            replicates.setdefault(arm.name, {})[seed] = Replicate(
                seed=seed,
                config=choices[arm.name][seed],
                job=job,
                result=None if job is None else next(results),
                folder=untrained if job is None else job.folder,
            )
        return replicates

    def label_pool(
        self, replicates: Mapping[int, Replicate], rows: Mapping[int, Sequence[Example]]
    ) -> dict[int, list[Prediction]]:
        """What one arm's students say about unlabelled rows, by seed.

        rows: by seed; a student that was not trained answers with the most frequent label
        """
        jobs = [
            ScoringJob(replicate.job, rows[seed], replicate.folder / "pool.jsonl")
            for seed, replicate in replicates.items()
            if replicate.job is not None and replicate.has_student
        ]
        results = iter(self.run(jobs))
        return {
            seed: next(results) if replicate.has_student else self._majority(rows[seed])
            for seed, replicate in replicates.items()
        }

    def evaluate_on_dev(self, replicates: Mapping[int, Replicate]) -> dict[int, list[Prediction]]:
        """The predictions of one arm's students on dev, by seed, from their trainings."""
        return {
            seed: read_predictions(replicate.folder / "dev.jsonl")
            if replicate.has_student
            else self._majority(self.splits.dev)
            for seed, replicate in replicates.items()
        }

    def evaluate_on_test(
        self, replicates: Mapping[str, Mapping[int, Replicate]]
    ) -> dict[str, dict[int, list[Prediction]]]:
        """The predictions of every replicate's student on the test set, by arm and seed; without a
        student, the most frequent training label. All are in the replicates' folders."""
        plan = [
            (name, replicate)
            for name, of_arm in replicates.items()
            for replicate in of_arm.values()
        ]
        jobs = [self._scoring(r.job) for _, r in plan if r.job is not None and r.has_student]
        results = iter(self.run(jobs))
        predictions: dict[str, dict[int, list[Prediction]]] = {}
        for name, replicate in plan:
            if replicate.has_student:
                rows = next(results)
            else:
                rows = self._majority(self.splits.test)
                write_jsonl(replicate.folder / "test.jsonl", rows)
            predictions.setdefault(name, {})[replicate.seed] = rows
        return predictions

    def _majority(self, rows: Sequence[Example]) -> list[Prediction]:
        return majority_predictions(self.splits.train, rows, self.task)

    def identity(self, choices: Choices) -> dict[int, str]:
        """Seed -> a digest of everything that decides what its tested students are."""
        return {
            seed: digest(
                [
                    None
                    if (config := choices[arm.name][seed]) is None
                    else self.job(arm, config, seed).key
                    for arm in self.recipe.arms
                ]
            )
            for seed in self.recipe.replicates
        }

    def explain(
        self, replicates: Mapping[str, Mapping[int, Replicate]]
    ) -> dict[str, tuple[int, list[Explanation]]]:
        """Rationales that one student of each arm with rationales, controls included, writes about
        the same `explain_rows` test rows: arm -> (seed of the student, rationales).

        It is the first seed's that has a checkpoint; an arm without any writes nothing.
        """
        rows = sample_rows(self.splits.test, self.recipe.explain_rows)
        arms = [arm for arm in self.recipe.arms if rows and arm.effective_objective != "label"]
        jobs, places = [], []
        for arm in arms:
            found = [
                r for r in replicates[arm.name].values() if r.job is not None and r.has_student
            ]
            for replicate in found[:1]:
                assert replicate.job is not None
                path = replicate.folder / "explanations.jsonl"
                jobs.append(ExplanationJob(replicate.job, rows, path))
                places.append((arm.name, replicate.seed))
        written = self.run(jobs)
        return {name: (seed, rows) for (name, seed), rows in zip(places, written, strict=True)}

    def _scoring(self, job: TrainingJob) -> ScoringJob:
        return ScoringJob(job, self.splits.test, job.folder / "test.jsonl")

    def accuracies_on_test(
        self,
        trials: Mapping[str, Sequence[Trial]],
        test: Mapping[str, Mapping[int, Sequence[Prediction]]],
    ) -> dict[str, list[float]]:
        """The metric on the test set of every model of every arm: the trials that did not diverge,
        and the replicates' students. Of the trials only this figure is kept, so that their
        predictions cannot be used for anything else."""
        path = self.folder / "choosing_on_test.json"
        known: dict[str, float] = read_json(path) if path.exists() else {}
        plan = [
            (arm.name, self.trial(arm, trial.config, trial.seed))
            for arm in self.recipe.arms
            for trial in trials[arm.name]
            if trial.dev_accuracy is not None
        ]
        scorings = [ScoringJob(job, self.splits.test, None) for _, job in plan]
        missing = [scoring for scoring in scorings if scoring.key not in known]
        for scoring, rows in zip(missing, self.run(missing), strict=True):
            known[scoring.key] = score(rows, self.recipe.metric)
        if missing:
            write_json(path, known)
        accuracies = {
            arm: [score(rows, self.recipe.metric) for rows in by_seed.values()]
            for arm, by_seed in test.items()
        }
        for (arm_name, _), scoring in zip(plan, scorings, strict=True):
            accuracies[arm_name].append(known[scoring.key])
        return accuracies

    def run(self, jobs: Sequence[TrainingJob | ScoringJob]) -> list[Any]:
        """The results of jobs, in order; what is already on disk is not done again."""
        known = {i: finished_result(job) for i, job in enumerate(jobs)}
        results = {i: result for i, result in known.items() if result is not None}
        missing = [i for i in range(len(jobs)) if i not in results]
        verb = "trained" if jobs and isinstance(jobs[0], TrainingJob) else "evaluated"
        self.observer.jobs(len(results), len(jobs), verb)
        if self.runner.workers != 1:
            # The longest first, so that no process is left with a long one at the end.
            missing.sort(key=lambda i: -_work(jobs[i]))
        for index, result in self.runner.run([jobs[i] for i in missing]):
            results[missing[index]] = result
            self.observer.jobs(len(results), len(jobs), verb)
        return [results[i] for i in range(len(jobs))]


def _work(job: TrainingJob | ScoringJob) -> int:
    """What a training takes, compared with others of the same recipe: characters in an epoch."""
    if not isinstance(job, TrainingJob):
        return 0
    return sum(
        len(row.source.text) + len(row.target.label) + len(row.target.rationale or "")
        for row in job.training
    )
