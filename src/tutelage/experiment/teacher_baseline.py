"""The teacher as a baseline: it is asked for the label itself, on a sample of dev, never on test.

Once without worked examples and once with some from train, through the machinery that rationales
use: ledger, rate limits, budget. An answer without a readable label stays in the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.config.asked_teachers import teachers_of
from tutelage.config.recipe import Recipe
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import BudgetError
from tutelage.core.main_metric import MetricName, score_of_labels
from tutelage.core.progress import Observer
from tutelage.core.results import TeacherBaseline, TeacherLabelScore, TokenCounts
from tutelage.core.task import Task
from tutelage.core.types import Example, Rationale
from tutelage.evaluation.label_agreement import accuracy_interval
from tutelage.experiment.arm_strategies import draw_rows, draw_shots
from tutelage.experiment.asking import Asking
from tutelage.experiment.prepare import Splits
from tutelage.strategies.labelling import Labelling
from tutelage.teacher.annotate import Annotation
from tutelage.teacher.registry import is_looked_up

_UNREAD_SHOWN = 3
_UNREAD_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """A teacher that is asked for labels.

    shots: worked examples, in the order in which they are shown
    rows:  that it is asked about
    """

    settings: TeacherSettings
    strategy: Labelling
    shots: tuple[Example, ...]
    rows: tuple[Example, ...]

    @property
    def title(self) -> str:
        """What progress and errors call it."""
        shown = f"{len(self.shots)} examples" if self.shots else "no example"
        return f"teacher baseline, {shown}"


def label_requests(recipe: Recipe, splits: Splits) -> tuple[list[LabelRequest], str]:
    """What the recipe's teachers are asked as baselines; and which are not asked, and why.

    Each teacher comes once, however many arms use it, and is asked twice: without and with worked
    examples. Requests are live even where rationales go in batches: a batch may take a day.
    """
    if "teacher" not in recipe.baselines:
        return [], "the recipe's `baselines` leave the teacher out"
    task = recipe.resolved_task()
    teachers = teachers_of(recipe)
    free = [settings for settings in teachers if not is_looked_up(settings)]
    looked_up = ", ".join(settings.model for settings in teachers if settings not in free)
    notes = [] if teachers else ["no arm asks a teacher"]
    if looked_up:
        notes.append(f"{looked_up} looks answers up and cannot be asked for labels")
    if not free:
        return [], "; ".join(notes)
    section = recipe.teacher_baseline
    rows = draw_rows(splits.dev, section.rows, task)
    shots = draw_shots(splits.train, rows, section.shots_per_label, task)
    if not shots:
        notes.append(
            "no training row can be a worked example: each shares its context with the sample"
        )
    requests = [
        LabelRequest(settings.replace(mode="live"), Labelling(task, shown), shown, rows)
        for settings in free
        for shown in ([(), shots] if shots else [()])
    ]
    return requests, "; ".join(notes)


def ask_for_labels(
    recipe: Recipe,
    splits: Splits,
    ledger: Path | None,
    observer: Observer,
    *,
    retry_failed: bool = False,
) -> tuple[tuple[TeacherBaseline, ...], str | None]:
    """`Baselines.teacher` and `Baselines.teacher_note`.

    One entry for each teacher and number of worked examples; the note says which teachers are not
    asked and why, and is None where all are.

    Charged to the budget of the recipe's name, as rationales are. Raises BudgetError, TeacherError
    and related errors as `annotate` does.
    """
    requests, why_not = label_requests(recipe, splits)
    if why_not:
        observer.note(f"the teacher as a baseline: {why_not}")
    asking = Asking(recipe, ledger, observer, retry_failed)
    entries = []
    for request in requests:
        try:
            done = asking.annotate(request.rows, request.strategy, request.settings, request.title)
        except BudgetError as error:
            raise BudgetError(
                f"{request.title}: {error}; or leave `teacher` out of the recipe's baselines"
            ) from error
        entries.append(describe(request, done, recipe.resolved_task(), recipe.metric))
    return tuple(entries), why_not or None


def describe(
    request: LabelRequest, done: Annotation, task: Task, metric: MetricName = "accuracy"
) -> TeacherBaseline:
    """The teacher's answers, scored; an answer without a readable label counts as wrong."""
    answers = done.rationales
    gold = [row.label for row in request.rows]
    right = [a.label == label for a, label in zip(answers, gold, strict=True)]
    groups = [task.group(row.uid, row.fields) for row in request.rows]
    labels = gold if metric == "balanced_accuracy" else None
    ci95, ci_method = accuracy_interval(right, groups, labels)
    return TeacherBaseline(
        model=request.settings.model,
        shots=len(request.shots),
        split="dev",
        rows=len(right),
        accuracy=score_of_labels([answer.label for answer in answers], gold, metric),
        ci95=ci95,
        ci_method=ci_method,
        unparsed=sum(answer.label is None for answer in answers),
        statuses=dict(done.counts),
        unparsed_examples=_unread(answers),
        per_label=_per_label(right, answers, request.rows, task),
        requests=done.requests,
        cached=done.cached,
        tokens=TokenCounts(done.tokens.prompt_tokens, done.tokens.completion_tokens),
        cost_usd=done.summary.cost_usd,
    )


def _unread(answers: Sequence[Rationale]) -> tuple[str, ...]:
    texts = [a.text or a.detail for a in answers if a.label is None]
    return tuple(" ".join(text.split())[:_UNREAD_CHARACTERS] for text in texts[:_UNREAD_SHOWN])


def _per_label(
    right: Sequence[bool], answers: Sequence[Rationale], rows: Sequence[Example], task: Task
) -> dict[str, TeacherLabelScore]:
    table = {}
    for label in task.labels:
        hits = [hit for hit, row in zip(right, rows, strict=True) if row.label == label]
        table[label] = TeacherLabelScore(
            rows=len(hits),
            accuracy=sum(hits) / len(hits) if hits else None,
            answered=sum(answer.label == label for answer in answers),
        )
    return table
