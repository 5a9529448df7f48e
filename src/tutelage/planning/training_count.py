"""How many trainings a recipe takes, and each preset in its place; hours where a run has shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tutelage.config.design_rules import PRESETS, with_added_arms
from tutelage.config.recipe import Recipe
from tutelage.config.sections import SeedPlanSection
from tutelage.core.errors import RunFolderError
from tutelage.core.results import load_results


@dataclass(frozen=True, slots=True)
class TrainingCount:
    """The students that an experiment trains, without fractions of the rows.

    protocol: the preset; None for the recipe as it is, whatever it adds to its preset or takes away
    arms:     with the controls and baselines that are trained
    seeds:    replicates of each arm; of a plan to add seeds, those of the last analysis
    configurations: that each arm chooses from
    trials:   of each replicate of each arm; 0 where there is nothing to choose
    total:    arms × seeds × (trials + 1)
    before_first_analysis: those of `total` that a plan to add seeds trains in any case; `total`
              without a plan
    hours:    of work for `total`, one training after the other; None where no run has shown how
              long one takes
    """

    protocol: str | None
    arms: int
    seeds: int
    configurations: int
    trials: int
    total: int
    before_first_analysis: int
    hours: float | None


def count_trainings(recipe: Recipe, source: Path | None) -> tuple[TrainingCount, ...]:
    """The count of the recipe as it is, then that of each preset.

    source: a finished run whose trainings take as long as these are expected to

    A preset is counted with the recipe's arms of labels alone and with explanations, its seeds and
    its configurations, and with the preset's own controls, baselines and trials.
    """
    seconds = None if source is None else _seconds_of_a_training(source)
    counts = [_count(recipe, None, len(recipe.arms), recipe.trials, seconds)]
    written = [arm for arm in recipe.arms if arm.control is None and not arm.omits]
    listed = [arm for arm in written if arm.equal == "steps"]
    for name, preset in PRESETS.items():
        arms = with_added_arms(
            listed,
            preset.controls,
            preset.baselines,
            recipe.resolved_task(),
            share_self_training=recipe.spend is None or recipe.spend.buys_equal_rows,
            equal_epochs=name != "quick",
        )
        drawn = min(preset.trials, recipe.configurations)
        counts.append(_count(recipe, name, len(arms), drawn if drawn > 1 else 0, seconds))
    return tuple(counts)


def _count(
    recipe: Recipe, protocol: str | None, arms: int, trials: int, seconds: float | None
) -> TrainingCount:
    seeds = len(recipe.replicates)
    start = recipe.seeds.start if isinstance(recipe.seeds, SeedPlanSection) else seeds
    total = arms * seeds * (trials + 1)
    return TrainingCount(
        protocol=protocol,
        arms=arms,
        seeds=seeds,
        configurations=recipe.configurations,
        trials=trials,
        total=total,
        before_first_analysis=arms * start * (trials + 1),
        hours=None if seconds is None else total * seconds / 3600,
    )


def _seconds_of_a_training(folder: Path) -> float | None:
    """The mean over a run's trainings; None where it has no results that can be read."""
    try:
        results = load_results(folder / "results.json")
    except RunFolderError:
        return None
    trainings = sum(
        len(arm.trials) + sum(steps > 0 for steps in arm.training.steps_by_seed)
        for arm in results.arms
    )
    return sum(results.training_seconds.values()) / trainings if trainings else None
