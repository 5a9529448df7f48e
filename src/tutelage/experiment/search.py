"""The search of one replicate: which configurations it tries, and which of them dev chooses.

Pure functions. Every replicate of every arm searches by itself, so that the noise of choosing is
part of what the test sees; the trainings that are tested are none of those that were chosen from.
"""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.config.settings import TRIAL_SEEDS_FROM
from tutelage.config.training_settings import Config
from tutelage.core.storage import digest


def draw_trials(configs: Sequence[Config], trials: int, seed: int, arm: str) -> list[Config]:
    """The configurations that replicate `seed` of `arm` tries, in the order of `configs`.

    configs: those that the arm has
    trials:  how many are drawn, at least 1; all of them where there are no more

    Drawn without replacement: those with the smallest digests of (arm, seed, configuration). So the
    draws of two arms or two replicates are independent, and another call draws the same.
    """
    if trials < 1:
        raise ValueError(f"got {trials} trials, expected at least 1")
    if trials >= len(configs):
        return list(configs)
    drawn = sorted(
        range(len(configs)),
        key=lambda place: digest(["trial", arm, seed, configs[place]]),
    )
    return [configs[place] for place in sorted(drawn[:trials])]


def choose_trial(tried: Sequence[tuple[Config, float | None]]) -> Config | None:
    """The configuration that is best on dev; the earliest of equals.

    tried: configurations, each with the metric on dev as a fraction; None for a trial that diverged

    None where every trial diverged.
    """
    finished = [(config, accuracy) for config, accuracy in tried if accuracy is not None]
    if not finished:
        return None
    return max(finished, key=lambda each: each[1])[0]


def trial_seed(seed: int) -> int:
    """The seed of the trials of replicate `seed`: no replicate has it, and no two share one."""
    if not 0 <= seed < TRIAL_SEEDS_FROM:
        raise ValueError(f"got the replicate seed {seed}, expected 0 to {TRIAL_SEEDS_FROM - 1}")
    return TRIAL_SEEDS_FROM + seed
