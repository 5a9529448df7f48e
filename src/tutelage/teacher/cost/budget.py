"""The budget that answers are charged to, and the prices that they are charged at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.config.teacher_settings import FREE, TeacherSettings
from tutelage.core.errors import BudgetError, UsageError
from tutelage.teacher.clients.access import dialect_of
from tutelage.teacher.cost.prices import PICO, Price, pico, price_of
from tutelage.teacher.ledger.charges import Session
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
    price = price_for(teacher.model, settings)
    if settings.budget_usd is None:
        return Budget(scope, None, price)
    if price is None:
        raise UsageError(
            f"teacher.budget_usd is set, but no price of {teacher.model!r} is known: set it in "
            "dollars per million tokens, such as teacher.price: {input: 0.5, output: 1.5}, or set "
            "price: 0 if it costs nothing"
        )
    dearer = [name for name, plain in _DEARER.items() if not _is_plain(settings, name, plain)]
    if dearer and settings.price is None:
        raise UsageError(
            f"teacher.budget_usd is set, but extra_body sets {dearer[0]}, which may cost more than "
            "the published price: set teacher.price to what it costs"
        )
    return Budget(scope, pico(settings.budget_usd), price)


_DEARER: Mapping[str, tuple[object, ...]] = {
    "service_tier": (None, "default", "flex", "standard_only"),
    "serviceTier": (None, "standard", "flex"),
    "speed": (None, "standard"),
    "inference_geo": (None, "global"),
    "cache_control": (None, {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "5m"}),
}
"""Keys of a request that may raise its price, with the values that do not."""


def _is_plain(settings: TeacherSettings, name: str, plain: tuple[object, ...]) -> bool:
    return (settings.extra_body or {}).get(name) in plain


def price_for(model: str, settings: TeacherSettings) -> Price | None:
    """What a teacher charges: the recipe's price, or the published one of its provider.

    None where no price is known, or where the servers of a list have different ones.
    """
    if not settings.remote:
        return price_of(model, override=settings.price or FREE)
    own = settings.scheme != "openai"
    each = [
        price_of(
            model.removeprefix("models/"),
            base_url=address or (dialect_of(settings).base_url if own else None),
            provider=settings.provider,
            override=settings.price,
            # Anthropic writes to its cache only where it is asked to.
            stores=settings.scheme != "anthropic" or "cache_control" in (settings.extra_body or {}),
        )
        for address in settings.addresses
    ]
    # Which of several servers will answer is not known before.
    return each[0] if all(price == each[0] for price in each) else None


def budget_exceeded(session: Session, budget: Budget, worst: int) -> BudgetError:
    """The error of a run whose next request, at `worst` pico-dollars, does not fit its budget."""
    charged, lost, lost_pico = session.charged(budget.scope)
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
