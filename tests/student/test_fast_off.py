"""`fast: off` calls nothing of `student.fast`: here all of its functions raise."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
import torch

import tutelage.student.fast
from tutelage.config.training_settings import TrainSettings
from tutelage.core.task import NLI
from tutelage.core.types import ObjectiveName, Rationale
from tutelage.data.synthetic import generate
from tutelage.deliver.trained import Student as Trained
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.encoding.token_lengths import audit_arm
from tutelage.student.inference.explain import explain, write_explanations
from tutelage.student.inference.score import score_labels
from tutelage.student.jobs.explanation_job import ExplanationJob
from tutelage.student.jobs.jobs import ScoringJob, TrainingJob, run_job
from tutelage.student.model.loading import load_student
from tutelage.student.model.precision import prepare
from tutelage.student.model.student import Student
from tutelage.student.training.trainer import train

TRAIN, DEV = generate(12, 1), generate(4, 2)
ROWS = build_training_examples(
    TRAIN,
    NLI,
    [Rationale(e.uid, "human", e.reason or "", "ok") for e in TRAIN],
    "label_then_rationale",
)
OBJECTIVES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)
SETTINGS = TrainSettings(
    learning_rate=1e-3,
    batch_size=6,
    max_steps=2,
    warmup_steps=1,
    dropout=0.1,
    max_rationale_tokens=8,
    threads=2,
    fast="off",
)
"""Two threads and room for two micro-batches at once, so that `auto` would use every part."""


CALLED = "student.fast was called"


def _refuse(*_: object, **__: object) -> None:
    # Not by the name CALLED: this code takes the place of another module's.
    raise AssertionError("student.fast was called")


def _modules() -> list[ModuleType]:
    package = tutelage.student.fast
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


@pytest.fixture
def fast_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every function and method of `student.fast` raises, whoever has imported it."""
    replaced = set()
    for module in _modules():
        for name, value in list(vars(module).items()):
            if getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(value):
                for method in [n for n, m in vars(value).items() if _is_method(m)]:
                    monkeypatch.setattr(value, method, staticmethod(_refuse))
                    replaced.add(f"{name}.{method}")
            elif inspect.isroutine(value):
                # Its code, which everybody who has imported the function shares.
                monkeypatch.setattr(inspect.unwrap(value), "__code__", _refuse.__code__)
                replaced.add(name)
    assert {"prepare_model", "ThreadedExecutor.__init__", "add_to"} < replaced
    assert {"dropout_generator", "_Dropout.forward", "keep_freed_memory"} < replaced


def _is_method(member: object) -> bool:
    return inspect.isfunction(getattr(member, "__func__", member))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_off_uses_none_of_it(
    student: Student, objective: ObjectiveName, fast_refuses: None, tmp_path: Path
) -> None:
    settings = SETTINGS.replace(objective=objective)
    train(student, ROWS, DEV, NLI, settings, tmp_path)
    loaded = load_student(str(tmp_path / "model"), fast="off")
    prepare(loaded, "fp32")
    predictions = score_labels(loaded, DEV, NLI, max_rationale_tokens=8)
    assert len(predictions) == len(DEV)
    explain(loaded, DEV, predictions, NLI, max_rationale_tokens=8)
    write_explanations(loaded, DEV, NLI, max_rationale_tokens=8)
    audit_arm(loaded, "arm", ROWS, settings)


def test_off_holds_for_jobs_and_files(student: Student, fast_refuses: None, tmp_path: Path) -> None:
    student.save(tmp_path / "start")
    folder = tmp_path / "seed-0"
    settings = SETTINGS.replace(threads=1)
    job = TrainingJob(str(tmp_path / "start"), None, ROWS, DEV, NLI, settings, folder)
    run_job(job)
    assert len(run_job(ScoringJob(job, DEV, None))) == len(DEV)
    assert len(run_job(ExplanationJob(job, DEV, None))) == len(DEV)
    predicted = Trained.load(folder / "model", fast="off").predict(DEV, explain=True)
    assert [p.uid for p in predicted] == [e.uid for e in DEV]


def test_auto_uses_it(student: Student, fast_refuses: None, tmp_path: Path) -> None:
    """Otherwise the tests above would show nothing."""
    with pytest.raises(AssertionError, match=CALLED):
        score_labels(student, DEV, NLI)
    with pytest.raises(AssertionError, match=CALLED):
        prepare(student, "fp32")
    with pytest.raises(AssertionError, match=CALLED):
        train(student, ROWS, DEV, NLI, SETTINGS.replace(fast="auto"), tmp_path)
