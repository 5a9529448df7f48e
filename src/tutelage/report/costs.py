"""Adds up what the teacher cost: its explanations, and its labels where it was a baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.core.results import Results, TeacherBaseline, TeacherSummary


@dataclass(frozen=True, slots=True)
class Spent:
    """Requests and what their answers took.

    sent:       requests sent by the last call of `tutelage run`
    cached:     requests answered from the ledger by that call
    prompt, completion: tokens of all these answers, whenever they were requested; None where
                some are unknown
    cost_usd:   US dollars for the same; None where some prices are unknown
    """

    sent: int
    cached: int
    prompt: int | None
    completion: int | None
    cost_usd: float | None

    @property
    def requests(self) -> int:
        """All of them, each counted once."""
        return self.sent + self.cached


@dataclass(frozen=True, slots=True)
class Costs:
    """What the teacher cost.

    rationales: for explanations
    baseline:   for labels, as a baseline; None where it was not asked for any
    total:      of both
    """

    rationales: Spent
    baseline: Spent | None
    total: Spent

    @property
    def lines(self) -> tuple[tuple[str, Spent], ...]:
        """The total, and its parts where it has two, each with its name."""
        total = ("in total", self.total)
        if self.baseline is None:
            return (total,)
        return total, ("for explanations", self.rationales), ("as a baseline", self.baseline)


def costs_of(results: Results) -> Costs:
    """Sums over `Results.teacher`, which has the explanations alone, and `Baselines.teacher`."""
    rationales = _spent([results.teacher])
    asked = results.baselines.teacher
    if not asked:
        return Costs(rationales, None, rationales)
    return Costs(rationales, _spent(asked), _spent([results.teacher, *asked]))


def _spent(entries: Sequence[TeacherSummary | TeacherBaseline]) -> Spent:
    costs = [entry.cost_usd for entry in entries]
    return Spent(
        sent=sum(entry.requests for entry in entries),
        cached=sum(entry.cached for entry in entries),
        prompt=_sum([entry.tokens.prompt for entry in entries]),
        completion=_sum([entry.tokens.completion for entry in entries]),
        cost_usd=None if None in costs else math.fsum(cost or 0.0 for cost in costs),
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    return None if None in counts else sum(count or 0 for count in counts)
