"""Non-inferiority: which cheaper arm is at most a margin below the best arm, whichever that is.

    non_inferiority     the test of each arm that is cheaper than some other
    non_inferior_arms   the same decision for many experiments at once

All differences are fractions (0.01 is one point).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.evaluation.crossed import half_width, lower_limit, one_sided_p
from tutelage.evaluation.numeric import Groups
from tutelage.evaluation.statistics import holm
from tutelage.evaluation.variance import (
    ArmVariance,
    Table,
    variance_of_mean,
    variances_of_arms,
)

MARGIN = 0.03
"""Default margin of non-inferiority, three points: a cheaper arm may lose so much."""


@dataclass(frozen=True, slots=True)
class CheaperArm:
    """An arm that is cheaper than some other, compared with all others.

    arm:          its name
    cost:         what its use costs, in the unit of the costs given
    p_value:      of the hypothesis that some other arm is better by the margin or more
    p_adjusted:   `p_value` after Holm's correction over the cheaper arms
    non_inferior: p_adjusted < alpha: it is at most the margin below the best arm
    closest:      the other arm that this is shown least clearly of
    behind:       the mean of `closest` minus this arm's, a fraction
    behind_at_most: upper end of the one-sided interval of that difference at the level alpha, not
                  corrected; it is below the margin where p_value < alpha
    """

    arm: str
    cost: float
    p_value: float
    p_adjusted: float
    non_inferior: bool
    closest: str
    behind: float
    behind_at_most: float


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """The cheaper arms, and the one that may be recommended.

    cheaper: the arms that cost less than the dearest, the cheapest first
    margin:  a fraction, set before the results were known
    alpha:   the probability that an arm is called so that is the margin or more below the best
    """

    cheaper: tuple[CheaperArm, ...]
    margin: float
    alpha: float

    @property
    def recommended(self) -> str | None:
        """The cheapest arm that is shown to be at most the margin below the best; None if none is.

        One that costs as much as the dearest arm is never among them.
        """
        return next((each.arm for each in self.cheaper if each.non_inferior), None)


def non_inferiority(
    tables: Mapping[str, Table],
    costs: Mapping[str, float],
    groups: Groups | None = None,
    margin: float = MARGIN,
    alpha: float = 0.05,
    *,
    labels: Groups | None = None,
) -> NonInferiority:
    """Tests, of each arm that costs less than the dearest, that no other is better by `margin`.

    tables: arm -> rows × seeds of correctness, all on the same rows in the same order
    costs:  arm -> what its use costs, all in one unit
    groups, labels: of each row, as in `crossed_random_effects`

    An arm's p-value is the largest of those of the one-sided primary tests (`crossed.one_sided_p`)
    that arm minus other is -margin or less, over all others, dearer or not: since each of them has
    to be rejected, no correction for their number is due (an intersection-union test: Berger 1982,
    Technometrics 24). So no arm is singled out beforehand as the best, and none because it came out
    best, which would favour it. Holm's correction is over the cheaper arms.

    Raises ValueError for fewer than two arms, costs of other arms, a cost or margin that is not a
    number above zero (a cost may be zero), an alpha that is not between 0 and 0.5, and as
    `variance_estimates` does.
    """
    _check(margin, alpha)
    if len(tables) < 2 or set(tables) != set(costs):
        raise ValueError(
            f"got costs of {sorted(costs)} for the arms {sorted(tables)}, expected a cost for each "
            "of two arms or more"
        )
    if wrong := {arm: cost for arm, cost in costs.items() if not 0 <= cost < float("inf")}:
        raise ValueError(f"got the costs {wrong}, expected numbers of zero or more")
    names = list(tables)
    arms, grouped = variances_of_arms(list(tables.values()), groups, labels)
    dearest = max(costs.values())
    cheaper = [place for place, name in enumerate(names) if costs[name] < dearest]
    rows = []
    for place in cheaper:
        found = []
        for other in range(len(arms)):
            if other != place:
                parts = variance_of_mean([arms[place], arms[other]], grouped)
                found.append((one_sided_p(parts, -margin), -parts.mean, other, parts))
        p_value, behind, rival, parts = max(found, key=lambda each: each[:2])
        rows.append((place, p_value, behind, rival, -lower_limit(parts, alpha)))
    adjusted = holm([each[1] for each in rows])
    results = [
        CheaperArm(
            arm=names[place],
            cost=costs[names[place]],
            p_value=p_value,
            p_adjusted=p_adjusted,
            non_inferior=p_adjusted < alpha,
            closest=names[rival],
            behind=behind,
            behind_at_most=limit,
        )
        for (place, p_value, behind, rival, limit), p_adjusted in zip(rows, adjusted, strict=True)
    ]
    return NonInferiority(tuple(sorted(results, key=lambda each: each.cost)), margin, alpha)


def non_inferior_arms(
    arms: Sequence[ArmVariance],
    cheaper: Sequence[int],
    margin: float = MARGIN,
    grouped: bool = False,
    alpha: float = 0.05,
) -> Any:
    """Whether each cheaper arm is shown to be non-inferior, for many experiments at once.

    arms:    of each arm, its parts in all experiments, which all show some variance
    cheaper: places of the arms that are tested. Returns booleans, … × these
    """
    _check(margin, alpha)
    family = len(cheaper)
    # enough_at[k - 1]: at the level alpha / k against all others.
    enough_at = np.ones((family, *arms[0].by_unit.shape[:-1], family), dtype=bool)
    for column, place in enumerate(cheaper):
        for rival, other in enumerate(arms):
            if rival != place:
                parts = variance_of_mean([arms[place], other], grouped)
                for k in range(1, family + 1):
                    near = parts.mean + margin > half_width(parts, 2 * alpha / k)
                    enough_at[k - 1, ..., column] &= near
    # Holm: who is near enough at alpha / family leaves a smaller family to the others.
    shown = enough_at[family - 1]
    for _ in range(family):
        left = np.maximum(family - shown.sum(axis=-1), 1)
        shown = np.take_along_axis(enough_at, left[None, ..., None] - 1, axis=0)[0]
    return shown


def _check(margin: float, alpha: float) -> None:
    if not 0 < margin < 1:
        raise ValueError(f"got the margin {margin}, expected a number between 0 and 1")
    if not 0 < alpha < 0.5:
        raise ValueError(f"got alpha {alpha}, expected a number between 0 and 0.5")
