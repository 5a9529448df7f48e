"""The preflight of a recipe's student: before the teacher is asked, and in `doctor`.

What it finds is kept next to the ledger, by a digest of everything that decides it, so that the
same student is examined once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.config.arm_settings import ArmSection
from tutelage.config.recipe import Recipe
from tutelage.config.training_settings import Config, TrainSettings
from tutelage.core.errors import StudentError
from tutelage.core.model_files import content_digest
from tutelage.core.progress import Observer
from tutelage.core.storage import as_json, digest, read_json, write_json
from tutelage.core.types import Example, Target, TrainingExample
from tutelage.experiment.prepare import Splits
from tutelage.teacher.ledger.store import default_path

if TYPE_CHECKING:
    from tutelage.student.preflight.examine import Preflight

_PACKAGES = ("torch", "transformers", "tokenizers")
"""Packages whose versions decide what the preflight finds."""

_EXAMINED = (
    "objective",
    "label_weight",
    "seed",
    "dropout",
    "precision",
    "fast",
    "lora",
    "max_source_tokens",
    "max_rationale_tokens",
)
"""Settings of a training that the preflight sees. With others, such as the number of epochs, the
same student is not examined again."""

_NEW_STUDENTS_ROWS = 50
"""Rows from which the tokenizer of a new student is made for the preflight: the longest."""


def check_student(
    recipe: Recipe, splits: Splits, ledger: Path | None, observer: Observer
) -> Recipe:
    """Examine the recipe's student and its classifiers before anything is paid for; returns the
    recipe to go on with.

    It differs from `recipe` where the student cannot use the fast parts, and it names the learning
    rates of classifiers that the recipe names none for. Raises StudentError for a student that
    would be trained or evaluated wrongly.
    """
    student = recipe.student
    if student.lora is not None:
        from tutelage.student.model.lora import check_targets

        check_targets(student.model, student.lora)  # for a misspelt name
    if student.compile:
        from tutelage.student.model.precision import check_compiled

        check_compiled(student.model)
    observer.stage("Examining the student")
    found = examine_recipe(recipe, splits, ledger)
    for note in found.notes:
        observer.note(f"student {recipe.student.model}: {note}")
    arms = [_examined(recipe, arm, splits, ledger, observer) for arm in recipe.arms]
    student = student.model_copy(update={"fast": found.fast})
    return recipe.model_copy(update={"student": student, "arms": arms})


def _examined(
    recipe: Recipe, arm: ArmSection, splits: Splits, ledger: Path | None, observer: Observer
) -> ArmSection:
    """The arm, with the learning rates of its classifier if it is one."""
    if arm.classifier is None:
        return arm
    found = examine_classifier(recipe, arm, splits, ledger)
    for note in found.notes:
        observer.note(f"arm {arm.name}: {note}")
    from tutelage.student.model.classifier import usual_rates

    rates = arm.classifier.learning_rate or usual_rates(arm.classifier.rates, found.width)
    section = arm.classifier.model_copy(update={"learning_rate": rates})
    return arm.model_copy(update={"classifier": section})


def examine_classifier(
    recipe: Recipe, arm: ArmSection, splits: Splits, ledger: Path | None = None
) -> Preflight:
    """The preflight of an arm's classifier; arguments as in `examine_recipe`."""
    assert arm.classifier is not None
    settings = [_settings_of(recipe, arm)]
    try:
        return _kept(recipe, arm.classifier.classifier, settings, splits, ledger, classifies=True)
    except StudentError as error:
        raise StudentError(f"arm {arm.name!r} (a classifier): {error}") from error


def examine_recipe(recipe: Recipe, splits: Splits, ledger: Path | None = None) -> Preflight:
    """The preflight of the recipe's student: kept from before, or done now.

    ledger: the ledger's file, in whose folder its result is kept; None: the usual one
    """
    return _kept(recipe, recipe.student.model, _settings(recipe), splits, ledger)


def _kept(
    recipe: Recipe,
    model: str,
    settings: Sequence[TrainSettings],
    splits: Splits,
    ledger: Path | None,
    classifies: bool = False,
) -> Preflight:
    """A preflight, from its file or done now."""
    from tutelage.student.model.precision import choose_device
    from tutelage.student.preflight.examine import Preflight, examine_student

    task = recipe.resolved_task()
    pool = () if splits.pool is None else splits.pool.rows
    rows = [*splits.train, *splits.dev, *splits.test, *pool]

    def path() -> Path | None:
        """The file of the result; None where nobody knows whether the model stays the same."""
        identity = identity_of(model)
        if identity is None:
            return None
        key = digest(
            {
                "student": identity,
                "settings": settings,
                "task": [task.fields, task.labels, dict(task.verbalizers), task.context],
                "rows": [e.fields for e in rows],
                "packages": {name: metadata.version(name) for name in _PACKAGES},
                "code": code_digest(),
                # What agrees on a CPU may differ on a GPU.
                "device": choose_device().type,
                **({"classifier": True} if classifies else {}),
            }
        )
        return (ledger or default_path()).parent / "preflight" / f"{key[:32]}.json"

    kept = path()
    if kept is not None and kept.exists():
        values: dict[str, Any] = read_json(kept)
        return Preflight(**{**values, "notes": tuple(values["notes"])})
    with tempfile.TemporaryDirectory() as folder:
        new = model.startswith("scratch:")
        tokenizer = tokenizer_of(recipe, rows, Path(folder)) if new else None
        found = examine_student(model, rows, task, settings, tokenizer, classifies)
    kept = path()  # a hub's model has its digest once it is here
    if kept is not None:
        write_json(kept, as_json(found))
    return found


def identity_of(model: str) -> list[str] | None:
    """What changes when the model does: a digest of its files, or a hub's commit."""
    files = content_digest(model)
    if files is not None:
        return [model, files]
    if model.startswith("scratch:"):
        return [model]
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model, "config.json")
    return [model, Path(cached).parent.name] if isinstance(cached, str) else None


def code_digest() -> str:
    """A digest of the code that the preflight examines: that of `student`."""
    folder = Path(__file__).parents[1] / "student"
    files = sorted(folder.rglob("*.py"))
    return digest([[file.name, file.read_text(encoding="utf-8")] for file in files])


def _settings(recipe: Recipe) -> list[TrainSettings]:
    """The settings of one training for each objective of the recipe."""
    by_objective: Mapping[str, TrainSettings] = {
        arm.effective_objective: _settings_of(recipe, arm)
        for arm in recipe.arms
        if arm.classifier is None
    }
    return list(by_objective.values())


def _settings_of(recipe: Recipe, arm: ArmSection) -> TrainSettings:
    """The examined settings of a training of the arm, its configuration left aside; the others have
    their defaults."""
    whole = recipe.training(arm, Config(1e-3, 0.5), recipe.replicates[0])
    return TrainSettings(**{name: getattr(whole, name) for name in _EXAMINED})


def tokenizer_of(recipe: Recipe, rows: list[Example], folder: Path) -> Path:
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
