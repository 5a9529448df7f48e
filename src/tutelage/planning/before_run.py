"""What a run says before anything is paid for: which differences it can be expected to detect."""

from __future__ import annotations

from pathlib import Path

from tutelage.config.recipe import Recipe
from tutelage.experiment.prepare import Splits
from tutelage.planning.power_analysis import analyse_power

LARGE = 0.1
"""From this detectable difference on, the line adds what remains unknown: few gains are larger."""


def detectable_line(recipe: Recipe, splits: Splits, runs: Path) -> str | None:
    """The first line of the power analysis, and what follows from it where only large differences
    can be detected.

    runs: as in `analyse_power`

    None where no arms are compared, and where the run of this name has its results.
    """
    if (runs / recipe.name / "results.json").exists():
        return None
    analysis = analyse_power(recipe, splits, runs, None)
    if analysis is None:
        return None
    line, detectable = next(analysis.sentences()), analysis.expected.detectable
    if analysis.seeds > 1 and (detectable is None or detectable >= LARGE):
        line += (
            ". Smaller differences cannot be told with these rows and seeds: "
            "`tutelage plan RECIPE --detect POINTS` says what one takes"
        )
    return line
