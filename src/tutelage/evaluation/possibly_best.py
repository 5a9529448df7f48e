"""The arms that may be the best of several: multiple comparisons with the best.

    possibly_best   the set, with the evidence against each arm outside it
    excluded        the same decision for many experiments at once

All differences are fractions (0.01 is one point).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.evaluation.crossed import half_width, one_sided_p
from tutelage.evaluation.numeric import Groups
from tutelage.evaluation.variance import (
    ArmVariance,
    Table,
    variance_of_mean,
    variances_of_arms,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One arm, and whether it may be the best.

    arm:        its name
    mean:       its mean over rows and seeds: accuracy, a fraction
    may_be_best: False where some other arm is significantly better
    p_value:    of the hypothesis that no other arm is better, corrected for the number of others;
                1 where there is no other. `may_be_best` is p_value >= alpha
    rival:      the other arm that is the strongest evidence against this one; None for an arm alone
    behind:     the mean of `rival` minus this arm's: negative where this arm's is higher, 0 for
                an arm alone
    """

    arm: str
    mean: float
    may_be_best: bool
    p_value: float
    rival: str | None
    behind: float


@dataclass(frozen=True, slots=True)
class PossiblyBest:
    """The arms that may be the best; the best one is among them with probability 1 - alpha.

    candidates: all arms, in the order given
    alpha:      the probability that the best arm is left out, at most
    """

    candidates: tuple[Candidate, ...]
    alpha: float

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that may be the best, the one with the highest mean first; never empty."""
        left = [each for each in self.candidates if each.may_be_best]
        return tuple(each.arm for each in sorted(left, key=lambda each: -each.mean))

    @property
    def best(self) -> str | None:
        """The best arm, where one alone is left."""
        return self.arms[0] if len(self.arms) == 1 else None


def possibly_best(
    tables: Mapping[str, Table],
    groups: Groups | None = None,
    alpha: float = 0.05,
    *,
    labels: Groups | None = None,
) -> PossiblyBest:
    """The arms that no other arm is significantly better than.

    tables: arm -> rows × seeds of correctness, all on the same rows in the same order
    groups, labels: of each row, as in `crossed_random_effects`

    Each arm is compared with each of the k - 1 others by the one-sided primary test
    (`crossed.one_sided_p`), and left out where the smallest p-value times k - 1 is below alpha.
    The best arm is left out only if one of k - 1 true hypotheses, that another arm is no better, is
    rejected; by Bonferroni's inequality that happens with probability alpha at most, however the
    tests depend on each other. No correction for the number of arms that are tested is due: the set
    is wrong only where it lacks the best (Hsu 1984, Annals of Statistics 12). Of several arms that
    are equally good and best, it contains any given one with that probability.

    The arm with the highest mean is never left out, so the set is not empty.

    Raises ValueError for no arm, an alpha that is not between 0 and 0.5, and as
    `variance_estimates` does.
    """
    if not tables:
        raise ValueError("got no arm, expected one or more")
    _check(alpha)
    names = list(tables)
    arms, grouped = variances_of_arms(list(tables.values()), groups, labels)
    means = [float(arm.by_unit.mean()) for arm in arms]
    candidates = []
    for place, name in enumerate(names):
        found = []
        for other in range(len(arms)):
            if other != place:
                parts = variance_of_mean([arms[other], arms[place]], grouped)
                found.append((one_sided_p(parts, 0.0), other))
        p_value, rival = min(found, default=(1.0, place))
        p_value = min(1.0, p_value * max(len(found), 1))
        candidates.append(
            Candidate(
                arm=name,
                mean=means[place],
                may_be_best=p_value >= alpha,
                p_value=p_value,
                rival=names[rival] if found else None,
                behind=means[rival] - means[place],
            )
        )
    return PossiblyBest(tuple(candidates), alpha)


def excluded(arms: Sequence[ArmVariance], grouped: bool = False, alpha: float = 0.05) -> Any:
    """Whether each arm is left out of the set, for many experiments that all show some variance.

    arms: of each arm, its parts in all experiments. Returns booleans, … × arms.
    """
    _check(alpha)
    level = 2 * alpha / max(len(arms) - 1, 1)
    columns = []
    for place, arm in enumerate(arms):
        out = np.zeros(arm.by_unit.shape[:-1], dtype=bool)
        for rival, other in enumerate(arms):
            if rival != place:
                parts = variance_of_mean([other, arm], grouped)
                out |= np.asarray(parts.mean > half_width(parts, level))
        columns.append(out)
    return np.stack(columns, axis=-1)


def _check(alpha: float) -> None:
    if not 0 < alpha < 0.5:
        raise ValueError(f"got alpha {alpha}, expected a number between 0 and 0.5")
