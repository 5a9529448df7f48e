"""Who pays for answers, at which prices, and up to which sum."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.config.teacher_settings import FREE
from tutelage.core.errors import BudgetError, UsageError
from tutelage.teacher.cost.prices import PICO, Price, pico, price_of
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.teacher import Teacher


@dataclass(frozen=True, slots=True)
class Money:
    """Who pays, and how much at most.

    scope: the budget's name; cap: pico-dollars, None for no limit; price: None where unknown
    """

    scope: str
    cap: int | None
    price: Price | None


def money_of(teacher: Teacher, scope: str) -> Money:
    """Who pays a teacher, and at which prices. Raises UsageError for a budget without a bound."""
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
        return Money(scope, None, price)
    if price is None:
        raise UsageError(
            f"teacher.budget_usd is set, and no price of {teacher.model!r} is known: give one, "
            "in dollars per million tokens, as teacher.price: {input: 0.5, output: 1.5}, or "
            "say price: 0 if it costs nothing"
        )
    if settings.max_tokens is None and not price.free:
        raise UsageError(
            "teacher.budget_usd is set, and nothing bounds an answer's length: set "
            "teacher.max_tokens (400 is what the paper used)"
        )
    return Money(scope, pico(settings.budget_usd), price)


def out_of_money(ledger: Ledger, money: Money, worst: int) -> BudgetError:
    """The error of a run whose next question, at `worst` pico-dollars, does not fit its budget."""
    charged = charges.charged(ledger, money.scope)
    lost, lost_pico = charges.lost(ledger, money.scope)
    note = f" ({usd(lost_pico)} of them for {lost} requests lost on the way)" if lost else ""
    return BudgetError(
        f"budget_usd {usd(money.cap or 0)}: {usd(charged)} of {money.scope!r} are charged{note}, "
        f"and the next question can cost {usd(worst)}: set budget_usd to "
        f"{usd(-(-(charged + worst) // _SHOWN) * _SHOWN)} or more to go on; answers so far are kept"
    )


_SHOWN = 10**6
"""Pico-dollars in the last digit that people are shown."""


def usd(amount: int) -> str:
    """Pico-dollars as people read them: `$0.0123`."""
    return f"${amount / PICO:.6f}".rstrip("0").rstrip(".")
