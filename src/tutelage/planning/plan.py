"""Plan a recipe before anything is paid for: its cost, and the differences it can detect.

`planning.request_cost` counts and prices the requests of its arms and baselines; a pilot turns the
count into a forecast. `planning.power_analysis` estimates the smallest detectable difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.config.arm_settings import ArmSection
from tutelage.config.plan_settings import PlanSettings
from tutelage.config.recipe import Recipe
from tutelage.core.progress import Observer
from tutelage.core.types import Example
from tutelage.data.unlabelled import without_label
from tutelage.evaluation.compare import ALPHA, POWER
from tutelage.experiment.agreement_check import label_teachers, sample_rows
from tutelage.experiment.arm_strategies import strategy_of
from tutelage.experiment.prepare import Splits, load_splits
from tutelage.experiment.provider_terms import terms_of
from tutelage.experiment.teacher_baseline import label_requests
from tutelage.planning import duration
from tutelage.planning.detection import Detection, what_it_takes
from tutelage.planning.duration import Duration
from tutelage.planning.power_analysis import PowerAnalysis, analyse_power, basis_of
from tutelage.planning.request_cost import RequestGroup, RequestPlan, RequestSurvey, Split
from tutelage.planning.spending import Spending, plan_spending, planned_rows, training_size
from tutelage.planning.training_count import TrainingCount, count_trainings
from tutelage.teacher.cost.forecast import BYTES_PER_TOKEN, Amount, sum_of
from tutelage.teacher.cost.prices import PICO
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.store import Ledger, default_path


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """A spending limit of the recipe, in US dollars.

    charged_usd: what runs of the recipe's name have been charged so far
    """

    budget_usd: float
    charged_usd: float
    left_usd: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of a recipe's requests, its trainings, and the power of its experiment.

    pilot_requests: requests that the pilot sent
    requests: one entry for each group of requests, in the order of the arms
    dollars:  cost of all requests at the live price
    batch:    the same through the batch API; requests that cannot use it keep their live price
    trainings: how many students are trained: by the recipe as it is, then by each preset
    power_analysis: None where the recipe compares no arms
    duration: of a run on this machine; None where it has not been measured
    detection: what it takes to detect the difference asked for; None where none was, and as above
    terms:    where it says whether students may be trained on a teacher's answers, a line for each
    """

    name: str
    pilot_requests: int
    requests: tuple[RequestPlan, ...]
    dollars: Amount
    batch: Amount
    trainings: tuple[TrainingCount, ...]
    budgets: tuple[BudgetPlan, ...]
    warnings: tuple[str, ...]
    power_analysis: PowerAnalysis | None
    detection: Detection | None
    duration: Duration | None
    spending: Spending | None
    terms: tuple[str, ...] = ()


def plan_recipe(recipe: Recipe, settings: PlanSettings, observer: Observer) -> Plan:
    """Count and price the requests of a recipe, and estimate which differences it can detect.

    settings: a ledger that does not exist is not created; `runs` and `like` as in `analyse_power`

    A pilot sends the requests with the smallest keys. Keys are digests, so this is a random sample
    that does not depend on the order of the rows, and a larger pilot extends a smaller one: a
    repeated pilot sends nothing. The forecast uses the pilot's answers alone. Without a pilot it
    uses all answers in the ledger, which may come only from the first rows of a file.

    Raises DataError and UsageError for faulty rows and teachers, as a run does, and TeacherError
    where the pilot fails.
    """
    task, splits = recipe.resolved_task(), load_splits(recipe)
    # Before anything is sent: `like` may be refused.
    power_analysis = analyse_power(recipe, splits, settings.runs, settings.like)
    path = settings.ledger or default_path()
    rows_by_key, spending = _spending(recipe, splits, settings, path, observer, power_analysis)
    surveys = [
        RequestSurvey(group, task, observer)
        for group in _request_groups(recipe, splits, rows_by_key)
    ]
    sent = 0
    if settings.pilot is not None:
        for survey in surveys:
            if survey.paid_teacher is not None:
                sent += survey.run_pilot(settings.pilot, path, recipe.name)
    planned: set[int] = set()
    book = Ledger(path) if path.exists() else None
    try:
        requests = tuple(survey.plan(book, planned) for survey in surveys)
        charged = 0 if book is None else charges.charged(book, recipe.name)
    finally:
        if book is not None:
            book.close()
    caps = {s.settings.budget_usd for s in surveys if s.settings is not None}
    budgets = tuple(
        BudgetPlan(cap, charged / PICO, max(cap - charged / PICO, 0.0))
        for cap in sorted(cap for cap in caps if cap is not None)
    )
    dollars = sum_of([group.dollars for group in requests])
    batch = sum_of([group.batch or group.dollars for group in requests])
    to_pay = sum_of([g.batch if g.mode == "batch" and g.batch else g.dollars for g in requests])
    warnings = tuple(itertools.chain.from_iterable(survey.warnings() for survey in surveys))
    size = None if rows_by_key is None else training_size(recipe, splits, rows_by_key)
    trainings = count_trainings(recipe, settings.like or settings.runs / recipe.name)
    return Plan(
        name=recipe.name,
        pilot_requests=sent,
        requests=requests,
        dollars=dollars,
        batch=batch,
        trainings=trainings,
        budgets=budgets,
        warnings=(*warnings, *_assumptions(requests), *_budget_warnings(budgets, to_pay)),
        power_analysis=power_analysis,
        detection=_detection(recipe, splits, settings, trainings[0]),
        duration=_duration(recipe, splits, settings, observer, size),
        spending=spending,
        terms=terms_of(recipe),
    )


_Planned = Mapping[tuple[Any, ...], Sequence[Sequence[Example]]]


def _spending(
    recipe: Recipe,
    splits: Splits,
    settings: PlanSettings,
    path: Path,
    observer: Observer,
    power: PowerAnalysis | None,
) -> tuple[_Planned | None, Spending | None]:
    """What arms that buy are expected to buy; None where all seeds learn the same rows."""
    if not recipe.draws_rows:
        return None, None
    basis = basis_of(recipe, splits, settings.runs, settings.like)
    book = Ledger(path) if path.exists() else None
    try:
        planned = planned_rows(recipe, splits, book, observer)
        design = None if basis is None else basis.design
        return planned, plan_spending(recipe, splits, planned, book, observer, design, power)
    finally:
        if book is not None:
            book.close()


def _duration(
    recipe: Recipe, splits: Splits, settings: PlanSettings, observer: Observer, size: int | None
) -> Duration | None:
    """From what was measured before, or now if the settings ask for it.

    size: rows of the largest arm; None: all of train
    """
    if settings.measure:
        observer.stage("Measuring a few steps of each kind of training")
        measured: duration.Measured | None = duration.measure(recipe, splits, settings.ledger)
    else:
        measured = duration.kept(recipe, splits, settings.ledger)
    return None if measured is None else duration.forecast(recipe, splits, measured, size)


def _detection(
    recipe: Recipe, splits: Splits, settings: PlanSettings, trainings: TrainingCount
) -> Detection | None:
    """What it takes to detect the difference that the settings ask for; None without one."""
    if settings.detect is None:
        return None
    basis = basis_of(recipe, splits, settings.runs, settings.like)
    if basis is None:
        return None
    hours = None if trainings.hours is None else trainings.hours / trainings.seeds
    return what_it_takes(
        basis.design,
        basis.seed_sds,
        settings.detect / 100,
        ALPHA / len(recipe.comparisons().primary),
        POWER,
        trainings.total // trainings.seeds,
        hours,
    )


def _request_groups(
    recipe: Recipe, splits: Splits, planned: _Planned | None
) -> Iterator[RequestGroup]:
    """The requests of the arms, one group for arms that share them; then those of the baselines.

    planned: rows that arms which buy are expected to ask about, by seed
    """
    groups: dict[object, list[ArmSection]] = {}
    for arm in recipe.arms:
        if arm.strategy is not None and arm.control != "self_training":
            groups.setdefault(arm.annotation_key, []).append(arm)
    for (first, *_), names in ((arms, tuple(a.name for a in arms)) for arms in groups.values()):
        assert first.strategy is not None
        strategy = strategy_of(recipe, first, splits.train)
        settings = recipe.teacher_of(first) if strategy.asks_teacher else None
        rows: Sequence[Example] = splits.train
        if planned is not None:
            by_uid = {row.uid: row for of in planned[first.annotation_key] for row in of}
            rows = list(by_uid.values())
        split: Split = "unlabelled" if first.learns_pool else "train"
        teachers = [settings] if first.agrees_with is None else [settings, first.agrees_with]
        for place, teacher in enumerate(teachers):
            title = names[0] if place == 0 else f"{names[0]}, second teacher"
            yield RequestGroup(title, names, strategy, teacher, rows, split)
    for asked in label_teachers(recipe, splits.train):
        known = sample_rows(splits.train, asked.shots, recipe.resolved_task())
        yield RequestGroup(
            title=asked.title,
            arms=(),
            strategy=asked.strategy,
            settings=asked.settings,
            rows=[without_label(row) for row in known[: recipe.labelling.agreement_rows]],
            batches=False,
        )
    for baseline in label_requests(recipe, splits)[0]:
        yield RequestGroup(
            title=baseline.title,
            arms=(),
            strategy=baseline.strategy,
            settings=baseline.settings,
            rows=baseline.rows,
            split="dev",
            batches=False,
        )


def _assumptions(requests: Iterable[RequestPlan]) -> Iterator[str]:
    if any(group.missing and not group.answers for group in requests):
        yield (
            f"without known answers the forecast assumes one token for {BYTES_PER_TOKEN} bytes of "
            "prompt and answers of max_tokens: --pilot 20 sends 20 requests first and forecasts "
            "from their answers"
        )


def _budget_warnings(budgets: Sequence[BudgetPlan], dollars: Amount) -> Iterator[str]:
    for budget in budgets:
        left = f"the ${budget.left_usd:,.2f} left of budget_usd {budget.budget_usd:g}"
        for name, verb, value in (
            ("expected", "will", dollars.expected),
            ("worst case", "may", dollars.most),
        ):
            if value is not None and value > budget.left_usd:
                yield f"the {name} cost ${value:,.2f} exceeds {left}: a run {verb} stop there"
                break
