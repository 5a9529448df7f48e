"""How long a recipe takes on this machine, and the memory of a training: measured, then counted.

`measure` runs a few seconds of each kind of training (`student.jobs.measuring`), in as many
processes as a run would use. What it finds is kept next to the ledger, by a digest of what decides
it, so that `plan` has it at once. `forecast` multiplies: rows to encode, steps, evaluations on dev,
checkpoints, trials and test rows, dealt to the processes as a run deals them: the trials of all
seeds, then what they chose, then the test rows.
"""

from __future__ import annotations

import heapq
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.config.arm_settings import ArmSection
from tutelage.config.recipe import Recipe
from tutelage.config.training_settings import Config
from tutelage.core.storage import as_json, digest, read_json, write_json
from tutelage.core.types import Example, Rationale
from tutelage.experiment.arm_strategies import strategy_of
from tutelage.experiment.prepare import Splits
from tutelage.experiment.student_check import (
    code_digest,
    examine_classifier,
    examine_recipe,
    identity_of,
    tokenizer_of,
)
from tutelage.experiment.trainings import workers_of
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs.explanation_job import sample_rows
from tutelage.student.jobs.jobs import TrainingJob
from tutelage.student.jobs.measuring import TrainingCost, measure_trainings
from tutelage.student.jobs.resources import cores
from tutelage.teacher.annotate import annotate
from tutelage.teacher.engine.requests import RequestBuilder
from tutelage.teacher.ledger.store import Ledger, default_path
from tutelage.teacher.registry import open_teacher

_SAMPLE_STEPS = 24
"""Steps whose rows are drawn for the measurement."""

_ASSUMED_WORDS = 60
"""Words of a rationale where no answer is known."""

_OVERHEAD = 20.0
"""Seconds for what is not a training or an evaluation: starting processes, statistics, the page."""

NOT_COMPILED = (
    "compile: true is left out of the measurement: the steps may be faster, and compiling them "
    "takes minutes in each process"
)
"""What is said of a recipe with `compile: true`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the trainings of a recipe cost on this machine.

    costs:   kind of training -> its cost; arms of one kind share it (`_kind`)
    workers: trainings at the same time
    assumed: whether the lengths of some rationales were assumed, since none are known yet
    """

    costs: Mapping[str, TrainingCost]
    workers: int
    assumed: bool

    @property
    def memory_bytes(self) -> int:
        """Of one training, at most."""
        return max(cost.memory_bytes for cost in self.costs.values())

    @property
    def memory_in_words(self) -> str:
        """`a training needs 1.2 GB of memory, measured; 2 run at once`."""
        return (
            f"a training needs {self.memory_bytes / 1e9:.1f} GB of memory, measured; "
            f"{self.workers} run{'s' if self.workers == 1 else ''} at once"
        )


@dataclass(frozen=True, slots=True)
class Duration:
    """How long a recipe's run takes after the teacher has answered, in seconds.

    training: all trainings; evaluation: the test rows, and the rationales of students
    workers:  trainings at the same time
    assumed:  as in `Measured`
    memory_bytes: of one training, at most
    compiled: whether the trainings will be compiled, which those that were measured are not
    """

    training: float
    evaluation: float
    workers: int
    assumed: bool
    memory_bytes: int
    compiled: bool = False

    @property
    def total(self) -> float:
        """All of it."""
        return self.training + self.evaluation + _OVERHEAD

    def sentences(self) -> Iterator[str]:
        """What is known of the time and the memory of a run, in lines."""
        at_once = f", {self.workers} at once" if self.workers > 1 else ""
        yield (
            f"time: about {in_words(self.total)} on this machine, after the teacher's answers: "
            f"{in_words(self.training)} of training, {in_words(self.evaluation)} of evaluation"
            f"{at_once} (if it is idle; from a few steps of each kind, measured here; without "
            "early stopping)"
        )
        if self.assumed:
            yield (
                f"  the length of rationales is assumed ({_ASSUMED_WORDS} words): none are known "
                "yet"
            )
        if self.compiled:
            yield f"  {NOT_COMPILED}"
        yield f"memory: {self.memory_bytes / 1e9:.1f} GB for one training, measured"


def kept(recipe: Recipe, splits: Splits, ledger: Path | None = None) -> Measured | None:
    """The measurement that was made before; None where there is none."""
    path = _path(recipe, splits, ledger)
    if path is None or not path.exists():
        return None
    values: dict[str, Any] = read_json(path)
    costs = {kind: TrainingCost(**cost) for kind, cost in values.pop("costs").items()}
    return Measured(costs, **values)


def measure(recipe: Recipe, splits: Splits, ledger: Path | None = None) -> Measured:
    """Measure each kind of training for a few seconds, or return what was measured before.

    Rationales are those of the data and those that the ledger already has; where it has none, texts
    of 60 words stand for them. No request is sent.

    Raises StudentError for a student that cannot be trained.
    """
    known = kept(recipe, splits, ledger)
    if known is not None:
        return known
    # What cannot be trained is refused by its reason, and kept from then on.
    examine_recipe(recipe, splits, ledger)
    for arm in recipe.arms:
        if arm.classifier is not None:
            examine_classifier(recipe, arm, splits, ledger)
    arms = {_kind(recipe, arm): arm for arm in recipe.arms}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tokenizer = None
        if recipe.student.model.startswith("scratch:"):
            rows = [*splits.train, *splits.dev, *splits.test]
            tokenizer = tokenizer_of(recipe, rows, place)
        workers = workers_of(recipe, tokenizer)
        jobs, assumed = [], False
        for arm in arms.values():
            job, guessed = _job(recipe, arm, splits, ledger, tokenizer, place)
            jobs.append(job)
            assumed = assumed or guessed
        costs = measure_trainings(jobs, workers)
    found = Measured(dict(zip(arms, costs, strict=True)), workers, assumed)
    path = _path(recipe, splits, ledger)  # a hub's model has its digest once it is here
    if path is not None:
        write_json(path, as_json(found))
    return found


def forecast(
    recipe: Recipe, splits: Splits, measured: Measured, rows: int | None = None
) -> Duration:
    """The duration of a run, from what was measured. Early stopping is not counted on.

    rows: that decide the steps of a training; None: all of train
    """
    rows = len(splits.train) if rows is None else rows
    seeds = len(recipe.replicates)
    sent: list[list[float]] = []  # trainings of each stage, which begins when the last one is done
    for arms in _groups(recipe):
        costs = [measured.costs[_kind(recipe, arm)] for arm in arms]
        each = [_training(recipe, splits, cost, rows) for cost in costs]
        sent += [each * seeds * recipe.trials, each * seeds]
    tests, trials, texts = list[float](), list[float](), list[float]()
    explained = min(recipe.explain_rows, len(splits.test))
    for arm in recipe.arms:
        cost = measured.costs[_kind(recipe, arm)]
        scoring = cost.start + len(splits.test) * cost.scored_row
        tests += [scoring] * seeds
        trials += [scoring] * seeds * recipe.trials
        if arm.effective_objective != "label" and explained:
            texts.append(cost.start + explained * cost.written_row)
    return Duration(
        training=sum(_dealt(stage, measured.workers) for stage in sent),
        evaluation=sum(_dealt(stage, measured.workers) for stage in (tests, trials, texts)),
        workers=measured.workers,
        assumed=measured.assumed,
        memory_bytes=measured.memory_bytes,
        compiled=recipe.student.compile,
    )


def _groups(recipe: Recipe) -> list[list[ArmSection]]:
    """The arms that are trained together: self-training arms after all others."""
    later = [arm for arm in recipe.arms if arm.control == "self_training"]
    return [[arm for arm in recipe.arms if arm not in later], later]


def _training(recipe: Recipe, splits: Splits, cost: TrainingCost, rows: int) -> float:
    """Seconds of one training."""
    student = recipe.student
    epoch = math.ceil(rows / student.batch_size)
    steps = epoch * student.epochs
    steps = min(steps, student.max_steps or steps)
    evaluations = math.ceil(steps / (student.evaluate_every or epoch))
    # The last evaluation stores no state, and about half of them are the best so far.
    saved = (evaluations + 1) / 2 * cost.saved_model + (evaluations - 1) * cost.saved_state
    scored = evaluations * (cost.merged + len(splits.dev) * cost.scored_row)
    # The start that was measured has encoded a sample.
    more = max(rows - _SAMPLE_STEPS * student.batch_size, 0) * cost.encoded_row
    return cost.start + more + steps * cost.step + scored + saved


def _dealt(seconds: Sequence[float], workers: int) -> float:
    """Seconds until all jobs are done, each taken by the first free process, the longest first."""
    ends = [0.0] * workers
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def _kind(recipe: Recipe, arm: ArmSection) -> str:
    """Trainings of one kind cost the same: the student, what it writes, and whose answers."""
    model = recipe.student.model if arm.classifier is None else arm.classifier.classifier
    if arm.effective_objective == "label":
        return f"{model}: label"
    controls = arm.control if arm.control in ("label_echo", "filler") else ""
    source = digest(list(map(str, arm.annotation_key)))[:8]
    return f"{model}: {arm.effective_objective} {arm.strategy} {source} {controls}".strip()


def _job(
    recipe: Recipe,
    arm: ArmSection,
    splits: Splits,
    ledger: Path | None,
    tokenizer: Path | None,
    folder: Path,
) -> tuple[TrainingJob, bool]:
    """A training of the arm on a sample of its rows, and whether rationales were made up."""
    rows = sample_rows(splits.train, _SAMPLE_STEPS * recipe.student.batch_size)
    task = recipe.resolved_task().without(arm.omits)
    rationales, assumed = None, False
    if arm.strategy is not None:
        rationales, assumed = _rationales(recipe, arm, rows, ledger, folder)
    classifier = arm.classifier
    return TrainingJob(
        recipe.student.model if classifier is None else classifier.classifier,
        tokenizer if classifier is None else None,
        build_training_examples(rows, task, rationales, arm.effective_objective),
        sample_rows(splits.dev, len(splits.dev)),
        task,
        recipe.training(arm, Config(1e-4, 0.5), recipe.replicates[0]),
        folder / arm.name,
        classifies=classifier is not None,
    ), assumed


def _rationales(
    recipe: Recipe, arm: ArmSection, rows: Sequence[Example], ledger: Path | None, folder: Path
) -> tuple[list[Rationale], bool]:
    """A rationale for each row, and whether all of them are made up."""
    assert arm.strategy is not None
    task = recipe.resolved_task()
    strategy = strategy_of(recipe, arm, rows)
    settings = recipe.teacher_of(arm) if strategy.asks_teacher else None
    teacher = None if settings is None else open_teacher(settings)
    if teacher is None or not teacher.paid:
        with Ledger(folder / "free.sqlite") as book:
            given = annotate(rows, strategy=strategy, teacher=settings, task=task, ledger=book)
        return list(given.rationales), False
    path = ledger or default_path()
    texts: dict[str, str] = {}
    if path.exists():
        builder = RequestBuilder(strategy, task, teacher)
        keys = {builder.pending(row)[0]: row.uid for row in rows}
        with Ledger(path) as book:
            for key, answer in book.get_many(keys).items():
                texts[keys[key]] = answer.text
    words = [len(text.split()) for text in texts.values()]
    usual = round(sum(words) / len(words)) if words else _ASSUMED_WORDS
    return [
        Rationale(row.uid, arm.strategy, texts.get(row.uid) or _made_up(row, usual), "ok")
        for row in rows
    ], not words


def _made_up(row: Example, count: int) -> str:
    """A text of `count` words of the row."""
    words = " ".join(row.fields.values()).split() or ["a"]
    return " ".join((words * (count // len(words) + 1))[:count])


def _path(recipe: Recipe, splits: Splits, ledger: Path | None) -> Path | None:
    """The file of a measurement; None where nobody knows whether a model stays the same."""
    models = [recipe.student.model, *(a.classifier.classifier for a in recipe.arms if a.classifier)]
    identities = [identity_of(model) for model in models]
    if None in identities:
        return None
    settings = [
        [_kind(recipe, arm), recipe.training(arm, Config(1e-4, 0.5), 0)] for arm in recipe.arms
    ]
    rows = [len(splits.train), len(splits.dev), [e.fields for e in splits.train[:100]]]
    key = digest([identities, settings, rows, code_digest(), cores()])
    return (ledger or default_path()).parent / "preflight" / f"{key[:32]}-time.json"


def in_words(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
