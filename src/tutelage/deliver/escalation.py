"""Escalation: what the student is not sure of is answered by the teacher, within a budget.

The teacher is asked for the label alone, as for the baseline without worked examples, so that both
share their answers in the ledger. It never sees a row's own label. Free of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tutelage.config.asked_teachers import teachers_of
from tutelage.config.escalation_settings import EscalationSettings
from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import load_recipe
from tutelage.config.teacher_settings import FREE, TeacherSettings
from tutelage.core.errors import BudgetError, UsageError
from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Prediction, Rationale
from tutelage.strategies.labelling import Labelling
from tutelage.teacher.annotate import Options, annotate_each
from tutelage.teacher.cost.budget import budget_for
from tutelage.teacher.cost.prices import PICO, worst_case
from tutelage.teacher.engine.failures import RetryPolicy
from tutelage.teacher.engine.interrupts import run_interruptible
from tutelage.teacher.engine.requests import RequestBuilder
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.parsing import parse_answer
from tutelage.teacher.registry import is_looked_up, open_teacher

Answerer = Literal["student", "teacher"]

SPENT = "the budget for the teacher's answers is spent: this is the student's answer"
NO_LABEL = "the teacher's answer names no label: this is the student's answer"
NO_ANSWER = "the teacher gave no answer: this is the student's answer"


@dataclass(frozen=True, slots=True)
class EscalatedPrediction(Prediction):
    """A prediction, and who gave its label.

    answered_by:      who gave `label`; the probabilities, and a rationale, are the student's
    student_label:    the student's own
    teacher_label:    the teacher's; None where it was not asked, or its answer names none
    teacher_cost_usd: US dollars that were charged for its answer in this call: 0 where the ledger
                      had it; None where it was not asked, or no price is known
    note:             why a row below the threshold has the student's answer; else empty
    """

    answered_by: Answerer = "student"
    student_label: str = ""
    teacher_label: str | None = None
    teacher_cost_usd: float | None = None
    note: str = ""

    @property
    def was_below(self) -> bool:
        """Whether the student was less sure than the threshold."""
        return self.answered_by == "teacher" or bool(self.note)


def by_student(prediction: Prediction, note: str = "") -> EscalatedPrediction:
    """The student's own answer."""
    return EscalatedPrediction(
        **{field.name: getattr(prediction, field.name) for field in fields(Prediction)},
        student_label=prediction.label,
        note=note,
    )


def by_teacher(
    prediction: Prediction, answer: Rationale, cost_usd: float | None
) -> EscalatedPrediction:
    """The teacher's answer, or the student's where the teacher's names no label.

    A rationale explains the student's label: it is left out where the teacher's is another.
    """
    values = {field.name: getattr(prediction, field.name) for field in fields(Prediction)}
    given: Answerer = "student" if answer.label is None else "teacher"
    if answer.label is not None and answer.label != prediction.label:
        values |= {"label": answer.label, "rationale": None}
    unanswered = NO_ANSWER if answer.status == "failed" and not answer.text else NO_LABEL
    return EscalatedPrediction(
        **values,
        answered_by=given,
        student_label=prediction.label,
        teacher_label=answer.label,
        teacher_cost_usd=cost_usd,
        note="" if given == "teacher" else unanswered,
    )


def is_below(prediction: Prediction, threshold: float) -> bool:
    """Whether the student is less sure of its answer than the threshold."""
    return prediction.probabilities[prediction.label] < threshold


def recipe_named(source: str) -> Recipe:
    """The recipe that `source` names: a file, a packaged one, or that of a run's folder."""
    run = Path(source) / "recipe.yaml"
    return load_recipe(str(run) if run.is_file() else source)


def label_teacher(recipe: Recipe) -> TeacherSettings:
    """The teacher of a recipe that can be asked for labels.

    Raises UsageError where it has none, or several.
    """
    free = [one for one in teachers_of(recipe) if not is_looked_up(one)]
    if len(free) != 1:
        names = ", ".join(one.model for one in free)
        raise UsageError(
            f"recipe {recipe.name!r}: "
            + (f"its arms ask several teachers ({names})" if free else "no teacher answers rows")
            + ", expected one that can be asked for a label: name a recipe with one, such as "
            "teacher: openai:MODEL"
        )
    return free[0].replace(mode="live")


def is_unbounded(teacher: TeacherSettings) -> bool:
    """Whether a teacher's answers may have a cost, and nothing bounds it."""
    return teacher.remote and teacher.budget_usd is None and teacher.price != FREE


class Labels:
    """The labels that a teacher gives, in the ledger or asked for.

    scope: the budget that answers are charged to
    """

    def __init__(
        self, teacher: TeacherSettings, task: Task, ledger: Path | str | None, scope: str
    ) -> None:
        self.teacher, self.task, self.scope = teacher, task, scope
        self.strategy = Labelling(task)
        self._opened = open_teacher(teacher)
        self._builder = RequestBuilder(self.strategy, task, self._opened)
        self.budget = budget_for(self._opened, scope)
        self.ledger = Ledger(ledger)

    @property
    def charged_usd(self) -> float:
        """US dollars that are charged to the budget."""
        return charges.charged(self.ledger, self.scope) / PICO

    def key(self, row: Example) -> str:
        """The key of a row's request: rows of one text have one."""
        return self._builder.pending(row).key

    def known(self, rows: Sequence[Example]) -> dict[str, Completion]:
        """The answers that the ledger has, by key."""
        return self.ledger.get_many({self.key(row) for row in rows})

    def missing(self, rows: Sequence[Example]) -> list[Example]:
        """The rows whose request has neither an answer nor failed for good."""
        keys = [self.key(row) for row in rows]
        with self.ledger.reader() as connection:
            failed = charges.final_failures(connection, keys)
        settled = self.ledger.get_many(keys).keys() | failed.keys()
        return [row for row, key in zip(rows, keys, strict=True) if key not in settled]

    def worst_usd(self, rows: Sequence[Example]) -> float | None:
        """US dollars that asking about rows costs at most; None where no price is known."""
        if self.budget.price is None:
            return None
        requests = dict(self._builder.pending(row) for row in rows)
        return sum(worst_case(one, self.budget.price) for one in requests.values()) / PICO

    def read(self, completion: Completion, row: Example) -> Rationale:
        """A row's answer with its label, if it names one."""
        return parse_answer(self.strategy, completion, row, self.task, self.teacher)

    def ask(
        self,
        rows: Sequence[Example],
        keep: Callable[[int, Rationale], None],
        *,
        policy: RetryPolicy | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        """Ask for the rows' labels; see `teacher.annotate.annotate_each`."""
        options = Options(budget_name=self.scope, policy=policy, on_note=on_note)
        annotate_each(
            rows,
            keep,
            strategy=self.strategy,
            teacher=self.teacher,
            task=self.task,
            ledger=self.ledger,
            options=options,
        )

    def check(self) -> None:
        """Raise AuthenticationError, or another error, where a server cannot be asked at all."""
        if not self.teacher.remote:
            return

        async def open_and_close() -> None:
            async with open_teacher(self.teacher):
                pass

        run_interruptible(open_and_close, lambda: None)


class Escalation:
    """Asks the teacher for rows below a threshold. One call at a time keeps to its rate limits.

    recipe:    whose teacher is asked
    task:      the student's own
    timeout_s: seconds to wait for one answer, where that is less than the recipe's
    """

    def __init__(
        self,
        settings: EscalationSettings,
        recipe: Recipe,
        task: Task,
        threshold: float,
        timeout_s: float | None = None,
    ) -> None:
        asked = recipe.resolved_task()
        if (asked.fields, asked.labels) != (task.fields, task.labels):
            raise UsageError(
                f"--escalate: recipe {recipe.name!r} is about {', '.join(asked.fields)} → "
                f"{', '.join(asked.labels)}, but the student is about {', '.join(task.fields)} → "
                f"{', '.join(task.labels)}: name the recipe that it was trained with"
            )
        teacher, scope = label_teacher(recipe), recipe.name
        if settings.escalation_budget_usd is not None:
            # No recipe has this name, so that the two budgets are never one.
            scope = f"{recipe.name}/escalation"
            teacher = teacher.replace(budget_usd=settings.escalation_budget_usd)
        if is_unbounded(teacher):
            raise UsageError(
                "--escalate: nothing bounds what the teacher's answers may cost: add "
                "--escalation-budget-usd, or set teacher.budget_usd in the recipe"
            )
        if timeout_s is not None:
            teacher = teacher.replace(timeout_s=min(timeout_s, teacher.timeout_s))
        self.threshold = threshold
        self.labels = Labels(teacher, task, settings.ledger, scope)
        self.labels.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledger."""
        self.labels.ledger.close()

    @property
    def model(self) -> str:
        """The teacher."""
        return self.labels.teacher.model

    def ask(
        self,
        rows: Sequence[tuple[Example, Prediction]],
        keep: Callable[[int, EscalatedPrediction], None],
        *,
        policy: RetryPolicy | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        """Ask for the labels of rows, and call `keep` with the index and the answer of each.

        Rows for which nothing is left in the budget keep the student's answer, and `on_note` gets
        a line. Raises TeacherError where the teacher cannot be asked; the rows that were answered
        by then have been kept.
        """
        paid = set(self.labels.known([example for example, _ in rows]))
        waiting = set(range(len(rows)))

        def take(index: int, answer: Rationale) -> None:
            example, prediction = rows[index]
            cost = 0.0 if self.labels.key(example) in paid else answer.cost_usd
            waiting.discard(index)
            keep(index, by_teacher(prediction, answer, cost))

        try:
            self.labels.ask([example for example, _ in rows], take, policy=policy, on_note=on_note)
        except BudgetError as error:
            if on_note is not None:
                on_note(str(error))
            for index in sorted(waiting):
                keep(index, by_student(rows[index][1], SPENT))

    def answer(
        self,
        examples: Sequence[Example],
        found: Sequence[Prediction],
        on_note: Callable[[str], None] | None = None,
    ) -> list[EscalatedPrediction]:
        """The answers of student and teacher together, in order."""
        answers = [by_student(prediction) for prediction in found]
        below = [n for n, one in enumerate(found) if is_below(one, self.threshold)]

        def keep(index: int, answer: EscalatedPrediction) -> None:
            answers[below[index]] = answer

        if below:
            self.ask([(examples[n], found[n]) for n in below], keep, on_note=on_note)
        return answers


def open_escalation(
    settings: EscalationSettings,
    task: Task,
    threshold: float | None,
    *,
    timeout_s: float | None = None,
) -> Escalation | None:
    """The escalation that the settings ask for; None where they ask for none.

    Raises UsageError where there is no threshold, no teacher or no budget; AuthenticationError
    where the teacher's key is missing. Nothing is paid for.
    """
    if settings.escalate is None:
        return None
    if threshold is None:
        raise UsageError(
            "--escalate needs a threshold: add --threshold or --promise, or export the model with "
            "--threshold"
        )
    return Escalation(settings, recipe_named(settings.escalate), task, threshold, timeout_s)
