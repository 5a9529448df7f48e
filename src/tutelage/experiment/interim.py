"""Interim analyses that a recipe plans beforehand, so that seeds may be added honestly.

A recipe that lists its seeds has one analysis. One with `seeds: {start: 5, step: 5, at_most: 20}`
has several: results are computed in each, and the run ends with the first that decides the
comparisons. `evaluation.sequence` spends the level of the test over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tutelage.config.recipe import Recipe
from tutelage.config.sections import SeedPlanSection
from tutelage.core.results import ComparisonResult, InterimAnalyses
from tutelage.evaluation import sequence
from tutelage.evaluation.compare import ALPHA
from tutelage.evaluation.statistics import holm


@dataclass(frozen=True, slots=True)
class Analysis:
    """One analysis of the results.

    seeds: so many have been trained
    plan:  the numbers of seeds of all analyses, in rising order; just this one without a plan
    """

    seeds: int
    plan: tuple[int, ...]

    @property
    def planned(self) -> bool:
        """Whether it is one of several."""
        return len(self.plan) > 1

    def overall(self, p_value: float) -> float:
        """The p-value as one of the whole plan."""
        return sequence.overall_p(p_value, self.seeds, self.plan) if self.planned else p_value


def analyses_of(recipe: Recipe) -> list[Analysis]:
    """The analyses that the recipe plans."""
    if isinstance(recipe.seeds, SeedPlanSection):
        plan = sequence.looks(recipe.seeds.start, recipe.seeds.step, recipe.seeds.at_most)
    else:
        plan = (len(recipe.replicates),)
    return [Analysis(seeds, plan) for seeds in plan]


def corrected(
    comparisons: Sequence[ComparisonResult], analysis: Analysis
) -> tuple[ComparisonResult, ...]:
    """The comparisons, with p-values adjusted for the analyses as well as for their family."""
    if not analysis.planned:
        return tuple(comparisons)
    adjusted: dict[int, float] = {}
    for primary in (True, False):
        places = [i for i, c in enumerate(comparisons) if c.primary is primary]
        overall = [analysis.overall(comparisons[place].p_value) for place in places]
        adjusted |= dict(zip(places, holm(overall), strict=True))
    return tuple(replace(c, p_adjusted=adjusted[i]) for i, c in enumerate(comparisons))


def is_decided(comparisons: Sequence[ComparisonResult], analysis: Analysis) -> bool:
    """Whether each primary difference is significant, or shown to lie within the margin.

    comparisons: as `corrected` returns them
    """
    return all(
        c.p_adjusted < ALPHA or analysis.overall(c.equivalence_p_value) < ALPHA
        for c in comparisons
        if c.primary
    )


def describe_interim(
    comparisons: Sequence[ComparisonResult], analysis: Analysis
) -> InterimAnalyses | None:
    """`Results.interim`; None without a plan."""
    if not analysis.planned:
        return None
    return InterimAnalyses(
        plan=analysis.plan,
        seeds=analysis.seeds,
        level=sequence.level_at(analysis.seeds, analysis.plan, ALPHA),
        decided=is_decided(comparisons, analysis),
    )
