"""Is the primary test calibrated? Experiments without an effect, rows clustered by premise.

    python benchmarks/calibration.py [EXPERIMENTS]

Prints, for each number of seeds and standard deviation of an arm's accuracy over seeds: the share
of false alarms at 5%, how often the 95% interval covers the truth, and its median half-width
against that of an interval that knows the variance.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from tutelage.evaluation.statistics import crossed_random_effects

ROWS = 1000
LARGEST_GROUP = 5


def simulate(
    rng: np.random.Generator, seeds: int, seed_sd: float, own_row_sd: float
) -> tuple[NDArray[np.float64], list[int]]:
    """Differences (rows × seeds) of two arms of equal accuracy, and each row's premise.

    seed_sd:    of an arm's accuracy over its seeds, in points
    own_row_sd: of what makes rows harder for one arm than for the other, in logits; 0: nothing does
    """
    sizes = rng.integers(1, LARGEST_GROUP + 1, ROWS)
    groups = np.repeat(np.arange(ROWS), sizes)[:ROWS]
    count = int(groups[-1]) + 1
    difficulty = rng.normal(0, 1, count)[groups] + rng.normal(0, 1.2, ROWS)
    right = []
    for _ in range(2):
        own = 0.6 * rng.normal(size=count)[groups] + 0.8 * rng.normal(size=ROWS)
        logit = (difficulty + own_row_sd * own)[:, None]
        logit = logit + 0.3 * rng.normal(size=(count, seeds))[groups]
        chance = 1 / (1 + np.exp(-logit)) + rng.normal(0, seed_sd / 100, seeds)
        right.append(rng.random((ROWS, seeds)) < chance)
    return right[0].astype(float) - right[1], groups.tolist()


def main(experiments: int) -> None:
    rng = np.random.default_rng(0)
    print("seeds  row sd  seed sd  false alarms  coverage  width")
    for seeds in (3, 5):
        for own_row_sd in (0.0, 0.7):
            for seed_sd in (0.0, 0.5, 1.5):
                found = [
                    crossed_random_effects(*simulate(rng, seeds, seed_sd, own_row_sd))
                    for _ in range(experiments)
                ]
                alarms = np.mean([r.p_value < 0.05 for r in found])
                covered = np.mean([r.ci_low <= 0 <= r.ci_high for r in found])
                known = 1.96 * np.std([r.estimate for r in found])
                width = np.median([(r.ci_high - r.ci_low) / 2 for r in found]) / known
                print(
                    f"{seeds:5d}  {own_row_sd:6.1f}  {seed_sd:7.1f}  {alarms:12.1%}  "
                    f"{covered:8.1%}  {width:5.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
