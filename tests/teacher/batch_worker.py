"""Runs batches from start to end, in a process that is killed after a given step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.types import Example, Message, Request
from tutelage.teacher.batch.batches import Batches, BatchLimits
from tutelage.teacher.batch.native_servers import NativeBatchServer
from tutelage.teacher.batch.server import BatchServer
from tutelage.teacher.cost.budget import Budget, price_for
from tutelage.teacher.cost.prices import Price, Rates
from tutelage.teacher.engine.failures import RetryPolicy
from tutelage.teacher.engine.requests import PendingRequest
from tutelage.teacher.ledger.charges import Session
from tutelage.teacher.ledger.store import Ledger, request_key
from tutelage.teacher.registry import open_teacher

IDENTITY = "server"
PRICE = Price((Rates(-1, 400, 400, 1600),), 0, "test")
QUICK = RetryPolicy(base_s=0.001, cap_s=0.005, max_retry_after_s=0.2)


def pending(text: str, **changes: Any) -> PendingRequest:
    values: dict[str, Any] = {
        "model": "m",
        "messages": (Message("user", text),),
        "strategy": "reasoning",
        "example": Example("u", {}, "yes"),
        "parameters": {"max_tokens": 20},
        **changes,
    }
    request = Request(**values)
    return PendingRequest(request_key(IDENTITY, request), request)


def pending_requests(count: int) -> list[PendingRequest]:
    return [pending(f"Why is {number} so?") for number in range(count)]


def limits(**changes: Any) -> BatchLimits:
    values = {"poll_s": 0.001, "poll_cap_s": 0.005, "settle_s": 0.05, "give_up_s": 1.0}
    return BatchLimits(**{**values, **changes})


def batches(session: Session, base_url: str, **changes: Any) -> Batches:
    scope, cap = changes.pop("scope", "run"), changes.pop("cap", None)
    batch_limits = changes.pop("limits", None) or limits(max_requests=2)
    values = {"model": "openai:m", "provider": IDENTITY, **changes}
    settings = TeacherSettings(base_url=base_url, **values)
    price = price_for("m", settings) if settings.price is not None else PRICE
    budget = Budget(scope, cap, price)
    return Batches(session, open_teacher(settings), budget, limits=batch_limits, policy=QUICK)


def run(ledger: Path, base_url: str, count: int, **changes: Any) -> None:
    """The whole run, from the start or from where an earlier one ended."""
    with (
        Ledger(ledger) as opened,
        Session(opened) as session,
        batches(session, base_url, **changes) as ours,
    ):
        ours.reconcile()
        for _ in range(10):
            ours.submit(pending_requests(count))
            if not ours.collect(wait=True).open and len(opened) == count:
                return


def steps(kill_after: int) -> Callable[[], int]:
    """Count the steps (each transaction and each call), and die right after step `kill_after`."""
    done = 0

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            result = method(*arguments, **named)
            done += 1
            if done == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapper

    Ledger.transact = counted(Ledger.transact)  # type: ignore[method-assign]
    BatchServer._attempt = counted(BatchServer._attempt)  # type: ignore[method-assign]
    NativeBatchServer._send = counted(NativeBatchServer._send)  # type: ignore[method-assign]
    return lambda: done


def killed(
    ledger: Path, base_url: str, count: int, kill_after: int, result: Path, **changes: Any
) -> None:
    """Run, and write the number of steps to `result`, unless killed."""
    total = steps(kill_after)
    run(ledger, base_url, count, **changes)
    result.write_text(str(total()), encoding="utf-8")
