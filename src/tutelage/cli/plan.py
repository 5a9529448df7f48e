"""`tutelage plan`: what a recipe costs, and which differences it can detect."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.options import Given, takes
from tutelage.cli.terminal import command_of
from tutelage.config.plan_settings import PlanSettings

if TYPE_CHECKING:
    from tutelage.api import Amount, Plan


@takes(PlanSettings, "What the plan rests on")
def plan(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a packaged recipe.")],
    given: Given,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what a recipe will cost and which differences it can detect.

    The cost is in requests, tokens and US dollars. With --pilot N, N requests of each kind are
    made, within the recipe's budget, and the rest is forecast from their real lengths. Without it
    nothing is sent.

    Which difference can be detected depends on how much students differ from each other: measured
    in an earlier run of the recipe or in the one that --like names, otherwise assumed.

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
    for warning in found.warnings:
        complain(warning, label="warning")


def _show(plan: Plan) -> None:
    for question in plan.questions:
        asked = "" if question.teacher is None else f" asked of {question.teacher}"
        print(f"{', '.join(question.arms) or question.title}: {question.strategy}{asked}")
        print(f"  price          {question.price or 'unknown'}")
        if question.requests:
            failed = f"{question.failed:,} failed for good, " if question.failed else ""
            shared = f"{question.shared:,} asked above, " if question.shared else ""
            print(
                f"  questions      {question.requests:,} for {question.rows:,} rows of "
                f"{question.split}: {question.known:,} answered already, {failed}{shared}"
                f"{question.missing:,} to ask"
            )
        if question.missing:
            basis = f"{question.answers:,} answers" if question.answers else "assumptions"
            print(f"  input tokens   {_tokens(question.input)}, from {basis}")
            print(f"  output tokens  {_tokens(question.output)}")
            print(f"  cost           {_cost(question.dollars)}")
            if question.batch is not None:
                print(f"  by batch API   {_cost(question.batch)}")
    if plan.asked:
        print(f"pilot: {plan.asked:,} requests were sent; their answers are kept")
    print(f"total: {_cost(plan.dollars)}")
    if any(question.batch is not None for question in plan.questions):
        print(f"total by batch API: {_cost(plan.batch)}")
    for budget in plan.budgets:
        print(
            f"budget: {_usd(budget.budget_usd)}, of which {_usd(budget.charged_usd, up=True)} "
            f"are charged and {_usd(budget.left_usd)} left"
        )
    if plan.foresight is not None:
        print("\n".join(plan.foresight.sentences()))


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
    parts.append("no bound" if amount.most is None else f"{show(amount.most, up=True)} at most")
    return ", ".join(parts)


def _usd(dollars: float, up: bool = False) -> str:
    """In cents; below a dollar with three digits that count. up: never less than it is."""
    if dollars == 0:
        return "$0"
    digits = 2 if dollars >= 1 else 2 - math.floor(math.log10(dollars))
    scale = 10**digits
    # What is a whole number of such units but for a float's last digit is not rounded up.
    value = math.ceil(dollars * scale - 1e-6) / scale if up else dollars
    return f"${value:,.{digits}f}"


app = command_of(plan)
