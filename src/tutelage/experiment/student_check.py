"""The preflight of a recipe's student: before the teacher is asked, and in `doctor`.

What it finds is kept next to the ledger, by a digest of everything that decides it, so that the
same student is examined once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.config.recipe import Recipe
from tutelage.config.training_settings import Config, TrainSettings
from tutelage.core.model_files import content_digest
from tutelage.core.progress import Observer
from tutelage.core.storage import as_json, digest, read_json, write_json
from tutelage.core.types import Example, Target, TrainingExample
from tutelage.experiment.prepare import Splits
from tutelage.teacher.ledger.store import default_path

if TYPE_CHECKING:
    from tutelage.student.preflight.examine import Preflight

_PACKAGES = ("tutelage", "torch", "transformers", "tokenizers", "peft")
"""Packages whose versions decide what the preflight finds."""

_NEW_STUDENTS_ROWS = 50
"""Rows from which the tokenizer of a new student is made for the preflight: the longest."""


def check_student(
    recipe: Recipe, splits: Splits, ledger: Path | None, observer: Observer
) -> Recipe:
    """Examine the recipe's student before anything is paid for; returns the recipe to go on with.

    It differs from `recipe` where the student cannot use the fast parts. Raises StudentError for a
    student that would be trained or evaluated wrongly.
    """
    observer.stage("Examining the student")
    found = examine_recipe(recipe, splits, ledger)
    for note in found.notes:
        observer.note(f"student {recipe.student.model}: {note}")
    if found.fast == recipe.student.fast:
        return recipe
    student = recipe.student.model_copy(update={"fast": found.fast})
    return recipe.model_copy(update={"student": student})


def examine_recipe(recipe: Recipe, splits: Splits, ledger: Path | None = None) -> Preflight:
    """The preflight of the recipe's student: kept from before, or done now.

    ledger: the ledger's file, in whose folder the outcome is kept; None: the usual one
    """
    from tutelage.student.preflight.examine import Preflight, examine_student

    model, task = recipe.student.model, recipe.resolved_task()
    settings = _settings(recipe)
    rows = [*splits.train, *splits.dev, *splits.test]
    key = digest(
        {
            "student": model,
            "files": content_digest(model),
            "settings": settings,
            "task": [task.fields, task.labels, dict(task.verbalizers), task.context],
            "rows": [e.fields for e in rows],
            "packages": {name: _version(name) for name in _PACKAGES},
        }
    )
    folder = (ledger or default_path()).parent / "preflight"
    path = folder / f"{key[:32]}.json"
    local = content_digest(model) is not None
    if local and path.exists():
        kept: dict[str, Any] = read_json(path)
        return Preflight(**{**kept, "notes": tuple(kept["notes"])})
    if model.startswith("scratch:"):
        with tempfile.TemporaryDirectory() as place:
            tokenizer = _tokenizer(recipe, rows, Path(place))
            return examine_student(model, rows, task, settings, tokenizer)
    found = examine_student(model, rows, task, settings)
    if local:
        write_json(path, as_json(found))
    return found


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _settings(recipe: Recipe) -> list[TrainSettings]:
    """The settings of one training for each objective of the recipe."""
    by_objective: Mapping[str, TrainSettings] = {
        arm.effective_objective: recipe.student.training(
            Config(1e-3, 0.5), recipe.seeds[0], arm.effective_objective
        )
        for arm in recipe.arms
    }
    return list(by_objective.values())


def _tokenizer(recipe: Recipe, rows: list[Example], folder: Path) -> Path:
    """A tokenizer for a new student. The one that it gets is made when there are rationales."""
    from tutelage.student.model.scratch import tokenizer_for

    task = recipe.resolved_task()
    longest = sorted(rows, key=lambda e: len(task.source(e.fields).text))[-_NEW_STUDENTS_ROWS:]
    labels = [task.verbalize(label) for label in task.labels]
    return tokenizer_for(
        [
            TrainingExample(e.uid, task.source(e.fields), Target(label, task.source(e.fields).text))
            for e in longest
            for label in labels
        ],
        folder,
    )
