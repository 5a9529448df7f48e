"""Confirms by simulation what `tutelage plan RECIPE --detect POINTS` says.

    python benchmarks/detect.py RECIPE.yaml 2.3           some two minutes on one core

Each design that the plan names is simulated, with the groups of the recipe's own test rows: two
arms that differ by POINTS, and whose rows and seeds vary as the plan assumes. The primary test is
applied at Holm's strictest level, and the share of simulated experiments in which it is significant
is compared with the four in five that the plan promises. Where the plan says that no number of
seeds is enough on the recipe's own rows, that is simulated with 200 seeds.

Exits with 1 where a share lies outside 75 to 88%, or where what cannot be done is done.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from tutelage.config.recipe_file import load_recipe
from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.power import Design
from tutelage.experiment.prepare import load_splits
from tutelage.planning.detection import what_it_takes
from tutelage.planning.power_analysis import basis_of

POWER, LEAST, MOST = 0.8, 0.75, 0.88
MANY_SEEDS = 200


def detected(design: Design, difference: float, alpha: float, times: int, seed: int) -> float:
    """The share of `times` simulated experiments in which the difference is significant.

    A row's difference between the arms has a part that all seeds share and one of each prediction;
    both correlate within a group. Each arm's seeds vary by themselves.
    """
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(design.group_sizes)), design.group_sizes)
    listed = groups.tolist()
    shared, own = design.within_group**0.5, (1 - design.within_group) ** 0.5

    def clustered(columns: int) -> np.ndarray:
        of_group = rng.standard_normal((len(design.group_sizes), columns), dtype=np.float32)
        each = rng.standard_normal((len(groups), columns), dtype=np.float32)
        return shared * of_group[groups] + own * each

    repeated = (design.repeated * design.disagreement) ** 0.5
    single = ((1 - design.repeated) * design.disagreement / 2) ** 0.5
    hits = 0
    for _ in range(times):
        arm, baseline = (
            single * clustered(design.seeds) + design.seed_sd * rng.normal(size=design.seeds)
            for _ in range(2)
        )
        treated = difference + repeated * clustered(1) + arm
        hits += crossed_random_effects(treated, listed, baseline=baseline).p_value < alpha
    return hits / times


def main() -> None:
    """Simulate every design that the plan names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("points", type=float)
    parser.add_argument(
        "--times", type=int, default=400, help="simulated experiments of each design"
    )
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    basis = basis_of(recipe, load_splits(recipe), Path("nowhere"), None)
    if basis is None:
        raise SystemExit("the recipe compares no arms")
    alpha = 0.05 / len(recipe.comparisons().primary)
    difference = options.points / 100
    found = what_it_takes(basis.design, basis.seed_sds, difference, alpha, POWER, 1, None)
    error = 100 * (POWER * (1 - POWER) / options.times) ** 0.5
    print(f"{options.times} simulated experiments a line: ± {error:.1f}% (one standard error)")
    wrong = 0
    sizes = tuple(basis.design.group_sizes)
    for number, each in enumerate(found.needed):
        design = replace(basis.design, seed_sd=each.seed_sd)
        if each.limit is not None:
            many = replace(design, seeds=MANY_SEEDS)
            share = detected(many, difference, alpha, options.times, number)
            wrong += share >= LEAST
            print(
                f"SD {100 * each.seed_sd:.1f}: {MANY_SEEDS} seeds on {sum(sizes):,} rows "
                f"detect {options.points:g} points in {100 * share:.1f}%"
            )
        if each.rows is not None and each.seeds is not None:
            enough = replace(
                design, seeds=each.seeds, group_sizes=sizes * (each.rows // sum(sizes))
            )
            share = detected(enough, difference, alpha, options.times, 10 + number)
            wrong += not LEAST <= share <= MOST
            print(
                f"SD {100 * each.seed_sd:.1f}: {each.seeds} seeds on {each.rows:,} rows "
                f"detect {options.points:g} points in {100 * share:.1f}%",
                flush=True,
            )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
