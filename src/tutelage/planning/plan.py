"""What a recipe will cost and what it could find, said before a cent is spent.

The questions that its arms and baselines put to teachers are counted and priced (`survey`), and a
pilot makes that a forecast; what differences the experiment could see is `foresight`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tutelage.config.plan_settings import PlanSettings
from tutelage.config.recipe import Recipe
from tutelage.config.sections import ArmSection
from tutelage.core.progress import Observer
from tutelage.experiment.prepare import Splits, load_splits
from tutelage.experiment.teacher_baseline import label_requests
from tutelage.planning.power_analysis import Foresight, foresee
from tutelage.planning.request_cost import Asked, QuestionPlan, Survey
from tutelage.strategies.lookup import get_strategy
from tutelage.teacher.cost.forecast import BYTES_PER_TOKEN, Amount, sum_of
from tutelage.teacher.cost.prices import PICO
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.store import Ledger, default_path


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """A cap of the recipe, in US dollars. charged: by runs of its name so far."""

    budget_usd: float
    charged_usd: float
    left_usd: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe's questions will take, and what its experiment could find.

    asked:   requests that the pilot sent
    dollars, batch: of all questions; batch with what has no batch API at its own price
    foresight: None where nothing is compared
    """

    name: str
    asked: int
    questions: tuple[QuestionPlan, ...]
    dollars: Amount
    batch: Amount
    budgets: tuple[BudgetPlan, ...]
    warnings: tuple[str, ...]
    foresight: Foresight | None


def plan_recipe(recipe: Recipe, settings: PlanSettings, observer: Observer) -> Plan:
    """Count and price the requests of a recipe, and say what differences it can detect.

    settings: the ledger is not made where there is none; `runs` and `like` as in `foresee`

    The requests of a pilot are those with the smallest keys, which are digests: a random sample
    that does not change with the order of the rows, and of which a larger one is a continuation.
    So a pilot asked again asks nothing. Its forecast rests on these requests alone; without a
    pilot it rests on all answers in the ledger, which the first rows of a file may have to
    themselves.

    Raises DataError and UsageError for rows and teachers as a run does, and TeacherError where a
    pilot cannot be asked.
    """
    task, splits = recipe.resolved_task(), load_splits(recipe)
    foresight = foresee(
        recipe, splits, settings.runs, settings.like
    )  # before anything is asked: it may be refused
    surveys = [Survey(asked, task, observer) for asked in _questions(recipe, splits)]
    path = settings.ledger or default_path()
    asked = 0
    if settings.pilot is not None:
        for survey in surveys:
            if survey.priced is not None:
                asked += survey.ask(settings.pilot, path, recipe.name)
    planned: set[int] = set()
    book = Ledger(path) if path.exists() else None
    try:
        questions = tuple(survey.plan(book, planned) for survey in surveys)
        charged = 0 if book is None else charges.charged(book, recipe.name)
    finally:
        if book is not None:
            book.close()
    caps = {s.settings.budget_usd for s in surveys if s.settings is not None}
    budgets = tuple(
        BudgetPlan(cap, charged / PICO, max(cap - charged / PICO, 0.0))
        for cap in sorted(cap for cap in caps if cap is not None)
    )
    dollars = sum_of([question.dollars for question in questions])
    batch = sum_of([question.batch or question.dollars for question in questions])
    to_pay = sum_of([q.batch if q.mode == "batch" and q.batch else q.dollars for q in questions])
    warnings = tuple(itertools.chain.from_iterable(survey.warnings() for survey in surveys))
    return Plan(
        name=recipe.name,
        asked=asked,
        questions=questions,
        dollars=dollars,
        batch=batch,
        budgets=budgets,
        warnings=(*warnings, *_assumed(questions), *_over(budgets, to_pay)),
        foresight=foresight,
    )


def _questions(recipe: Recipe, splits: Splits) -> Iterator[Asked]:
    """What arms ask, those with one question together; then what the baselines ask."""
    task = recipe.resolved_task()
    groups: dict[object, list[ArmSection]] = {}
    for arm in recipe.arms:
        if arm.strategy is not None:
            groups.setdefault(arm.annotation_key, []).append(arm)
    for (first, *_), names in ((arms, tuple(a.name for a in arms)) for arms in groups.values()):
        assert first.strategy is not None
        strategy = get_strategy(first.strategy, template=first.template, task=task)
        settings = recipe.teacher_of(first) if strategy.asks_teacher else None
        yield Asked(names[0], names, strategy, settings, splits.train)
    for question in label_requests(recipe, splits)[0]:
        yield Asked(
            title=question.title,
            arms=(),
            strategy=question.strategy,
            settings=question.settings,
            rows=question.rows,
            split="dev",
            batches=False,
        )


def _assumed(questions: Iterable[QuestionPlan]) -> Iterator[str]:
    if any(question.missing and not question.answers for question in questions):
        yield (
            f"where no answer is known, a token for {BYTES_PER_TOKEN} bytes of prompt and answers "
            "of max_tokens are expected: --pilot 20 asks 20 first and forecasts from those"
        )


def _over(budgets: Sequence[BudgetPlan], dollars: Amount) -> Iterator[str]:
    for budget in budgets:
        left = f"the ${budget.left_usd:,.2f} that budget_usd {budget.budget_usd:g} has left"
        for name, verb, value in (
            ("expected", "will", dollars.expected),
            ("worst case", "may", dollars.most),
        ):
            if value is not None and value > budget.left_usd:
                yield f"the {name} ${value:,.2f} is more than {left}: a run {verb} stop there"
                break
