"""Check the calibration of the statistics on simulated experiments, with the code that ships.

    python benchmarks/evidence.py [EXPERIMENTS]

Simulates experiments without an effect, and experiments whose true difference is the detectable
size that the power analysis states beforehand: 1,000 test rows, clustered by premise as in e-SNLI,
with the arms and families of comparisons of a recipe with two strategies and every control. Prints
each measurement with its Monte-Carlo error, then each bound, and exits with 1 if a bound is broken.
The default is 2,000 experiments for each line, the number for which the bounds are promised.

The family-wise bound applies to the primary family (labels and shuffled rationales). The rates of
false alarms in the secondary family (label echo and filler), and in either family, are printed as
well, because each family is corrected separately.

All p-values, intervals and detectable sizes come from `evaluation.compare.compare_correctness`,
which `compare` calls on aligned predictions. The first experiment of each chunk also goes through
`compare` itself, from predictions, and must give the same results.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tutelage.config.recipe_file import parse_recipe
from tutelage.core.results import Comparison
from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.evaluation.compare import ALPHA, POWER, compare, compare_correctness
from tutelage.evaluation.crossed import mean_squares
from tutelage.evaluation.power import (
    Design,
    design_of,
    detectable_difference,
    expected_mean_squares,
)

Floats = NDArray[np.float64]
Tables = dict[str, Floats]

ROWS = 1000
TASK = Task("right or wrong", ("text",), ("right", "wrong"))

LABELS = "labels"
EXTRACTION = "information-extraction"
REASONING = "informed-reasoning"
RECIPE = parse_recipe(
    {
        "name": "evidence",
        "data": dict.fromkeys(("train", "dev", "test"), "synthetic:nli?n=1000"),
        "teacher": "scripted",
        "arms": [
            {"name": LABELS},
            {"name": EXTRACTION, "strategy": "information_extraction"},
            {"name": REASONING, "strategy": "informed_reasoning"},
        ],
    }
)
"""Only its families of comparisons are used: the ones that ship, with the default controls."""
PRIMARY, SECONDARY = RECIPE.comparisons().primary, RECIPE.comparisons().secondary
ARMS = tuple(dict.fromkeys(name for pair in (*PRIMARY, *SECONDARY) for name in pair))
BETTER = tuple(
    dict.fromkeys(
        name
        for pair in (*PRIMARY, *SECONDARY)
        if pair[0] == REASONING
        for name in pair
        if name != LABELS
    )
)
"""The arms with the true difference: any rationale helps, whatever its content. So one comparison
of the primary family has an effect and the others have none, which is Holm's strictest case."""
TRUE_DIFFERENCE = PRIMARY.index((REASONING, LABELS))

Pairs = tuple[tuple[str, str], ...]

PREMISES_BY_ROWS = {1: 1265, 2: 1196, 3: 417, 4: 1}
"""Number of premises by their rows in the shared e-SNLI test file; used where it is missing."""

MOST_ALARMS, LEAST_COVERAGE, WIDEST, POWERS = 0.06, 0.93, 1.3, (0.75, 0.90)

CHUNK = 100
ALSO_FROM_PREDICTIONS = 1
"""Experiments of each chunk that also go through `compare`."""


@dataclass(frozen=True)
class Setting:
    """The parameters of a simulated experiment.

    seed_sd:    SD of an arm's expected accuracy over seeds, in points
    own_row_sd: SD of the rows' difficulty that is specific to an arm, in logits
    gain:       of the BETTER arms, in logits
    """

    seeds: int
    seed_sd: float
    own_row_sd: float
    premises_by_rows: tuple[tuple[int, int], ...]
    gain: float = 0.0


@dataclass(frozen=True)
class Measured:
    """Arrays of shape experiments × comparisons, the primary family first."""

    p: Floats
    p_adjusted: Floats
    difference: Floats
    low: Floats
    high: Floats
    detectable: Floats
    mcnemar: Floats
    rows_variance: Floats
    """R / (G S): the part of the difference's variance that does not come from the seeds."""


def premises_by_rows() -> tuple[tuple[tuple[int, int], ...], str]:
    """Pairs (rows of a premise, number of such premises) of the e-SNLI test file, and a remark."""
    folder = Path(os.environ.get("TUTELAGE_SHARED_DATA", "../shared/data"))
    file = folder / "esnli" / "test.jsonl"
    if not file.is_file():
        return tuple(
            PREMISES_BY_ROWS.items()
        ), "generated with e-SNLI's frequencies (its file is missing)"
    with file.open(encoding="utf-8") as lines:
        rows = Counter(json.loads(line)["premise"] for line in lines)
    return tuple(sorted(Counter(rows.values()).items())), "drawn from the shared e-SNLI test file"


def draw_groups(rng: np.random.Generator, setting: Setting) -> NDArray[np.int64]:
    """Each row's premise as a number."""
    sizes, counts = np.array(setting.premises_by_rows).T
    drawn = rng.choice(sizes, ROWS, p=counts / counts.sum())
    return np.repeat(np.arange(ROWS), drawn)[:ROWS]


def chances(
    rng: np.random.Generator, setting: Setting, groups: NDArray[np.int64], slope: Floats
) -> Floats:
    """The chance that each model gets each row right: arms × rows × seeds."""
    arms, premises, seeds = len(ARMS), int(groups[-1]) + 1, setting.seeds
    difficulty = 0.4 + rng.normal(size=premises)[groups] + 1.2 * rng.normal(size=ROWS)
    own = 0.6 * rng.normal(size=(arms, premises))[:, groups] + 0.8 * rng.normal(size=(arms, ROWS))
    of_premise_and_seed = 0.3 * rng.normal(size=(arms, premises, seeds))[:, groups]
    of_seed = rng.normal(size=(arms, 1, seeds)) * (setting.seed_sd / 100 / slope)[:, None, None]
    gain = np.array([setting.gain * (name in BETTER) for name in ARMS])[:, None, None]
    logit = (difficulty + setting.own_row_sd * own)[:, :, None] + of_premise_and_seed
    chance: Floats = 1 / (1 + np.exp(-(logit + of_seed + gain)))
    return chance


def simulate(
    rng: np.random.Generator, setting: Setting, slope: Floats
) -> tuple[Tables, NDArray[np.int64]]:
    groups = draw_groups(rng, setting)
    chance = chances(rng, setting, groups, slope)
    right = (rng.random(chance.shape) < chance).astype(float)
    return dict(zip(ARMS, right, strict=True)), groups


def slope_of(setting: Setting) -> Floats:
    """Accuracy per logit of each arm, so that a seed SD in points becomes one in logits."""
    rng = np.random.default_rng(0)
    flat, ones = replace(setting, seed_sd=0.0), np.ones(len(ARMS))
    drawn = [chances(rng, flat, draw_groups(rng, flat), ones) for _ in range(20)]
    slope: Floats = np.mean([(chance * (1 - chance)).mean(axis=(1, 2)) for chance in drawn], axis=0)
    return slope


def stated_before(setting: Setting, slope: Floats) -> tuple[Design, float]:
    """The design that earlier experiments of the kind suggest, and its detectable difference.

    Holm's strictest step detects that difference in 80 of 100 experiments.
    """
    rng = np.random.default_rng(1)
    earlier = []
    for _ in range(60):
        tables, groups = simulate(rng, setting, slope)
        earlier.append(design_of(tables[REASONING] - tables[LABELS], groups))
    design = Design(
        group_sizes=earlier[0].group_sizes,
        seeds=setting.seeds,
        disagreement=float(np.mean([d.disagreement for d in earlier])),
        seed_sd=setting.seed_sd / 100,
        repeated=float(np.mean([d.repeated for d in earlier])),
        within_group=float(np.mean([d.within_group for d in earlier])),
    )
    size = detectable_difference(expected_mean_squares(design), ALPHA / len(PRIMARY), POWER)
    assert size is not None
    return design, size


def gain_for(setting: Setting, slope: Floats, difference: float) -> float:
    """The gain in logits that raises accuracy by `difference`."""
    low, high = 0.0, 8.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        rng = np.random.default_rng(2)
        gained = []
        for _ in range(10):
            with_gain = replace(setting, gain=middle)
            chance = dict(
                zip(ARMS, chances(rng, with_gain, draw_groups(rng, setting), slope), strict=True)
            )
            gained.append(
                np.mean([chance[a].mean() for a in BETTER])
                - np.mean([chance[a].mean() for a in ARMS if a not in BETTER])
            )
        low, high = (middle, high) if np.mean(gained) < difference else (low, middle)
    return high


def from_predictions(
    tables: Tables, groups: NDArray[np.int64], families: tuple[Pairs, ...]
) -> list[Comparison]:
    """The comparisons of the same experiment, computed from predictions."""
    words = np.array(["wrong", "right"])
    predictions = {
        arm: {
            seed: [
                Prediction(f"row {i}", word, {}, "right")
                for i, word in enumerate(words[column.astype(int)].tolist())
            ]
            for seed, column in enumerate(table.T)
        }
        for arm, table in tables.items()
    }
    premises = {f"row {i}": f"premise {group}" for i, group in enumerate(groups)}
    return [c for family in families for c in compare(predictions, family, TASK, premises)]


def run_chunk(
    setting: Setting, slope: Floats, count: int, seed: list[int], families: tuple[Pairs, ...]
) -> NDArray[np.float64]:
    """Run `count` experiments; returns experiments × comparisons × fields of Measured."""
    rng = np.random.default_rng(seed)
    experiments = []
    for number in range(count):
        tables, groups = simulate(rng, setting, slope)
        results = [c for pairs in families for c in compare_correctness(tables, pairs, groups)]
        if number < ALSO_FROM_PREDICTIONS and from_predictions(tables, groups, families) != results:
            raise AssertionError("compare and compare_correctness differ on one experiment")
        experiments.append(
            [
                (
                    r.p_value,
                    r.p_adjusted,
                    r.difference,
                    *r.ci95,
                    r.minimum_detectable_difference,
                    r.mcnemar_p_by_seed[0],
                    rows_variance(tables[r.arm] - tables[r.baseline], groups),
                )
                for r in results
            ]
        )
    return np.array(experiments, dtype=np.float64)


def rows_variance(difference: Floats, groups: NDArray[np.int64]) -> float:
    squares = mean_squares(difference, groups)
    return squares.rows / (squares.units * squares.columns)


def run(
    pool: ProcessPoolExecutor,
    setting: Setting,
    slope: Floats,
    experiments: int,
    stream: int,
    families: tuple[Pairs, ...],
) -> Measured:
    starts = range(0, experiments, CHUNK)
    chunks = pool.map(
        run_chunk,
        itertools.repeat(setting),
        itertools.repeat(slope),
        [min(CHUNK, experiments - start) for start in starts],
        [[stream, start] for start in starts],
        itertools.repeat(families),
    )
    return Measured(*np.moveaxis(np.concatenate(list(chunks)), 2, 0))


def share_and_error(hits: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of hits, and its standard error over experiments, whose comparisons are dependent."""
    by_experiment = hits.reshape(len(hits), -1).mean(axis=1)
    return float(hits.mean()), float(by_experiment.std(ddof=1) / len(hits) ** 0.5)


def width_and_error(setting: Setting, measured: Measured) -> tuple[float, float]:
    """Median half-width, divided by that of a known variance: 1.96 times its square root.

    The known variance is the mean R / (G S) plus the simulated variance of two arms' seeds. It must
    agree with the actual variance of the differences.
    """
    seeds = 2 * (setting.seed_sd / 100) ** 2 / setting.seeds
    variance = float(measured.rows_variance.mean()) + seeds
    spread = (measured.difference**2).mean(axis=1)
    if abs(spread.mean() / variance - 1) > 4.5 * spread.std() / len(spread) ** 0.5 / variance:
        raise AssertionError(f"differences vary by {spread.mean()}, expected {variance}")
    half = (measured.high - measured.low) / 2 / (1.959964 * variance**0.5)
    rng = np.random.default_rng(3)
    again = [np.median(half[rng.integers(0, len(half), len(half))]) for _ in range(100)]
    return float(np.median(half)), float(np.std(again))


class Bounds:
    """Collects the measurements of each bound, and reports the worst."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[float, float, bool, str]]] = {}

    def check(self, name: str, value: float, error: float, kept: bool, where: str) -> str:
        self.seen.setdefault(name, []).append((value, error, kept, where))
        return "" if kept else "*"

    def report(self) -> bool:
        print("\nbound                                     worst        where")
        for name, values in self.seen.items():
            broken = [value for value in values if not value[2]]
            lowest = "at least" in name
            value, error, _, where = sorted(broken or values, reverse=not lowest)[0]
            state = f"FAIL in {len(broken)} of {len(values)}" if broken else "holds"
            print(f"{name:40s}  {value:.3f} ±{error:.3f}  {where:38s} {state}")
        return all(kept for values in self.seen.values() for _, _, kept, _ in values)


def main(experiments: int) -> int:
    began = time.perf_counter()
    premises, remark = premises_by_rows()
    print(
        f"{experiments:,} experiments a line; {ROWS:,} rows, premises' sizes {remark}; "
        f"{len(ARMS)} arms, {len(PRIMARY)} primary and {len(SECONDARY)} secondary comparisons\n"
        "± is one standard error of the simulation; * breaks a bound; seed SD and sizes in points\n"
    )
    settings = [
        Setting(seeds, seed_sd, own, premises)
        for seeds, own, seed_sd in itertools.product((3, 5), (0.0, 0.7), (0.0, 0.5, 1.5))
    ]
    bounds = Bounds()
    with ProcessPoolExecutor(2) as pool:
        print("No effect")
        print(
            "                                          family-wise:\n"
            "seeds  own rows  seed SD   false alarms   primary        secondary      either"
            "         coverage       width        McNemar, one seed"
        )
        for number, setting in enumerate(settings):
            slope = slope_of(setting)
            measured = run(pool, setting, slope, experiments, number, (PRIMARY, SECONDARY))
            print(null_line(setting, measured, bounds), flush=True)
        print("\nA true difference of the size stated before (found: Holm's p below 5%)")
        print("seeds  own rows  seed SD   stated before   stated after (median)   found")
        for number, setting in enumerate(settings):
            slope = slope_of(setting)
            _, size = stated_before(setting, slope)
            moved = replace(setting, gain=gain_for(setting, slope, size))
            count = max(experiments // 4, 100)
            measured = run(pool, moved, slope_of(moved), count, 100 + number, (PRIMARY,))
            print(power_line(setting, size, measured, bounds), flush=True)
    kept = bounds.report()
    seconds = time.perf_counter() - began
    print(f"\n{seconds:.0f} s; {'every bound holds' if kept else 'A BOUND IS BROKEN'}")
    return 0 if kept else 1


def _name(setting: Setting) -> str:
    return (
        f"{setting.seeds} seeds, own rows {setting.own_row_sd:.1f}, seed SD {setting.seed_sd:.1f}"
    )


def _cells(setting: Setting) -> str:
    return f"{setting.seeds:5d}  {setting.own_row_sd:8.1f}  {setting.seed_sd:7.1f}"


def null_line(setting: Setting, measured: Measured, bounds: Bounds) -> str:
    where = _name(setting)
    alarms = share_and_error(measured.p < ALPHA)
    alarmed = measured.p_adjusted < ALPHA
    family = share_and_error(alarmed[:, : len(PRIMARY)].any(axis=1))
    secondary = share_and_error(alarmed[:, len(PRIMARY) :].any(axis=1))
    either = share_and_error(alarmed.any(axis=1))
    covered = share_and_error((measured.low <= 0) & (measured.high >= 0))
    width = width_and_error(setting, measured)
    mcnemar = share_and_error(measured.mcnemar < ALPHA)
    marks = (
        bounds.check("false alarms at most 6%", *alarms, alarms[0] <= MOST_ALARMS, where),
        bounds.check("primary family-wise at most 6%", *family, family[0] <= MOST_ALARMS, where),
        bounds.check("coverage at least 93%", *covered, covered[0] >= LEAST_COVERAGE, where),
        bounds.check("width at 5 seeds at most 1.3", *width, width[0] <= WIDEST, where)
        if setting.seeds == 5
        else "",
    )
    shown = ((alarms, marks[0]), (family, marks[1]), (secondary, ""), (either, ""))
    shares = "  ".join(
        f"{value:6.1%} ±{error:.1%}{mark:1s}"
        for (value, error), mark in (*shown, (covered, marks[2]))
    )
    return (
        f"{_cells(setting)}  {shares}  {width[0]:.2f} ±{width[1]:.2f}{marks[3]:1s}  "
        f"{mcnemar[0]:6.1%} ±{mcnemar[1]:.1%}"
    )


def power_line(setting: Setting, size: float, measured: Measured, bounds: Bounds) -> str:
    found, error = share_and_error(measured.p_adjusted[:, TRUE_DIFFERENCE] < ALPHA)
    after = float(np.median(measured.detectable[:, TRUE_DIFFERENCE]))
    where = _name(setting)
    mark = bounds.check("found at least 75%", found, error, found >= POWERS[0], where)
    mark += bounds.check("found at most 90%", found, error, found <= POWERS[1], where)
    return (
        f"{_cells(setting)}  {size * 100:13.1f}   {after * 100:21.1f}  {found:6.1%} ±{error:.1%}"
        f"{mark}"
    )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
