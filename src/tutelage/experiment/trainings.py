"""The students of one run: which are trained and evaluated, and in which folders.

A training or an evaluation is a job in the run folder's arms/ARM/CONFIG/seed-N (`student.jobs`);
what is already on disk is not done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.config.recipe import Recipe
from tutelage.config.sections import ArmSection
from tutelage.config.training_settings import Config
from tutelage.core.progress import Observer
from tutelage.core.storage import digest, read_json, write_json
from tutelage.core.types import Explanation, Prediction
from tutelage.experiment.prepare import Splits
from tutelage.student.encoding.targets import build_training_examples
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

Tried = Sequence[tuple[Config, int, TrainResult]]
"""Trained configurations of one arm: (configuration, seed, result)."""


class Students:
    """The trainings and evaluations of one run: jobs in the run folder's arms/ARM/CONFIG/seed-N."""

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
        # An arm that omits fields has a task of its own, in training, on dev and on test.
        self.tasks = {arm.name: self.task.without(arm.omits) for arm in recipe.arms}
        self.training = {
            arm.name: build_training_examples(
                splits.train,
                self.tasks[arm.name],
                rationales.get(arm.name),
                arm.effective_objective,
            )
            for arm in recipe.arms
        }
        new = recipe.student.model.startswith("scratch:")
        threads = recipe.student.threads
        if new:
            # New students are small, whatever their vocabulary will be.
            self.runner = Runner(workers or concurrent_jobs(threads), observer.job)
            if not (folder / "results.json").exists():
                self.runner.warm_up()
        # Only here, while the workers start: this imports torch as well.
        from tutelage.student.model.loading import count_parameters

        self.tokenizer = self._train_tokenizer() if new else None
        self.parameters = count_parameters(recipe.student.model, self.tokenizer)
        if not new:
            adapted = recipe.student.lora is not None
            fitting = workers or workers_for(self.parameters, adapted, threads)
            self.runner = Runner(fitting, observer.job)

    def _train_tokenizer(self) -> Path:
        """For new weights: a tokenizer trained on the training rows of all arms, shared by all."""
        from tutelage.student.model.scratch import tokenizer_for

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
            self.tasks[arm.name],
            self.recipe.student.training(config, seed, arm.effective_objective),
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
        results = self.run([self.job(*place) for place in plan])
        tried: dict[str, list[tuple[Config, int, TrainResult]]] = {}
        for (arm, config, seed), result in zip(plan, results, strict=True):
            tried.setdefault(arm.name, []).append((config, seed, result))
        return tried

    def train(self, chosen: Mapping[str, Config]) -> dict[str, dict[int, TrainResult]]:
        """The chosen configuration of every arm on all seeds."""
        plan = [(arm, seed) for seed in self.recipe.seeds for arm in self.recipe.arms]
        jobs = [self.job(arm, chosen[arm.name], seed) for arm, seed in plan]
        by_seed: dict[str, dict[int, TrainResult]] = {}
        for (arm, seed), result in zip(plan, self.run(jobs), strict=True):
            by_seed.setdefault(arm.name, {})[seed] = result
        return by_seed

    def evaluate_on_dev(self, arm: ArmSection, config: Config) -> dict[int, list[Prediction]]:
        """The predictions of the arm's students on dev, by seed, from their trainings."""
        return {
            seed: read_predictions(self.job(arm, config, seed).folder / "dev.jsonl")
            for seed in self.recipe.seeds
        }

    def evaluate_on_test(
        self, chosen: Mapping[str, Config]
    ) -> dict[str, dict[int, list[Prediction]]]:
        """The predictions of every chosen student on the test set, by arm and seed."""
        plan = [(arm, seed) for seed in self.recipe.seeds for arm in self.recipe.arms]
        jobs = [self._scoring(self.job(arm, chosen[arm.name], seed)) for arm, seed in plan]
        predictions: dict[str, dict[int, list[Prediction]]] = {}
        for (arm, seed), rows in zip(plan, self.run(jobs), strict=True):
            predictions.setdefault(arm.name, {})[seed] = rows
        return predictions

    def identity(self, chosen: Mapping[str, Config]) -> str:
        """A digest of everything that decides what the chosen students are."""
        arms, seeds = self.recipe.arms, self.recipe.seeds
        return digest([[self.job(arm, chosen[arm.name], s).key for s in seeds] for arm in arms])

    def explain(self, chosen: Mapping[str, Config]) -> dict[str, list[Explanation]]:
        """Rationales that the first seed's student of each arm with rationales, controls included,
        writes about the same `explain_rows` test rows."""
        rows = sample_rows(self.splits.test, self.recipe.explain_rows)
        arms = [arm for arm in self.recipe.arms if rows and arm.effective_objective != "label"]
        trained = [self.job(arm, chosen[arm.name], self.recipe.seeds[0]) for arm in arms]
        jobs = [ExplanationJob(job, rows, job.folder / "explanations.jsonl") for job in trained]
        return {arm.name: found for arm, found in zip(arms, self.run(jobs), strict=True)}

    def _scoring(self, job: TrainingJob, output: str = "test") -> ScoringJob:
        return ScoringJob(job, self.splits.test, job.folder / f"{output}.jsonl")

    def accuracies_on_test(
        self,
        tried: Mapping[str, Tried],
        chosen: Mapping[str, Config],
        test: Mapping[str, Mapping[int, Sequence[Prediction]]],
    ) -> dict[str, list[float]]:
        """Test accuracy of every model of every arm, chosen or not. Of models that were not chosen
        only the accuracy is kept, so that their predictions cannot be used for anything else."""
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
        for scoring, rows in zip(missing, self.run(missing), strict=True):
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

    def run(self, jobs: Sequence[TrainingJob | ScoringJob]) -> list[Any]:
        """The results of jobs, in order; what is already on disk is not done again."""
        known = {i: finished_result(job) for i, job in enumerate(jobs)}
        results = {i: result for i, result in known.items() if result is not None}
        missing = [i for i in range(len(jobs)) if i not in results]
        verb = "trained" if jobs and isinstance(jobs[0], TrainingJob) else "evaluated"
        self.observer.jobs(len(results), len(jobs), verb)
        for index, result in self.runner.run([jobs[i] for i in missing]):
            results[missing[index]] = result
            self.observer.jobs(len(results), len(jobs), verb)
        return [results[i] for i in range(len(jobs))]
