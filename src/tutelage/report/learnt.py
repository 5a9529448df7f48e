"""Whether anything was learnt that an easy answer does not give: caveats from the baselines.

An arm that is not above a student without the context, or not above the commonest label, makes the
comparisons between arms say little, however small their p-values are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.core.results import (
    ArmResult,
    ContextComparison,
    MajorityBaseline,
    Results,
    TestEvaluation,
)
from tutelage.core.wording import percent, points, points_interval
from tutelage.evaluation.unpaired import difference_interval

MAJORITY = "majority class"
"""The commonest label, as `context_comparisons` of results.json names it."""


@dataclass(frozen=True, slots=True)
class Lead:
    """An arm's accuracy minus a baseline's, with its 95% interval, uncorrected; fractions.

    who:    the arm in the sentence's words
    paired: row by row; else from the two accuracies, as if they had been read on other rows
    """

    arm: str
    who: str
    baseline: str
    difference: float
    ci95: tuple[float, float]
    paired: bool

    @property
    def shown(self) -> bool:
        """Whether the arm is shown to be above the baseline."""
        return self.ci95[0] > 0

    @property
    def text(self) -> str:
        """`labels − hypothesis-only: −0.8 points, 95% interval −2.3 to 0.7`."""
        return (
            f"{self.arm} − {self.baseline}: {points(self.difference)} points, "
            f"{'' if self.paired else 'unpaired '}95% interval {points_interval(self.ci95)}"
        )


def learnt_caveats(results: Results) -> list[str]:
    """A sentence for each student that omits fields and is not beaten, and one for the majority.

    Who is held against them: labels alone, and the best of the arms with rationales.
    """
    blind = [arm for arm in results.arms if arm.omits]
    majority = results.baselines.majority
    if not blind and not majority:
        return []
    plain, best = _held_against(results.arms)
    sentences = [
        sentence
        for arm in blind
        if (sentence := _about_blind(results, arm, [each for each in (plain, best) if each]))
    ]
    if majority:
        sentences += _about_majority(results, majority, plain, best)
    return sentences


def beside(results: Results) -> dict[str, list[ContextComparison]]:
    """Baseline -> the comparisons of `context_comparisons` with it."""
    by_baseline: dict[str, list[ContextComparison]] = {}
    for comparison in results.context_comparisons:
        by_baseline.setdefault(comparison.baseline, []).append(comparison)
    return by_baseline


_Arm = tuple[ArmResult, str]
"""An arm, and how a sentence names it."""


def _held_against(tested: Sequence[ArmResult]) -> tuple[_Arm | None, _Arm | None]:
    seen = [arm for arm in tested if not arm.is_control and not arm.omits]
    plain = next((arm for arm in seen if arm.strategy is None), None)
    taught = [arm for arm in seen if arm.strategy is not None]
    best = max(taught, key=lambda arm: arm.test.accuracy, default=None)
    which = "the best rationale arm " if len(taught) > 1 else ""
    return (
        None if plain is None else (plain, plain.name),
        None if best is None else (best, f"{which}{best.name}"),
    )


def _lead(
    results: Results, one: _Arm, baseline: str, of: TestEvaluation | MajorityBaseline
) -> Lead:
    """of: the baseline's accuracy and ci95, for results that have no paired comparison."""
    arm, who = one
    for found in results.context_comparisons:
        if (found.arm, found.baseline) == (arm.name, baseline):
            return Lead(arm.name, who, baseline, found.difference, found.ci95, True)
    mine, its = arm.test.accuracy, of.accuracy
    interval = difference_interval(mine, arm.test.ci95, its, of.ci95)
    return Lead(arm.name, who, baseline, mine - its, interval, False)


def _about_blind(results: Results, blind: ArmResult, arms: Sequence[_Arm]) -> str | None:
    leads = [_lead(results, arm, blind.name, blind.test) for arm in arms]
    short = [lead for lead in leads if not lead.shown]
    if not short:
        return None
    fields = [name for name in results.task.fields if name not in blind.omits]
    verbs = [_versus(lead) for lead in short]
    compared = " and ".join(
        f"{'' if verb in verbs[:place] else verb + ' '}{lead.who} ({lead.text})"
        for place, (verb, lead) in enumerate(zip(verbs, short, strict=True))
    )
    return (
        f"What was learnt may be no more than what the {' and '.join(fields)} alone "
        f"give{'s' if len(fields) == 1 else ''} away: {blind.name}, whose student does not see "
        f"the {' and '.join(blind.omits)}, {compared}."
    )


def _versus(lead: Lead) -> str:
    """What the baseline did, seen from its side."""
    if lead.ci95[1] < 0:
        return "did better than"
    return "did at least as well as" if lead.difference <= 0 else "is not shown to be below"


def _about_majority(
    results: Results, majority: MajorityBaseline, plain: _Arm | None, best: _Arm | None
) -> list[str]:
    leads = [
        None if arm is None else _lead(results, arm, MAJORITY, majority) for arm in (plain, best)
    ]
    short = [lead for lead in leads if lead is not None and not lead.shown]
    if not short:
        return []
    if len(short) == sum(lead is not None for lead in leads):
        what, so = "Nothing", "the comparisons between arms say little"
    elif short == [leads[0]]:
        what, so = "Without rationales nothing", "a difference from labels alone says little"
    else:
        what, so = "With rationales nothing", "comparisons with their controls say little"
    names = " and ".join(lead.who for lead in short)
    return [
        f"{what} is shown to have been learnt, as far as accuracy goes, so that {so}: {names} "
        f"{'is' if len(short) == 1 else 'are'} not shown to beat “{majority.label}” for every "
        f"row, which is right on {percent(majority.accuracy)} "
        f"({'; '.join(lead.text for lead in short)})."
    ]
