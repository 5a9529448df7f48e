"""The budget that answers are charged to, and the prices that they are charged at."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.config.teacher_settings import FREE
from tutelage.core.errors import BudgetError, UsageError
from tutelage.teacher.cost.prices import PICO, Price, pico, price_of
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.teacher import Teacher


@dataclass(frozen=True, slots=True)
class Budget:
    """Which budget is charged, and how much at most.

    scope: the budget's name; cap: pico-dollars, None for no limit; price: None where unknown
    """

    scope: str
    cap: int | None
    price: Price | None


def budget_for(teacher: Teacher, scope: str) -> Budget:
    """The budget named `scope` with the cap and the price of a teacher.

    Raises UsageError where `budget_usd` is set and nothing bounds what an answer can cost.
    """
    settings = teacher.settings
    price: Price | None
    if settings.remote:
        price = price_of(
            teacher.model,
            base_url=settings.base_url,
            provider=settings.provider,
            override=settings.price,
        )
    else:
        price = price_of(teacher.model, override=settings.price or FREE)
    if settings.budget_usd is None:
        return Budget(scope, None, price)
    if price is None:
        raise UsageError(
            f"teacher.budget_usd is set, but no price of {teacher.model!r} is known: set it in "
            "dollars per million tokens, such as teacher.price: {input: 0.5, output: 1.5}, or set "
            "price: 0 if it costs nothing"
        )
    if settings.max_tokens is None and not price.free:
        raise UsageError(
            "teacher.budget_usd is set, but nothing bounds the length of an answer: set "
            "teacher.max_tokens (the paper used 400)"
        )
    tier = (settings.extra_body or {}).get("service_tier")
    if tier not in (None, "default", "flex") and settings.price is None:
        raise UsageError(
            f"teacher.budget_usd is set, but extra_body asks for service_tier {tier!r}, which may "
            "cost more than the published price: set teacher.price to what it costs"
        )
    return Budget(scope, pico(settings.budget_usd), price)


def budget_exceeded(ledger: Ledger, budget: Budget, worst: int) -> BudgetError:
    """The error of a run whose next request, at `worst` pico-dollars, does not fit its budget."""
    charged = charges.charged(ledger, budget.scope)
    lost, lost_pico = charges.lost(ledger, budget.scope)
    note = f", {usd(lost_pico)} of it for {lost} requests whose answers were lost" if lost else ""
    return BudgetError(
        f"budget_usd {usd(budget.cap or 0)}: {usd(charged)} is charged to {budget.scope!r}{note}, "
        f"and the next request can cost {usd(worst)}: set budget_usd to "
        f"{usd(-(-(charged + worst) // _SHOWN) * _SHOWN)} or more to continue; the answers so far "
        "are kept"
    )


_SHOWN = 10**6
"""Pico-dollars in the last digit that is shown."""


def usd(amount: int) -> str:
    """Pico-dollars as dollars for people: `$0.0123`."""
    return f"${amount / PICO:.6f}".rstrip("0").rstrip(".")
