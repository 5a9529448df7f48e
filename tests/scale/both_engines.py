"""The same annotation by the local engine and by workers, for tests that compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.config.scale_settings import ScaleSettings
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.scale.annotate_on_ray import asks_on_ray
from tutelage.strategies.lookup import Strategy
from tutelage.teacher.annotate import Options, annotate_to_file
from tutelage.teacher.engine.failures import FaultKind, RetryPolicy
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.summary import Summary

QUICK = RetryPolicy(dict.fromkeys(FaultKind, 6), base_s=0.01, cap_s=0.1)
PICO_ASKED, PICO_WRITTEN = 1_000_000, 2_000_000
"""Price of a token in pico-dollars: the scripted server counts 7 and 3 of them."""
COST = 7 * PICO_ASKED + 3 * PICO_WRITTEN


def teacher(base_url: str | tuple[str, ...], **more: Any) -> TeacherSettings:
    """A teacher at the tests' server, whose answers have a price."""
    price = {"input": PICO_ASKED / 10**6, "output": PICO_WRITTEN / 10**6}
    values = {"model": "openai:m", "concurrency": 4, "max_tokens": 10, "price": price, **more}
    return TeacherSettings(base_url=base_url, **values)


def annotated(
    examples: Sequence[Example],
    output: Path,
    settings: TeacherSettings,
    *,
    workers: int = 0,
    strategy: Strategy | str = "informed_reasoning",
    notes: list[str] | None = None,
    options: dict[str, Any] | None = None,
    scale: dict[str, Any] | None = None,
) -> Summary:
    """Annotate into `output`, with a ledger next to it. workers: 0 for the local engine"""
    more = {"policy": QUICK, **(options or {})}
    ray = {"engine": "ray", "workers": workers, "rows_per_block": 25, **(scale or {})}
    with Ledger(output.with_suffix(".sqlite")) as ledger:
        return annotate_to_file(
            lambda: iter(examples),
            output,
            strategy=strategy,
            teacher=settings,
            task=NLI,
            ledger=ledger,
            options=Options(on_note=(notes if notes is not None else []).append, **more),
            total=len(examples),
            ask=asks_on_ray(ScaleSettings(**ray)) if workers else None,
        )
