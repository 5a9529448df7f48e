"""`tutelage plan`: what a recipe costs, and which differences it can detect."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.options import Given, takes
from tutelage.cli.terminal import command_of
from tutelage.config.plan_settings import PlanSettings

if TYPE_CHECKING:
    from tutelage.api import Amount, Pilot, Plan


@takes(PlanSettings, "What the plan rests on")
def plan(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a packaged recipe.")],
    given: Given,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what a recipe will cost, what it trains, and which differences it can detect.

    The cost is in requests, tokens and US dollars. With --pilot N, N requests of each kind are
    made, within the recipe's budget, and the rest is forecast from their real lengths. Without it
    nothing is sent.

    Which difference can be detected depends on how much students differ from each other: measured
    in an earlier run of the recipe or in the one that --like names, otherwise assumed.

    With --detect 2.3, it says how many seeds, rows and trainings it takes to detect 2.3 points.

    Example: `tutelage plan recipe.yaml --pilot 20`
    """
    from tutelage import api
    from tutelage.cli.terminal import Bars, complain, print_json
    from tutelage.config.recipe_file import load_recipe
    from tutelage.core.errors import UsageError

    if recipe.endswith((".jsonl", ".csv", ".parquet")) or recipe.startswith("hf:"):
        raise UsageError(
            f"{recipe} is data, and plan takes a recipe: `tutelage init {recipe}` writes one for it"
        )
    with Bars() as bars:
        found = api.plan(load_recipe(recipe), given.build(PlanSettings), bars)
    if json:
        print_json(found)
    else:
        _show(found)
        if found.duration is None:
            print(
                f"time: not measured yet: `tutelage plan {recipe} --measure` runs a few steps of "
                "each kind of training"
            )
    for warning in found.warnings:
        complain(warning, label="warning")


def _show(plan: Plan) -> None:
    for group in plan.requests:
        teacher = "" if group.teacher is None else f", answered by {group.teacher}"
        print(f"{', '.join(group.arms) or group.title}: {group.strategy}{teacher}")
        print(f"  price          {group.price or 'unknown'}")
        if group.requests:
            failed = f"{group.failed:,} failed permanently, " if group.failed else ""
            shared = f"{group.shared:,} counted above, " if group.shared else ""
            print(
                f"  requests       {group.requests:,} for {group.rows:,} {group.split} rows: "
                f"{group.known:,} answered already, {failed}{shared}{group.missing:,} to send"
            )
        if group.missing:
            basis = f"{group.answers:,} answers" if group.answers else "assumptions"
            print(f"  input tokens   {_tokens(group.input)}, from {basis}")
            print(f"  output tokens  {_tokens(group.output)}")
            print(f"  cost           {_cost(group.dollars)}")
            if group.batch is not None:
                print(f"  by batch API   {_cost(group.batch)}")
        if group.pilot is not None:
            _show_pilot(group.pilot)
    if plan.pilot_requests:
        print(f"pilot: {plan.pilot_requests:,} requests sent; their answers are kept")
    print(f"total: {_cost(plan.dollars)}")
    if any(group.batch is not None for group in plan.requests):
        print(f"total by batch API: {_cost(plan.batch)}")
    for budget in plan.budgets:
        print(
            f"budget: {_usd(budget.budget_usd)}, of which {_usd(budget.charged_usd, up=True)} is "
            f"charged and {_usd(budget.left_usd)} left"
        )
    for line in plan.terms:
        print(f"terms: {line}")
    if plan.spending is not None:
        print("\n".join(plan.spending.sentences()))
    print("\n".join(_trainings(plan)))
    if plan.duration is not None:
        print("\n".join(plan.duration.sentences()))
    if plan.power_analysis is not None:
        print("\n".join(plan.power_analysis.sentences()))
    if plan.detection is not None:
        print("\n".join(plan.detection.sentences()))


def _trainings(plan: Plan) -> Iterator[str]:
    """`trainings: 180: 9 arms × 5 seeds × (3 trials of 9 configurations + 1 tested)`, and a line
    for each preset."""
    for found in plan.trainings:
        arms = f"{found.arms} arm{'s' if found.arms > 1 else ''}"
        seeds = f"{found.seeds} seed{'s' if found.seeds > 1 else ''}"
        each = ""
        if found.trials:
            each = f" × ({found.trials} trials of {found.configurations} configurations + 1 tested)"
        first = ""
        if found.before_first_analysis < found.total:
            first = f"{found.before_first_analysis:,} before the first analysis, at most "
        hours = "" if found.hours is None else f", about {found.hours:.1f} hours one by one"
        name = "trainings" if found.protocol is None else f"  protocol {found.protocol}"
        yield f"{name}: {first}{found.total:,}: {arms} × {seeds}{each}{hours}"


def _show_pilot(pilot: Pilot) -> None:
    """Print what the answers of a pilot are like."""
    counts = ", ".join(f"{count:,} {status}" for status, count in pilot.statuses.items())
    low, high = pilot.usable_ci95
    print(
        f"  pilot          {pilot.asked:,} answers: {counts}; {pilot.usable:.0%} usable "
        f"(95%: {low:.0%} to {high:.0%})"
    )
    for name, found in (("words", pilot.words), ("output tokens", pilot.tokens)):
        if found is not None:
            print(
                f"                 {name} of an answer: {found.least:,} to {found.most:,}, median "
                f"{found.median:,}"
            )
    if pilot.reasoned:
        print(f"                 {pilot.reasoned:,} reasoned first, which is charged as output")
    if pilot.stopped is not None:
        print(f"                 {pilot.stopped}")
    for answer in pilot.answers:
        text = " ".join(answer.text.split()) or "(nothing)"
        why = f" ({answer.detail})" if answer.detail else ""
        print(f"  {answer.status + ',':<14} row {answer.uid}{why}: {text}")


def _tokens(amount: Amount) -> str:
    def show(value: float, up: bool = False) -> str:
        return f"{value:,.0f}"

    return _words(amount, show)


def _cost(amount: Amount) -> str:
    return _words(amount, _usd)


def _words(amount: Amount, show: Callable[..., str]) -> str:
    """`$1.20 expected (95%: $1.10 to $1.30), $4.56 at most`."""
    if amount.most == 0:
        return show(0.0)
    if amount.expected is None and amount.most is None:
        return "unknown"
    parts = ["unknown" if amount.expected is None else f"{show(amount.expected)} expected"]
    if amount.low is not None and amount.high is not None:
        parts[0] += f" (95%: {show(amount.low)} to {show(amount.high, up=True)})"
    parts.append(
        "no upper bound" if amount.most is None else f"{show(amount.most, up=True)} at most"
    )
    return ", ".join(parts)


def _usd(dollars: float, up: bool = False) -> str:
    """`$1.20`; below a dollar three significant digits. up: round up."""
    if dollars == 0:
        return "$0"
    digits = 2 if dollars >= 1 else 2 - math.floor(math.log10(dollars))
    scale = 10**digits
    # The margin keeps a float's rounding error from adding a unit.
    value = math.ceil(dollars * scale - 1e-6) / scale if up else dollars
    return f"${value:,.{digits}f}"


app = command_of(plan)
