"""What the teacher cost: its rationales, and its labels where it was asked as a baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.core.results import Results, TeacherBaseline, TeacherSummary


@dataclass(frozen=True, slots=True)
class Spent:
    """Questions and what their answers took; None where that is not known of some.

    requests:  put to the teacher by the last call of `tutelage run`; cached: answered from the
               ledger, and not among them
    questions: both together
    prompt, completion: tokens of all these answers, whenever they were asked
    cost_usd:  of the same
    """

    requests: int
    cached: int
    prompt: int | None
    completion: int | None
    cost_usd: float | None

    @property
    def questions(self) -> int:
        """Each counted once."""
        return self.requests + self.cached


@dataclass(frozen=True, slots=True)
class Costs:
    """baseline: of the teacher asked for labels; None where it was not. in_all: of both."""

    rationales: Spent
    baseline: Spent | None
    in_all: Spent

    @property
    def lines(self) -> tuple[tuple[str, Spent], ...]:
        """What is shown, with its name: the whole, and its parts where it has two."""
        whole = ("in all", self.in_all)
        if self.baseline is None:
            return (whole,)
        return whole, ("for rationales", self.rationales), ("as a baseline", self.baseline)


def costs_of(results: Results) -> Costs:
    """From `Results.teacher`, which has the rationales alone, and `Baselines.teacher`."""
    rationales = _spent([results.teacher])
    asked = results.baselines.teacher
    if not asked:
        return Costs(rationales, None, rationales)
    return Costs(rationales, _spent(asked), _spent([results.teacher, *asked]))


def _spent(entries: Sequence[TeacherSummary | TeacherBaseline]) -> Spent:
    costs = [entry.cost_usd for entry in entries]
    return Spent(
        requests=sum(entry.requests for entry in entries),
        cached=sum(entry.cached for entry in entries),
        prompt=_sum([entry.tokens.prompt for entry in entries]),
        completion=_sum([entry.tokens.completion for entry in entries]),
        cost_usd=None if None in costs else math.fsum(cost or 0.0 for cost in costs),
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    return None if None in counts else sum(count or 0 for count in counts)
