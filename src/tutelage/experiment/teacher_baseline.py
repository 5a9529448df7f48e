"""The teacher as a baseline: asked for the label itself, of a sample of dev and never of test.

Once without worked examples and once with some from train, through the machinery that asks for
rationales: ledger, governor, budget. An answer in which no label can be read stays a row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.config.recipe import Recipe
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import BudgetError
from tutelage.core.progress import AnnotationProgress, Observer
from tutelage.core.task import Task
from tutelage.core.types import Example, Rationale
from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.statistics import wilson_interval
from tutelage.experiment.prepare import Splits
from tutelage.strategies.labelling import Labelling
from tutelage.strategies.registry import get_strategy
from tutelage.teacher.annotate import Annotation, Options, annotate
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.registry import is_looked_up

_UNREAD_SHOWN = 3
_UNREAD_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class LabelQuestion:
    """A teacher that is asked for labels. shots: worked examples, in the order that they are shown;
    rows: what it is asked about."""

    settings: TeacherSettings
    strategy: Labelling
    shots: tuple[Example, ...]
    rows: tuple[Example, ...]

    @property
    def title(self) -> str:
        """For people."""
        shown = f"{len(self.shots)} examples" if self.shots else "no example"
        return f"teacher baseline, {shown}"


def label_questions(recipe: Recipe, splits: Splits) -> tuple[list[LabelQuestion], str]:
    """What the recipe's teachers are asked as baselines; and why some are not, where some are not.

    Each teacher that an arm asks comes once, whatever the number of arms, and twice is asked:
    without and with examples. Asked live even where rationales go by batch: a batch may take a day.
    """
    if "teacher" not in recipe.baselines:
        return [], "the recipe's `baselines` leave the teacher out"
    task = recipe.resolved_task()
    teachers = list(_teachers(recipe).values())
    free = [settings for settings in teachers if not is_looked_up(settings)]
    looked_up = ", ".join(settings.model for settings in teachers if settings not in free)
    notes = [] if teachers else ["no arm asks a teacher"]
    if looked_up:
        notes.append(f"answers of {looked_up} are looked up, and nothing else can be asked")
    if not free:
        return [], "; ".join(notes)
    section = recipe.teacher_baseline
    rows = draw_rows(splits.dev, section.rows, task)
    shots = draw_shots(splits.train, rows, section.shots_per_label, task)
    if not shots:
        notes.append("no row of train has a context of its own to be a worked example")
    questions = [
        LabelQuestion(settings.replace(mode="live"), Labelling(task, shown), shown, rows)
        for settings in free
        for shown in ([(), shots] if shots else [()])
    ]
    return questions, "; ".join(notes)


def draw_rows(dev: Sequence[Example], count: int, task: Task) -> tuple[Example, ...]:
    """`count` rows, or all: those whose text has the smallest digests, whatever their order."""
    return tuple(sorted(dev, key=lambda row: _digest(row, task))[:count])


def draw_shots(
    train: Sequence[Example], rows: Sequence[Example], per_label: int, task: Task
) -> tuple[Example, ...]:
    """Worked examples: `per_label` of each label, fewer where train has no more.

    Chosen and ordered by the digest of their text, each of a context of its own, and none of a
    context that one of `rows` has: that would show more than how to answer.
    """
    taken = {task.group(row.uid, row.fields) for row in rows}
    missing = Counter(dict.fromkeys(task.labels, per_label))
    shots = []
    for row in sorted(train, key=lambda row: _digest(row, task)):
        group = task.group(row.uid, row.fields)
        if missing[row.label] > 0 and group not in taken:
            missing[row.label] -= 1
            taken.add(group)
            shots.append(row)
    return tuple(shots)


def ask_for_labels(
    recipe: Recipe,
    splits: Splits,
    ledger: Path | None,
    observer: Observer,
    *,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """What belongs into `baselines` of results.json.

    `teacher` has an entry for each teacher and number of examples, `teacher_note` says what is not
    asked and why (null where all is).

    Charged to the budget of the recipe's name, as rationales are. Raises BudgetError, TeacherError
    and their kin as `annotate` does.
    """
    questions, why_not = label_questions(recipe, splits)
    if why_not:
        observer.note(f"the teacher as a baseline: {why_not}")
    task = recipe.resolved_task()
    entries = []
    book = None if ledger is None or not questions else Ledger(ledger)
    try:
        for question in questions:

            def on_progress(progress: AnnotationProgress, title: str = question.title) -> None:
                observer.annotating(title, progress)

            options = Options(
                budget_name=recipe.name,
                retry_failed=retry_failed,
                on_progress=on_progress,
                on_note=observer.note,
            )
            try:
                done = annotate(
                    question.rows,
                    strategy=question.strategy,
                    teacher=question.settings,
                    task=task,
                    ledger=book,
                    options=options,
                )
            except BudgetError as error:
                raise BudgetError(
                    f"{question.title}: {error}; or leave `teacher` out of the recipe's baselines"
                ) from error
            entries.append(describe(question, done, task))
    finally:
        if book is not None:
            book.close()
    return {"teacher": entries, "teacher_note": why_not or None}


def describe(question: LabelQuestion, done: Annotation, task: Task) -> dict[str, Any]:
    """One entry of `baselines.teacher`: a row without a readable label is a wrong one, and counted
    in `unparsed`. `requests` were sent now, `cached` known; tokens and dollars are of both."""
    answers = done.rationales
    right = [a.label == row.label for a, row in zip(answers, question.rows, strict=True)]
    ci95, ci_method = _interval(right, [task.group(r.uid, r.fields) for r in question.rows])
    return {
        "model": question.settings.model,
        "shots": len(question.shots),
        "split": "dev",
        "rows": len(right),
        "accuracy": sum(right) / len(right),
        "ci95": ci95,
        "ci_method": ci_method,
        "unparsed": sum(answer.label is None for answer in answers),
        "statuses": dict(done.counts),
        "unparsed_examples": _unread(answers),
        "per_label": _per_label(right, answers, question.rows, task),
        "requests": done.requests,
        "cached": done.cached,
        "tokens": {
            "prompt": done.tokens.prompt_tokens,
            "completion": done.tokens.completion_tokens,
        },
        "cost_usd": done.summary.cost_usd,
    }


def _teachers(recipe: Recipe) -> dict[str, TeacherSettings]:
    """The teachers that arms ask, each once: by all that decides what it answers."""
    task = recipe.resolved_task()
    found: dict[str, TeacherSettings] = {}
    for arm in recipe.arms:
        if arm.strategy is None:
            continue
        section = recipe.teacher_of(arm)
        strategy = get_strategy(arm.strategy, template=arm.template, task=task)
        if strategy.asks_teacher and section is not None:
            found.setdefault(_identity(section), section)
    return found


def _identity(section: TeacherSettings) -> str:
    decisive = {"model", "base_url", "provider", "temperature", "seed", "max_tokens", "top_p"}
    return section.model_dump_json(include=decisive | {"structured"})


def _digest(row: Example, task: Task) -> str:
    text = "\0".join(row.fields[name] for name in task.fields)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() + row.uid


def _interval(right: Sequence[bool], groups: Sequence[str]) -> tuple[tuple[float, float], str]:
    if len(set(groups)) == len(groups):
        return wilson_interval(sum(right), len(right)), "Wilson interval over rows of this sample"
    table = np.asarray(right, dtype=np.float64)[:, None]
    found = crossed_random_effects(table, groups, bounds=(0.0, 1.0))
    method = f"interval over {len(set(groups))} groups of rows of this sample"
    return (found.ci_low, found.ci_high), method


def _unread(answers: Sequence[Rationale]) -> list[str]:
    texts = [a.text or a.detail for a in answers if a.label is None]
    return [" ".join(text.split())[:_UNREAD_CHARACTERS] for text in texts[:_UNREAD_SHOWN]]


def _per_label(
    right: Sequence[bool], answers: Sequence[Rationale], rows: Sequence[Example], task: Task
) -> Mapping[str, Mapping[str, float | int | None]]:
    table: dict[str, Mapping[str, float | int | None]] = {}
    for label in task.labels:
        hits = [hit for hit, row in zip(right, rows, strict=True) if row.label == label]
        table[label] = {
            "rows": len(hits),
            "accuracy": sum(hits) / len(hits) if hits else None,
            "answered": sum(answer.label == label for answer in answers),
        }
    return table
