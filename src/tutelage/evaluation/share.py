"""The share of one arm's gain that another arm has as well: a ratio of two differences.

For a control that keeps part of a rationale (its words, scrambled), the share of the gain over
labels alone that survives says more than whether the two arms differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tutelage.evaluation.crossed import half_width, two_sided_level
from tutelage.evaluation.numeric import Groups, solve
from tutelage.evaluation.variance import Table, variance_of_mean, variances_of_arms

_FURTHEST = 1e6


@dataclass(frozen=True, slots=True)
class ShareOfGain:
    """(control - baseline) / (treatment - baseline), and its interval by Fieller's theorem.

    share: the ratio of the estimates; above 1 where the control gained more, below 0 where it lost
    ci95:  its interval
    """

    share: float
    ci95: tuple[float, float]


def share_of_gain(
    treatment: Table,
    control: Table,
    baseline: Table,
    groups: Groups | None = None,
    confidence: float = 0.95,
    *,
    labels: Groups | None = None,
) -> ShareOfGain | None:
    """The share of the treatment's gain over the baseline that the control has as well.

    treatment, control, baseline: correctness, rows × seeds, on the same rows
    groups, labels: of each row, as in `crossed_random_effects`

    None unless the treatment differs from the baseline at the level 1 - confidence by itself
    (without correction for other comparisons): the interval of the ratio would be unbounded. State
    it only where that difference is significant after correction.

    The interval holds the ratios q for which the primary test does not reject, at this level, that
    control - baseline = q (treatment - baseline): the mean of control - q treatment - (1 - q)
    baseline is tested like any difference, with the rows in threes, and each arm's seeds with the
    square of its factor (Fieller 1954, Journal of the Royal Statistical Society B 16). So the two
    gains' dependence, through shared rows and the shared baseline, is inside.

    Raises ValueError for tables of different rows and as `variance_estimates` does.
    """
    arms, grouped = variances_of_arms([control, treatment, baseline], groups, labels)
    level = 1 - confidence

    def outside(ratio: float) -> float:
        """Above zero where the primary test rejects this ratio."""
        parts = variance_of_mean(arms, grouped, weights=(1.0, -ratio, ratio - 1.0))
        return float(abs(parts.mean) - half_width(parts, level))

    gain = variance_of_mean(arms[1:], grouped)
    if not gain.has_variance or two_sided_level(gain, abs(gain.mean)) >= level:
        return None
    means = [float(arm.by_unit.mean()) for arm in arms]
    share = (means[0] - means[2]) / (means[1] - means[2])
    low, high = (_edge(outside, share, way) for way in (-1.0, 1.0))
    return ShareOfGain(share, (low, high))


def _edge(outside: Callable[[float], float], share: float, way: float) -> float:
    """Where the interval that contains `share` ends, going down (-1) or up (1)."""
    distance = 1e-3
    while outside(share + way * distance) <= 0 and distance < _FURTHEST:
        distance *= 2
    return share + way * solve(lambda far: outside(share + way * far), 0.0, distance, 1e-9)
