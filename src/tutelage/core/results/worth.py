"""What a teacher's money bought: the part of results.json of an experiment whose arms buy.

All accuracies and differences are fractions, all costs are in US dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tutelage.core.results.measurements import Interval
from tutelage.core.results.teacher_agreement import TeacherAgreement

Intervention = Literal[
    "labels alone",
    "gold rows",
    "rationales",
    "teacher labels",
    "teacher labels and rationales",
    "agreed labels",
    "self-training",
    "control",
]
"""What an arm adds to its gold rows. `control`: any other control arm."""


@dataclass(frozen=True, slots=True)
class CostOfUse:
    """What an arm pays when it pays alone: the mean over seeds of one draw.

    rows:     that a teacher was asked about
    requests: distinct ones
    tokens:   of prompts and answers, as far as the server counts them
    usd:      for the teacher, and for gold rows beyond those that every arm has; None where a price
              is not known
    """

    rows: float
    requests: float
    tokens: float
    usd: float | None


@dataclass(frozen=True, slots=True)
class ArmWorth:
    """What one arm learnt, and what that cost.

    arm:          its name
    intervention: what it adds to its gold rows
    gold_rows:    that each of its students learns
    pool_rows:    unlabelled rows that each learns with a label: the mean over seeds
    rationales:   rows that each learns with a rationale: the mean over seeds
    spend:        what it may buy for, in the experiment's unit; None without a limit, or where it
                  buys nothing
    cost:         of its use; None for an arm that asks nobody and has no gold rows of its own
    left_out:     rows that were paid for and are not learnt, by reason: the mean over seeds
    pool_share:   share of the pool that the draws of all seeds hold together; None where it learns
                  no pool rows
    gold_share:   the same of the labelled training rows
    accuracy:     on the test set: the mean over seeds
    ci95:         its interval
    tested:       whether it belongs to the primary comparisons; otherwise it is described
    """

    arm: str
    intervention: Intervention
    gold_rows: int
    pool_rows: float
    rationales: float
    spend: float | None
    cost: CostOfUse | None
    left_out: Mapping[str, float]
    pool_share: float | None
    gold_share: float
    accuracy: float
    ci95: Interval
    tested: bool


@dataclass(frozen=True, slots=True)
class GoldWorth:
    """How many gold rows an arm is worth (`evaluation.gold_equivalent`).

    arm:       its name
    worth:     gold rows that its other rows are worth; None where its accuracy is not on the curve
    low, high: ends of the 95% interval of `worth`; None where that end is open
    beyond:    `above` where the arm is above the whole curve, so that `low` is a bound; `below`
               where it is below all of it; None elsewhere
    break_even: price of a label at which people cost as much, in dollars; None where it is unknown
    break_even_low, break_even_high: its interval; an end is None where it is open
    """

    arm: str
    worth: float | None
    low: float | None
    high: float | None
    beyond: Literal["above", "below"] | None
    break_even: float | None
    break_even_low: float | None
    break_even_high: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An arm that the money may be spent on, labels alone and people included.

    arm:         its name
    accuracy:    on the test set
    may_be_best: False where another candidate is significantly better
    p_value:     of the hypothesis that no other is better, corrected for their number
    rival:       the other candidate that is the strongest evidence against it; None where there is
                 no other
    behind:      accuracy of `rival` minus its own
    """

    arm: str
    accuracy: float
    may_be_best: bool
    p_value: float
    rival: str | None
    behind: float


@dataclass(frozen=True, slots=True)
class CheaperCandidate:
    """A candidate that costs less than the dearest one, and whether it is nearly as good as any.

    arm:            its name
    cost:           of its use, in the unit of `Worth.unit`
    non_inferior:   whether it is shown to be at most the margin below the best, corrected for the
                    number of cheaper candidates
    p_adjusted:     the corrected p-value
    closest:        the other candidate that it is shown least clearly not to be inferior to
    behind:         accuracy of `closest` minus its own
    behind_at_most: upper end of the one-sided 95% interval of that, not corrected
    """

    arm: str
    cost: float
    non_inferior: bool
    p_adjusted: float
    closest: str
    behind: float
    behind_at_most: float


@dataclass(frozen=True, slots=True)
class PreviewedArm:
    """What a bag of words makes of an arm's training rows, before any student is trained.

    arm:      its name
    dev_accuracy_by_seed: of a bag of words trained on that seed's rows, on dev
    """

    arm: str
    dev_accuracy_by_seed: tuple[float, ...]

    @property
    def dev_accuracy(self) -> float:
        """The mean over seeds."""
        return sum(self.dev_accuracy_by_seed) / len(self.dev_accuracy_by_seed)


@dataclass(frozen=True, slots=True)
class Worth:
    """What the money bought.

    unit:       of `spend`: dollars, tokens, requests or rows; None where nothing limits what arms
                buy (then every row is asked about)
    spend:      what each tested arm may buy for; None without a limit
    gold_price: of a label by a person; None: unknown
    paid_usd:   cost of the experiment: the union over seeds and arms, each answer once; None where
                a price is not known
    paid_requests: distinct requests of all arms and seeds
    gold_usd:   price of the labels in dev and test, which every arm needs; None without a price of
                gold
    orders:     number of seeds, each with its own order of rows
    pool_rows:  rows that may be drawn
    train_rows: labelled rows that may be drawn
    steps:      optimiser steps of every training
    arms:       in the recipe's order
    candidates: that may be best; the arms in it hold the best with probability 95%
    margin:     of non-inferiority
    cheaper:    candidates that cost less than the dearest, the cheapest first
    curve:      sizes of the curve of gold rows and the arm of each, rising; empty where there are
                too few for one
    gold:       gold equivalents; empty without a curve
    no_gold:    why there are none; None where there are
    preview:    what a bag of words makes of each arm's rows
    agreement:  how often each teacher that labelled rows gives the label that people gave
    """

    unit: Literal["dollars", "tokens", "requests", "rows"] | None
    spend: float | None
    gold_price: float | None
    paid_usd: float | None
    paid_requests: int
    gold_usd: float | None
    orders: int
    pool_rows: int
    train_rows: int
    steps: int
    arms: tuple[ArmWorth, ...]
    candidates: tuple[Candidate, ...]
    margin: float
    cheaper: tuple[CheaperCandidate, ...]
    curve: tuple[tuple[int, str], ...]
    gold: tuple[GoldWorth, ...]
    no_gold: str | None
    preview: tuple[PreviewedArm, ...]
    agreement: tuple[TeacherAgreement, ...] = ()

    def arm(self, name: str) -> ArmWorth:
        """The arm of this name. KeyError where there is none."""
        for each in self.arms:
            if each.arm == name:
                return each
        raise KeyError(name)

    @property
    def may_be_best(self) -> tuple[str, ...]:
        """The candidates that may be the best, the most accurate first."""
        left = sorted((c for c in self.candidates if c.may_be_best), key=lambda c: -c.accuracy)
        return tuple(each.arm for each in left)

    @property
    def recommended(self) -> str | None:
        """The best candidate where one alone is left; else the cheapest that is shown to be nearly
        as good as any; None where that cannot be told."""
        if len(self.may_be_best) == 1:
            return self.may_be_best[0]
        return next((each.arm for each in self.cheaper if each.non_inferior), None)
