"""Load a recipe's data, or a file, and measure it in a student's tokens."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.recipe import Recipe
from tutelage.config.training_settings import TrainSettings
from tutelage.core.progress import Observer
from tutelage.core.rationale_file import read_rationales
from tutelage.core.task import NLI, Task
from tutelage.core.types import Example, TrainingExample
from tutelage.data.load import load_examples
from tutelage.experiment.prepare import load_splits
from tutelage.student.encoding.targets import build_training_examples

if TYPE_CHECKING:
    from tutelage.student.encoding.token_lengths import Audit

Arm = tuple[str, list[TrainingExample], TrainSettings]
"""An arm's name, training rows and settings."""


def audit_recipe(recipe: Recipe, runs: Path, observer: Observer) -> Audit:
    """Measure a recipe's splits, and every arm whose rationales are in the run's folder.

    The tokenizer of a new student (`scratch:`) is trained first, on as much of a run's training
    text as there is. Of the test set only the inputs are measured. Nothing is written.
    """
    observer.stage("Reading the data")
    splits, task = load_splits(recipe), recipe.resolved_task()
    folder = runs / recipe.name / "rationales"
    arms: list[Arm] = []
    missing: list[str] = []
    unmeasured: list[str] = []
    pooled: list[str] = []
    for arm in recipe.arms:
        if arm.classifier is not None:
            unmeasured.append(arm.name)
            continue
        if arm.learns_pool:
            pooled.append(arm.name)
            continue
        learnt = None
        if arm.strategy is not None:
            path = folder / f"{arm.name}.jsonl"
            if not path.exists():
                missing.append(arm.name)
                continue
            learnt = read_rationales(path)
        objective = arm.effective_objective
        settings = recipe.training(arm, recipe.configs(arm)[0], recipe.replicates[0])
        rows = build_training_examples(splits.train, task.without(arm.omits), learnt, objective)
        arms.append((arm.name, rows, settings))
    notes = []
    if unmeasured:
        notes.append(
            f"not measured: {', '.join(unmeasured)}: a classifier has a tokenizer of its own; "
            "results.json counts what is cut"
        )
    if pooled:
        notes.append(
            f"not measured: {', '.join(pooled)}: they learn unlabelled rows, whose inputs are "
            "measured as a split of their own"
        )
    if missing:
        notes.append(
            f"not measured: {', '.join(missing)}: no rationales in {folder} "
            "(`tutelage annotate RECIPE` writes them)"
        )
        if recipe.student.model.startswith("scratch:"):
            notes.append(
                "the tokenizer was trained without these rationales: the run's own will differ"
            )
    parts = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    if splits.pool is not None:
        parts["unlabelled"] = splits.pool.rows
    return _audit(recipe.student.model, parts, arms, task, notes, observer)


def audit_file(
    data: str,
    rationales: Path | None,
    student: str,
    settings: TrainSettings,
    observer: Observer,
    *,
    task: Task = NLI,
    layout: LayoutSettings | None = None,
) -> Audit:
    """Measure the rows of `data`, and the rationales that `tutelage annotate` wrote for them.

    layout: how the file is read
    """
    observer.stage("Reading the data")
    examples = load_examples(data, task, layout)
    learnt = None if rationales is None else read_rationales(rationales)
    rows = build_training_examples(examples, task, learnt, settings.objective)
    notes = (
        []
        if rationales is not None
        else ["rationales were not measured: name their file with --rationales"]
    )
    return _audit(student, {"rows": examples}, [("rows", rows, settings)], task, notes, observer)


def _audit(
    model: str,
    splits: dict[str, Sequence[Example]],
    arms: Sequence[Arm],
    task: Task,
    notes: Sequence[str],
    observer: Observer,
) -> Audit:
    # Imported here because they load torch, which takes seconds.
    from tutelage.student.encoding.token_lengths import Audit, audit_arm, audit_split
    from tutelage.student.model.loading import load_meta_student
    from tutelage.student.model.scratch import tokenizer_for

    with tempfile.TemporaryDirectory() as folder:
        tokenizer = None
        if model.startswith("scratch:"):
            observer.stage("Training the tokenizer")
            learnt = (row for _, rows, _ in arms for row in rows)
            tokenizer = tokenizer_for(learnt, Path(folder))
        observer.stage("Loading the tokenizer")
        student = load_meta_student(model, tokenizer)
    observer.stage("Measuring")
    limit = arms[0][2].max_source_tokens
    return Audit(
        model,
        student.architecture,
        len(student.tokenizer),
        tuple(audit_split(student, name, rows, task, limit) for name, rows in splits.items()),
        tuple(audit_arm(student, name, rows, settings) for name, rows, settings in arms),
        tuple(notes),
    )
