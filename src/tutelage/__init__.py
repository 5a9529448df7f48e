"""Teach a small language model with a large one's explanations, and find out whether it helped.

    from tutelage import load_recipe, run
    results = run(load_recipe("quickstart")).results

Each name below is imported when it is first used, so that `import tutelage` costs nothing. A name
that needs an extra raises MissingExtraError where the extra is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.config.layout_settings import LayoutSettings
    from tutelage.config.recipe import Recipe
    from tutelage.config.recipe_file import load_recipe, parse_recipe
    from tutelage.config.teacher_settings import TeacherSettings
    from tutelage.config.training_settings import TrainSettings
    from tutelage.core.results import Comparison, Evaluation, Results, load_results
    from tutelage.core.task import NLI, Task
    from tutelage.core.types import (
        Completion,
        Example,
        Prediction,
        Rationale,
        Target,
        TrainingExample,
    )
    from tutelage.data.load import Examples, load_examples
    from tutelage.data.split import check_splits, hold_out
    from tutelage.data.synthetic import generate
    from tutelage.deliver.predictions import Predictions
    from tutelage.deliver.trained import Student
    from tutelage.evaluation.compare import compare
    from tutelage.evaluation.metrics import evaluate
    from tutelage.experiment.run import Run, run
    from tutelage.rationales.controls import filler, label_echo, shuffled
    from tutelage.report.page import render_report
    from tutelage.strategies.lookup import get_strategy
    from tutelage.student.encoding.targets import build_training_examples
    from tutelage.student.inference.explain import explain
    from tutelage.student.inference.score import score_labels
    from tutelage.student.model.loading import load_student
    from tutelage.student.training.result import TrainResult
    from tutelage.student.training.trainer import train
    from tutelage.teacher.annotate import Annotation, annotate
    from tutelage.teacher.ledger.store import Ledger

_HOMES = {
    "data.load": ("Examples", "load_examples"),
    "data.split": ("check_splits", "hold_out"),
    "data.synthetic": ("generate",),
    "evaluation.compare": ("compare",),
    "evaluation.metrics": ("evaluate",),
    "experiment.run": ("Run", "run"),
    "rationales.controls": ("filler", "label_echo", "shuffled"),
    "config.layout_settings": ("LayoutSettings",),
    "config.recipe": ("Recipe",),
    "config.recipe_file": ("load_recipe", "parse_recipe"),
    "core.results": ("Comparison", "Evaluation", "Results", "load_results"),
    "core.types": ("Completion", "Example", "Prediction", "Rationale", "Target", "TrainingExample"),
    "report.page": ("render_report",),
    "strategies.lookup": ("get_strategy",),
    "student.inference.explain": ("explain",),
    "student.model.loading": ("load_student",),
    "deliver.predictions": ("Predictions",),
    "deliver.trained": ("Student",),
    "student.inference.score": ("score_labels",),
    "config.training_settings": ("TrainSettings",),
    "student.encoding.targets": ("build_training_examples",),
    "student.training.result": ("TrainResult",),
    "student.training.trainer": ("train",),
    "core.task": ("NLI", "Task"),
    "teacher.annotate": ("Annotation", "annotate"),
    "teacher.teacher": ("TeacherSettings",),
    "teacher.ledger.store": ("Ledger",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Annotation",
    "Comparison",
    "Completion",
    "Evaluation",
    "Example",
    "Examples",
    "Ledger",
    "NLI",
    "Prediction",
    "Predictions",
    "Rationale",
    "LayoutSettings",
    "Recipe",
    "Results",
    "Run",
    "Student",
    "Target",
    "Task",
    "TeacherSettings",
    "TrainResult",
    "TrainSettings",
    "TrainingExample",
    "annotate",
    "build_training_examples",
    "check_splits",
    "compare",
    "evaluate",
    "explain",
    "filler",
    "generate",
    "get_strategy",
    "hold_out",
    "label_echo",
    "load_examples",
    "load_recipe",
    "load_results",
    "load_student",
    "parse_recipe",
    "render_report",
    "run",
    "score_labels",
    "shuffled",
    "train",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'tutelage' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"tutelage.{home}"), name)
    except ModuleNotFoundError as error:
        from tutelage.core.errors import MissingExtraError, extra_of

        extra = extra_of(error.name)
        if extra is None:
            raise
        raise MissingExtraError(str(error.name), extra, f"tutelage.{name}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
