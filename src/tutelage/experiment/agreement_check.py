"""Asks each teacher about labelled training rows before unlabelled ones are paid for.

The teacher labels a random sample of training rows, whose labels it does not see, through the
machinery that its other answers use: ledger, rate limits, budget. Labels that are worse than the
most frequent one are not worth buying: then the run stops, and nothing else has been asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tutelage.config.recipe import Recipe
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import BudgetError, DataError, TeacherError
from tutelage.core.main_metric import MetricName, metric_in_words, score_of_labels
from tutelage.core.progress import Observer
from tutelage.core.results import LabelAgreementResult, TeacherAgreement, TokenCounts
from tutelage.core.task import Task
from tutelage.core.types import Example, Rationale
from tutelage.core.wording import joined, percent, percent_interval
from tutelage.core.words import text_key
from tutelage.data.unlabelled import without_label
from tutelage.evaluation.label_agreement import (
    accuracy_interval,
    estimated_shares,
    label_counts,
    label_shares,
    precision,
)
from tutelage.evaluation.statistics import wilson_interval
from tutelage.experiment.arm_strategies import draw_rows, shots_of, strategy_of
from tutelage.experiment.asking import Asking
from tutelage.experiment.prepare import Splits
from tutelage.experiment.provider_terms import point_to_terms
from tutelage.strategies.lookup import Strategy
from tutelage.teacher.annotate import Annotation
from tutelage.teacher.registry import is_looked_up


@dataclass(frozen=True, slots=True)
class LabelTeacher:
    """A teacher that arms buy labels from, and how it is asked.

    settings: of live requests
    shots:    labelled rows in every prompt
    batches:  whether the arms ask it in batches, at another price
    """

    settings: TeacherSettings
    strategy: Strategy
    shots: tuple[Example, ...]
    batches: bool

    @property
    def title(self) -> str:
        """What progress and errors call it."""
        return f"agreement of {self.settings.model} ({self.strategy.name})"


def label_teachers(recipe: Recipe, train: Sequence[Example]) -> list[LabelTeacher]:
    """The teachers of the arms that learn unlabelled rows, second ones too, each once for every
    strategy. Requests are live even where others go in batches: a batch may take a day."""
    shots = shots_of(recipe, train)
    found: list[LabelTeacher] = []
    known: list[tuple[str | None, str | None, TeacherSettings]] = []
    for arm in recipe.arms:
        if not arm.learns_pool or arm.strategy is None or arm.control == "self_training":
            continue
        for settings in (recipe.teacher_of(arm), arm.agrees_with):
            if settings is None or (key := (arm.strategy, arm.template, settings)) in known:
                continue
            known.append(key)
            strategy, batches = strategy_of(recipe, arm, train), settings.mode == "batch"
            found.append(LabelTeacher(settings.replace(mode="live"), strategy, shots, batches))
    return found


def check_agreement(
    recipe: Recipe,
    splits: Splits,
    ledger: Path | None,
    observer: Observer,
    *,
    pool_rows: Sequence[Example] = (),
    student_accuracy: float | None = None,
    retry_failed: bool = False,
) -> tuple[TeacherAgreement, ...]:
    """Ask every teacher that arms buy labels from about labelled training rows, and say what it
    found; nothing where no arm buys labels.

    pool_rows: unlabelled rows that will be bought in any case: the answers about them say how
               frequent the labels are there. Without any, the training rows do
    student_accuracy: the recipe's metric on dev of students of labels alone, a fraction; a teacher
               below it is warned of. None: not known

    Charged to the budget of the recipe's name, as rationales are. Raises TeacherError where a
    teacher's interval lies below what always answering the most frequent label reaches, and
    BudgetError, TeacherError and related errors as `annotate` does.
    """
    task = recipe.resolved_task()
    teachers = label_teachers(recipe, splits.train)
    point_to_terms(recipe, observer)
    found = []
    for teacher in teachers:
        asking = Asking(recipe, ledger, observer, retry_failed)
        rows, done = _sampled(splits, asking, teacher)
        result = describe(recipe, splits, teacher, rows, done)
        if result.ci95[1] < result.majority_share:
            raise TeacherError(_stopped(result, recipe.metric))
        if pool_rows and not teacher.batches:  # live, their answers would cost more
            answers = _ask(asking, teacher, pool_rows).rationales
            result = with_pool_answers(result, task, rows, done, answers)
        result = replace(result, student_accuracy=student_accuracy)
        observer.note(sentence(result, recipe.metric))
        if (warning := below_student(result, recipe.metric)) is not None:
            observer.note(warning)
        found.append(result)
    return tuple(found)


def sample_rows(
    train: Sequence[Example], shots: Sequence[Example], task: Task
) -> tuple[Example, ...]:
    """The training rows that a teacher may be tested on, in random order: none that stands in the
    prompt, has the text of one that does, or shares its context."""
    groups = {task.group(shot.uid, shot.fields) for shot in shots}
    texts = {_text(shot, task) for shot in shots}
    return draw_rows(
        [
            row
            for row in train
            if task.group(row.uid, row.fields) not in groups and _text(row, task) not in texts
        ],
        len(train),
        task,
    )


def describe(
    recipe: Recipe,
    splits: Splits,
    teacher: LabelTeacher,
    rows: Sequence[Example],
    done: Annotation,
) -> TeacherAgreement:
    """The answers about labelled rows, compared with the labels; the labels' shares among the
    unlabelled rows are taken to be those of the training rows."""
    task = recipe.resolved_task()
    answers = [rationale.label for rationale in done.rationales]
    right = [answer == row.label for answer, row in zip(answers, rows, strict=True)]
    gold = [row.label for row in rows]
    groups = [task.group(row.uid, row.fields) for row in rows]
    ci95, method = accuracy_interval(right, groups, gold if recipe.balanced else None)
    train = [row.label for row in splits.train]
    ((majority, count),) = Counter(train).most_common(1)
    always = 1 / len(set(gold)) if recipe.balanced else count / len(train)
    result = TeacherAgreement(
        model=teacher.settings.model,
        strategy=teacher.strategy.name,
        shots=len(teacher.shots),
        rows=len(rows),
        accuracy=score_of_labels(answers, gold, recipe.metric),
        ci95=ci95,
        ci_method=method,
        without_label=answers.count(None),
        statuses=dict(Counter(rationale.status for rationale in done.rationales)),
        per_label={},
        shares_from="training rows",
        pool_answers=0,
        majority_label=majority,
        majority_share=always,
        student_accuracy=None,
        requests=done.requests,
        cached=done.cached,
        tokens=TokenCounts(done.tokens.prompt_tokens, done.tokens.completion_tokens),
        cost_usd=done.summary.cost_usd,
    )
    shares = label_shares(train, task.labels)
    return _with_shares(result, task, rows, done, shares, "training rows", 0)


def with_pool_answers(
    result: TeacherAgreement,
    task: Task,
    rows: Sequence[Example],
    done: Annotation,
    pool_answers: Sequence[Rationale],
) -> TeacherAgreement:
    """The same, with the labels' shares estimated from the teacher's own answers about unlabelled
    rows. `result` itself where none of these names a label."""
    place = {label: number for number, label in enumerate(task.labels)}
    named = Counter(place[each.label] for each in pool_answers if each.label is not None)
    counts = label_counts([r.label for r in rows], [a.label for a in done.rationales], task.labels)
    if not named or not counts[:, :-1].any():
        return result
    shares = estimated_shares(counts, named)
    return _with_shares(result, task, rows, done, shares, "answers", sum(named.values()))


def sentence(found: TeacherAgreement, metric: MetricName = "accuracy") -> str:
    """What was found, for the terminal."""
    labels = found.per_label.items()
    recalls = [f"{label} {percent(of.recall, 0)} of {of.rows}" for label, of in labels if of.rows]
    right = [
        f"{label} {percent(of.precision, 0)} (share {percent(of.share, 0)})"
        for label, of in labels
        if of.precision is not None
    ]
    source = (
        f"its {found.pool_answers:,} answers about unlabelled rows"
        if found.shares_from == "answers"
        else "the training rows"
    )
    without = f", {found.without_label} without a label" if found.without_label else ""
    said = f"; right on {joined(right)} of the labels that it gives, with shares from {source}"
    return (
        f"agreement: {found.model} ({found.strategy}) gives the label of "
        f"{_right(found, metric)}{without}); by label: {joined(recalls)}{said if right else ''}"
    )


def _right(found: TeacherAgreement, metric: MetricName) -> str:
    """`150 of 200 training rows (75.0%, 95% interval 68.6 to 80.5%`, without the last bracket."""
    hits = sum((of.recall or 0) * of.rows for of in found.per_label.values())
    what = "" if metric == "accuracy" else f"{metric_in_words(metric)} "
    return (
        f"{round(hits)} of {found.rows} training rows ({what}{percent(found.accuracy)}, 95% "
        f"interval {percent_interval(found.ci95)}"
    )


def below_student(found: TeacherAgreement, metric: MetricName = "accuracy") -> str | None:
    """The warning about a teacher whose interval lies below what students of labels alone reach;
    None where it does not, or that is not known."""
    if found.student_accuracy is None or found.ci95[1] >= found.student_accuracy:
        return None
    reached = f"is right on {percent(found.accuracy)} of labelled rows"
    if metric != "accuracy":
        reached = f"has a {metric_in_words(metric)} of {percent(found.accuracy)} on labelled rows"
    return (
        f"agreement: {found.model} ({found.strategy}) {reached} "
        f"(95% interval {percent_interval(found.ci95)}), less than students of "
        f"labels alone on dev ({percent(found.student_accuracy)}): such labels are unlikely to "
        "teach them anything"
    )


def _ask(asking: Asking, teacher: LabelTeacher, rows: Sequence[Example]) -> Annotation:
    """The answers of a teacher about these rows, in their order."""
    try:
        return asking.annotate(rows, teacher.strategy, teacher.settings, teacher.title)
    except BudgetError as error:
        raise BudgetError(f"{teacher.title}: {error}") from error


def _sampled(
    splits: Splits, asking: Asking, teacher: LabelTeacher
) -> tuple[tuple[Example, ...], Annotation]:
    """The sample, with its labels, and the answers to it without them.

    Of a teacher that looks answers up, only rows count that it has an answer for.
    """
    task = asking.recipe.resolved_task()
    wanted = asking.recipe.labelling.agreement_rows
    rows = sample_rows(splits.train, teacher.shots, task)
    if not is_looked_up(teacher.settings):
        rows = rows[:wanted]
    if not rows:
        raise DataError(
            f"{teacher.title}: all {len(splits.train)} training rows stand in the prompt, or share "
            "the context of one that does: lower labelling.shots_per_label"
        )
    done = _ask(asking, teacher, [without_label(row) for row in rows])
    if not is_looked_up(teacher.settings):
        return rows, done
    there = [
        place
        for place, answer in enumerate(done.rationales)
        if answer.status != "empty" or answer.label is not None
    ][:wanted]
    if not there:
        raise TeacherError(
            f"{teacher.title}: it has no answer about any of {len(rows)} training rows, so that "
            "its labels cannot be compared with known ones: expected recorded answers for some"
        )
    kept = tuple(done.rationales[place] for place in there)
    return tuple(rows[place] for place in there), replace(done, rationales=kept)


def _with_shares(
    result: TeacherAgreement,
    task: Task,
    rows: Sequence[Example],
    done: Annotation,
    shares: Sequence[float],
    source: Literal["answers", "training rows"],
    pool_answers: int,
) -> TeacherAgreement:
    counts = label_counts([r.label for r in rows], [a.label for a in done.rationales], task.labels)
    right = precision(counts, shares)
    per_label = {}
    for number, label in enumerate(task.labels):
        of_label, hits = int(counts[number].sum()), int(counts[number, number])
        per_label[label] = LabelAgreementResult(
            rows=of_label,
            recall=hits / of_label if of_label else None,
            ci95=wilson_interval(hits, of_label) if of_label else None,
            answered=int(counts[:, number].sum()),
            share=shares[number],
            precision=right[number],
        )
    return replace(result, per_label=per_label, shares_from=source, pool_answers=pool_answers)


def _stopped(found: TeacherAgreement, metric: MetricName) -> str:
    has = "is right on" if metric == "accuracy" else "has"
    return (
        f"agreement: {found.model} ({found.strategy}) gives the label of "
        f"{_right(found, metric)}), and always "
        f"answering {found.majority_label!r} {has} {percent(found.majority_share)}: nothing "
        "else was asked; name another teacher or strategy, or show it examples with labelling: "
        "{shots_per_label: 2}"
    )


def _text(row: Example, task: Task) -> tuple[str, ...]:
    return tuple(text_key(row.fields[name]) for name in task.fields)
