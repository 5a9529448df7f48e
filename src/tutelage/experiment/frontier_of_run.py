"""`tutelage frontier`: accuracy against cost for student, teacher and all thresholds between them.

The student's answers are the run's own predictions, the teacher's come from the ledger. Thresholds
are compared on dev; the test set is opened for the chosen one alone, and the manifest says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import load_recipe
from tutelage.core.checkpoint_record import read_record
from tutelage.core.errors import RunFolderError, UsageError
from tutelage.core.progress import Observer, Silent
from tutelage.core.storage import as_json, digest, write_json
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction
from tutelage.deliver.escalation import Labels, is_unbounded, label_teacher
from tutelage.deliver.score_matrix import score_matrix
from tutelage.deliver.trained import checkpoint_in
from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.frontier import (
    Alone,
    Flags,
    Floats,
    Frontier,
    FrontierPoint,
    TestedThreshold,
    choose_point,
    point_at,
    right_together,
    thresholds_between,
)
from tutelage.evaluation.temperature import fit_temperature, probabilities_at
from tutelage.experiment import manifest
from tutelage.experiment.arm_strategies import draw_rows
from tutelage.experiment.prepare import Splits, load_splits
from tutelage.student.jobs.jobs import read_predictions
from tutelage.teacher.cost.prices import PICO

FRONTIER = "frontier.json"


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows with what the student answers, and the teacher where it is known.

    groups: of each row, for intervals; known: whether the teacher has answered, with a label or not
    """

    confidence: Floats
    student_right: Flags
    teacher_right: Flags
    unanswered: Flags
    known: Flags
    usd: Floats | None
    groups: list[str]

    def point(self, threshold: float) -> FrontierPoint:
        return point_at(
            threshold,
            self.confidence,
            self.student_right,
            self.teacher_right,
            self.unanswered,
            self.usd,
        )

    def right_together(self, threshold: float) -> Flags:
        return right_together(
            threshold, self.confidence, self.student_right, self.teacher_right, self.unanswered
        )


def frontier_of_run(
    run: Path,
    *,
    rows: int | None = None,
    threshold: float | None = None,
    most_usd: float | None = None,
    ask: bool = False,
    test: bool = False,
    ledger: Path | None = None,
    observer: Observer | None = None,
) -> Frontier:
    """The frontier of the model that a run recommends, written to frontier.json in its folder.

    rows:      of dev, drawn as for the teacher as a baseline; None: all
    threshold: the one to choose; None: the most accurate one on dev
    most_usd:  what the teacher's answers may cost for 1,000 rows, for that choice
    ask:       ask the teacher, within the recipe's budget, where the ledger has no answer
    test:      open the test set for the chosen threshold, and record that in the manifest

    Raises RunFolderError for a run that is not finished, UsageError where answers are missing and
    may not be asked for, BudgetError and others as `annotate` does.
    """
    if threshold is not None and most_usd is not None:
        raise UsageError("--threshold and --most-usd both choose the threshold: remove one of them")
    checkpoint = checkpoint_in(run)
    recipe = load_recipe(str(run / "recipe.yaml"))
    record = read_record(checkpoint)
    task = record.task
    splits = load_splits(recipe)
    labels = Labels(label_teacher(recipe), task, ledger, recipe.name)
    watcher = observer or Silent()
    try:
        dev_rows = splits.dev if rows is None else draw_rows(splits.dev, rows, task)
        found = _predictions(checkpoint, "dev", splits.dev)
        temperature = _temperature(found, task)
        known = {p.uid: p for p in found}
        hint = _sample_hint(recipe, splits, labels, rows)
        _complete(labels, dev_rows, "dev", ask, watcher, hint)
        dev = _table(labels, dev_rows, [known[e.uid] for e in dev_rows], temperature, splits)
        points = tuple(map(dev.point, thresholds_between(dev.confidence.tolist())))
        chosen, rule = _chosen(dev, points, threshold, most_usd)
        result = Frontier(
            name=recipe.name,
            model=checkpoint.resolve().relative_to(run.resolve()).as_posix(),
            model_sha256=record.weights_sha256,
            teacher=labels.teacher.model,
            temperature=temperature,
            rows=len(dev_rows),
            student=_alone(dev, dev.student_right, 0.0),
            teacher_alone=_alone(
                dev,
                dev.teacher_right & ~dev.unanswered,
                None if dev.usd is None else float(1000 * dev.usd.mean()),
            ),
            points=points,
            chosen=chosen,
            rule=rule,
            notes=tuple(_notes(dev, len(dev_rows), len(splits.dev))),
        )
        if test:
            result = _with_test(run, checkpoint, result, labels, splits, ask, watcher)
    finally:
        labels.ledger.close()
    write_json(run / FRONTIER, as_json(result))
    return result


def _predictions(checkpoint: Path, split: str, rows: Sequence[Example]) -> list[Prediction]:
    """The run's own predictions, in the order of the rows."""
    path = checkpoint.parent / f"{split}.jsonl"
    if not path.is_file():
        raise RunFolderError(f"{path}: is missing: finish the run with `tutelage run`")
    found = {p.uid: p for p in read_predictions(path)}
    if {(e.uid, e.label) for e in rows} != {(p.uid, p.gold) for p in found.values()}:
        raise RunFolderError(
            f"{path}: holds other rows than the recipe's {split}: run `tutelage run` again"
        )
    return [found[e.uid] for e in rows]


def _temperature(found: Sequence[Prediction], task: Task) -> float:
    scores = score_matrix(found, task.labels)
    return fit_temperature(scores, [task.labels.index(p.gold) for p in found])


def _confidence(found: Sequence[Prediction], task: Task, temperature: float) -> Floats:
    """The probability of the student's own label, for each row."""
    sure: Floats = probabilities_at(score_matrix(found, task.labels), temperature).max(axis=1)
    return sure


def _complete(
    labels: Labels,
    rows: Sequence[Example],
    split: str,
    ask: bool,
    observer: Observer,
    hint: str = "",
) -> None:
    """See to it that the teacher has answered all rows, or failed for good.

    Raises UsageError where it has not and may not be asked.
    """
    missing = labels.missing(rows)
    if not missing:
        return
    if not ask:
        worst = labels.worst_usd(missing)
        cost = "at an unknown price" if worst is None else f"for at most ${worst:.4f}"
        raise UsageError(
            f"{split}: the ledger has no label of {labels.teacher.model} for {len(missing):,} of "
            f"{len(rows):,} rows: add --ask to ask for them, {cost} and within the recipe's "
            f"budget{hint}"
        )
    if is_unbounded(labels.teacher):
        raise UsageError("--ask: the recipe sets no teacher.budget_usd: set one first")
    observer.note(f"asking {labels.teacher.model} for {len(missing):,} labels of {split}")
    labels.ask(missing, lambda index, rationale: None, on_note=observer.note)


def _sample_hint(recipe: Recipe, splits: Splits, labels: Labels, rows: int | None) -> str:
    """That the baseline's sample is complete, where it is."""
    sample = recipe.teacher_baseline.rows
    if rows is not None or sample >= len(splits.dev):
        return ""
    drawn = draw_rows(splits.dev, sample, labels.task)
    return "" if labels.missing(drawn) else f"; or --rows {sample}, which it has been asked about"


def _table(
    labels: Labels,
    rows: Sequence[Example],
    found: Sequence[Prediction],
    temperature: float,
    splits: Splits,
) -> _Rows:
    task = labels.task
    answers = labels.known(rows)
    units = splits.groups(rows, task)
    teacher_right, unanswered, known, usd = [], [], [], []
    priced = True
    for row in rows:
        completion = answers.get(labels.key(row))
        label = None if completion is None else labels.read(completion, row).label
        known.append(completion is not None)
        unanswered.append(label is None)
        teacher_right.append(label == row.label)
        pico = 0 if completion is None else completion.pico
        priced = priced and pico is not None
        usd.append((pico or 0) / PICO)
    return _Rows(
        confidence=_confidence(found, task, temperature),
        student_right=np.array([p.label == p.gold for p in found]),
        teacher_right=np.array(teacher_right),
        unanswered=np.array(unanswered),
        known=np.array(known),
        usd=np.array(usd) if priced else None,
        groups=[units[row.uid] for row in rows],
    )


def _alone(rows: _Rows, right: Flags, usd: float | None) -> Alone:
    found = crossed_random_effects(
        right.astype(np.float64)[:, None], rows.groups, bounds=(0.0, 1.0)
    )
    return Alone(float(right.mean()), (found.ci_low, found.ci_high), usd)


def _chosen(
    dev: _Rows,
    points: Sequence[FrontierPoint],
    threshold: float | None,
    most_usd: float | None,
) -> tuple[FrontierPoint, str]:
    if threshold is not None:
        return dev.point(threshold), "named"
    chosen = choose_point(points, most_usd)
    if chosen is None:
        raise UsageError(
            "--most-usd: no price of the teacher's answers is known: set teacher.price"
        )
    if most_usd is None:
        return chosen, "the most accurate on dev"
    return chosen, f"the most accurate on dev for at most ${most_usd:g} for 1,000 rows"


def _notes(dev: _Rows, rows: int, of: int) -> list[str]:
    notes = [
        "Dev chose the checkpoint, so the student is somewhat less accurate on new rows than here.",
        "Thresholds are of an export's probabilities, at the temperature that was fitted on dev.",
    ]
    if rows < of:
        notes.append(f"A sample of {rows:,} of the {of:,} rows of dev, drawn by their text.")
    if count := int((~dev.known).sum()):
        notes.append(f"{count:,} rows have no answer: the student's stands, at no cost.")
    return notes


def _with_test(
    run: Path,
    checkpoint: Path,
    result: Frontier,
    labels: Labels,
    splits: Splits,
    ask: bool,
    observer: Observer,
) -> Frontier:
    """Evaluate the chosen threshold on the test set, and record that it was opened for it."""
    rows, threshold = splits.test, result.chosen.threshold
    found = _predictions(checkpoint, "test", rows)
    confidence = _confidence(found, labels.task, result.temperature)
    below = [row for row, sure in zip(rows, confidence, strict=True) if sure < threshold]
    _complete(labels, below, "test, below the threshold", ask, observer)
    opening: dict[str, Any] = {
        "threshold": threshold,
        "temperature": result.temperature,
        "model_sha256": result.model_sha256,
        "teacher": labels.teacher.model_dump(mode="json", exclude={"headers"}),
        "test_rows_sha256": digest(list(rows)),
    }
    time, others = manifest.record_threshold(run, opening)
    table = _table(labels, rows, found, result.temperature, splits)
    point = table.point(threshold)
    final = table.right_together(threshold).astype(np.float64)
    gain = crossed_random_effects((final - table.student_right)[:, None], table.groups)
    tested = TestedThreshold(
        rows=len(rows),
        point=point,
        student=float(table.student_right.mean()),
        gain=gain.estimate,
        ci95=(gain.ci_low, gain.ci_high),
        time=time,
    )
    manifest.record_threshold_answer(run, opening, as_json(tested))
    return replace(result, test=tested, others=others)
