"""Check the calibration of the statistics again, in a simulation of another kind.

    python benchmarks/evidence_other.py [EXPERIMENTS [CASE]]

It shares no code with `evidence.py`, and none with `tutelage.evaluation` but the function that it
checks, `compare_correctness`, called for one experiment after another. Slow: some 40 minutes on two
cores with the default of 2,400 experiments a line. CASE: the name of one, without the others.

Here a training has an accuracy a, drawn on the scale of accuracies themselves: a level, plus what
its configuration adds, plus what its seed adds. A row is answered correctly where a normal variable
lies below the quantile of a: the sum of the row's difficulty for all, its difficulty for the arm
(both partly shared within a group of rows), and chance. So the expected accuracy on new rows is a
exactly, and true differences between procedures are differences of mean a. The nine configurations
have two good regions with a poor one between them, and one trial in twelve diverges.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np
from scipy.special import ndtri

from tutelage.config.training_settings import Config
from tutelage.evaluation.compare import compare_correctness
from tutelage.experiment.search import choose_trial, draw_trials

ARMS = ("labels", "one", "one-shuffled", "two", "two-shuffled")
PAIRS = (("one", "labels"), ("one", "one-shuffled"), ("two", "labels"), ("two", "two-shuffled"))
NOISY = ("one", "two")
GRID = [Config(rate, weight) for rate in (1e-4, 3e-4, 9e-4) for weight in (0.2, 0.5, 0.8)]
ADDS = 0.01 * np.array([1.5, 2.0, 1.0, -3.0, -4.0, -3.5, 2.2, 1.8, 2.0])
TRIALS, DIVERGES = 3, 1 / 12
SHARED, OF_ARM, IN_GROUP = 0.55, 0.15, 0.3
"""Parts of a row's variance: of its difficulty for all and for an arm; and of these, what the rows
of a group have in common."""


@dataclass(frozen=True)
class Case:
    """A simulated experiment; SDs in points of accuracy, of the seeds of NOISY and other arms."""

    name: str
    seeds: int = 5
    rows: int = 1000
    dev: int = 1000
    level: float = 0.65
    sds: tuple[float, float] = (2.0, 2.0)
    seed_law: str = "normal"
    groups: str = "small"
    gain: float = 0.0


BASE = Case("base line")
CASES = (
    BASE,
    replace(BASE, name="dev of 200 rows", dev=200),
    replace(BASE, name="seed SDs 4 and 1", sds=(4.0, 1.0)),
    replace(BASE, name="Laplace seeds", seed_law="laplace"),
    replace(BASE, name="two-humped seeds", seed_law="humps"),
    replace(BASE, name="groups of 1 to 40 rows", groups="unequal"),
    replace(BASE, name="accuracy .34", level=0.34),
    replace(BASE, name="accuracy .92", level=0.92),
    replace(BASE, name="200 rows", rows=200),
    replace(BASE, name="5,000 rows", rows=5000),
)


def seed_effects(rng: np.random.Generator, law: str, size: tuple[int, ...]) -> Any:
    if law == "laplace":
        return rng.laplace(0, 0.5**0.5, size)
    if law == "humps":
        return 0.95 * rng.choice([-1.0, 1.0], size) + 0.312 * rng.normal(size=size)
    return rng.normal(size=size)


def group_numbers(rng: np.random.Generator, case: Case) -> Any:
    if case.groups == "small":
        sizes = 1 + rng.poisson(0.8, case.rows)
    else:
        sizes = np.round(40 ** rng.random(case.rows)).astype(int)
    return np.repeat(np.arange(case.rows), sizes)[: case.rows]


def difficulty(rng: np.random.Generator, share: float, groups: Any) -> Any:
    in_group = rng.normal(size=int(groups[-1]) + 1)[groups]
    own = rng.normal(size=len(groups))
    return share**0.5 * (IN_GROUP**0.5 * in_group + (1 - IN_GROUP) ** 0.5 * own)


def answers(rng: np.random.Generator, accuracy: Any, hard: Any) -> Any:
    """Rows × trainings: whether each training with this accuracy is right."""
    chance = (1 - SHARED - OF_ARM) ** 0.5 * rng.standard_normal((len(hard), accuracy.size))
    return hard[:, None] + chance < ndtri(accuracy)


def experiment(
    rng: np.random.Generator, case: Case
) -> tuple[dict[str, Any], Any, dict[str, float]]:
    """Tables of the fresh trainings' correctness, the rows' groups, and each arm's mean of what its
    choices add in truth."""
    dev_groups = np.arange(case.dev)
    groups = group_numbers(rng, case)
    hard = difficulty(rng, SHARED, groups)
    hard_dev = difficulty(rng, SHARED, dev_groups)
    tables, added = {}, {}
    for arm in ARMS:
        sd = case.sds[0 if arm in NOISY else 1] / 100
        here = difficulty(rng, OF_ARM, groups)
        here_dev = difficulty(rng, OF_ARM, dev_groups)
        level = case.level + case.gain * (arm in ("two", "two-shuffled"))
        adds = []
        for _ in range(case.seeds):
            tried = draw_trials(GRID, TRIALS, int(rng.integers(2**31)), arm)
            places = [GRID.index(config) for config in tried]
            accuracy = level + ADDS[places] + sd * seed_effects(rng, case.seed_law, (TRIALS,))
            right = answers(rng, np.clip(accuracy, 0.01, 0.99), hard_dev + here_dev)
            scores = [
                None if rng.random() < DIVERGES else float(score) for score in right.mean(axis=0)
            ]
            chosen = choose_trial(list(zip(tried, scores, strict=True)))
            adds.append(-0.05 if chosen is None else float(ADDS[GRID.index(chosen)]))
        fresh = level + np.array(adds) + sd * seed_effects(rng, case.seed_law, (case.seeds,))
        tables[arm] = answers(rng, np.clip(fresh, 0.01, 0.99), hard + here).astype(float)
        added[arm] = float(np.mean(adds))
    return tables, groups, added


def some(case: Case, count: int, seed: list[int]) -> tuple[Any, Any]:
    """Results of experiments × comparisons × (p, Holm's p, difference, low, high, detectable), and
    experiments × comparisons of what the choices differ by in truth."""
    rng = np.random.default_rng(seed)
    results, truths = [], []
    for _ in range(count):
        tables, groups, added = experiment(rng, case)
        found = compare_correctness(tables, PAIRS, groups)
        results.append(
            [
                (c.p_value, c.p_adjusted, c.difference, *c.ci95, c.minimum_detectable_difference)
                for c in found
            ]
        )
        truths.append([added[a] - added[b] for a, b in PAIRS])
    return np.array(results, dtype=float), np.array(truths)


def simulate(pool: ProcessPoolExecutor, case: Case, count: int, stream: int) -> tuple[Any, Any]:
    starts = range(0, count, 50)
    sizes = [min(50, count - start) for start in starts]
    parts = list(pool.map(some, repeat(case), sizes, [[stream, start] for start in starts]))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def error_of(hits: Any) -> float:
    by_experiment = hits.reshape(len(hits), -1).mean(axis=1)
    return float(by_experiment.std() / len(hits) ** 0.5)


def lines(experiments: int, only: str | None) -> Iterator[tuple[str, bool]]:
    """Each line of the table, and whether its bounds hold beyond the simulation's error."""
    with ProcessPoolExecutor(2) as pool:
        for number, base in enumerate(CASES):
            if only not in (None, base.name):
                continue
            for seeds in (3, 5, 10):
                case = replace(base, seeds=seeds)
                found, added = simulate(pool, case, experiments, 100 * number + seeds)
                p_adjusted, difference = found[:, :, 1], found[:, :, 2]
                alike = case.sds[0] == case.sds[1]
                # What a choice adds in truth is known of every experiment: its mean is the truth.
                truth = np.zeros(len(PAIRS)) if alike else added.mean(axis=0)
                missed = (found[:, :, 3] > truth) | (found[:, :, 4] < truth)
                alarms, alarms_error = float(missed.mean()), error_of(missed)
                any_alarm = (p_adjusted < 0.05).any(axis=1)
                bias = 100 * (difference - truth).mean(axis=0)
                worst = float(bias[np.abs(bias).argmax()])
                bias_error = 100 * float(difference.std(axis=0).max() / len(found) ** 0.5)
                half = (found[:, :, 4] - found[:, :, 3]) / 2
                width = float(np.median(half / (1.959964 * difference.std(axis=0))))
                widest = {3: 1.6, 5: 1.2 if alike else 1.3}.get(seeds, 9.0)
                kept = alarms + alarms_error <= 0.06 and abs(worst) <= 0.15 + bias_error
                kept = kept and 1 - alarms - alarms_error >= 0.935 and width <= widest
                family = "             –"
                if alike:
                    error = error_of(any_alarm)
                    kept = kept and any_alarm.mean() + error <= 0.06
                    family = f"{any_alarm.mean():6.1%} ±{error:.1%} "
                yield (
                    f"{case.name:24s} {seeds:5d}   {alarms:6.1%} ±{alarms_error:.1%}   {family}"
                    f"  {1 - alarms:6.1%}   {worst:+5.2f} ±{bias_error:.2f}   {width:5.2f}",
                    kept,
                )


def main(experiments: int, only: str | None = None) -> int:
    if only not in (None, *(case.name for case in CASES)):
        raise SystemExit(f"{only}: is none of {', '.join(case.name for case in CASES)}")
    began = time.perf_counter()
    print(
        f"{experiments:,} experiments a line; ± is one standard error; bias in points; * breaks a "
        "bound\ncase                     seeds   false alarms   family-wise    coverage   bias"
        "          width"
    )
    broken = 0
    for line, kept in lines(experiments, only):
        print(line if kept else f"{line} *", flush=True)
        broken += not kept
    print(f"{time.perf_counter() - began:.0f} s; {broken or 'no'} lines break a bound")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2400, *sys.argv[2:3]))
