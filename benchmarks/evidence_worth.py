"""Check the statistics of what a teacher's dollar buys on simulated experiments (`evidence.py`).

    python benchmarks/evidence_worth.py [EXPERIMENTS]

Prints a line for each scenario. What is measured, against the truth of the pool and the answers
that the experiment drew from (`evidence_worth_model`):

    false alarms  intervals of two arms' difference that miss the mean over draws from this pool
    new pool      the same against the mean over pools: what a claim about other rows would risk
    best held     experiments whose set of possibly best arms contains the best one
    inferior      experiments that call the labels-only arm non-inferior, at a margin that is
                  exactly how far it truly lies below the best: the worst case
    covered       gold equivalents whose interval contains the true number of gold rows. An open
                  end contains all beyond it
    closed        the same among those with two ends
    open          share of gold equivalents with an open end
    ratio         median ratio of the two ends, where there are two

The experiments pass through functions that the shipped ones are made of, many at a time. The first
of each line also goes through the shipped ones, and must give the same results.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace

import numpy as np
from evidence_bounds import Bounds, share_and_error
from evidence_model import Floats
from evidence_worth_model import (
    ANSWERS,
    BOUGHT,
    GOLD_ROWS,
    PEOPLE,
    Worth,
    WorthBatch,
    flat,
    gold_arm,
    s_shaped,
    simulate_worth,
)

from tutelage.evaluation.crossed import half_width
from tutelage.evaluation.gold_equivalent import GoldSizes, gold_equivalent, gold_sizes
from tutelage.evaluation.non_inferior import non_inferior_arms, non_inferiority
from tutelage.evaluation.possibly_best import excluded, possibly_best
from tutelage.evaluation.variance import (
    ArmVariance,
    of_units,
    variance_of_arm,
    variance_of_mean,
)

BASE = Worth("random errors 20%")
SCENARIOS = (
    replace(BASE, seeds=3),
    BASE,
    replace(BASE, seeds=10),
    replace(BASE, name="random errors 10%", errors=0.1),
    replace(BASE, name="random errors 30%", errors=0.3),
    replace(BASE, name="systematic 10%", errors=0.1, systematic=True),
    replace(BASE, name="systematic 30%", errors=0.3, systematic=True),
    replace(BASE, name="samples twice as noisy", sample=2.0),
    replace(BASE, name="and nearly all drawn", sample=2.0, pool=(2100, 800)),
    replace(BASE, name="S-shaped curve", curve=s_shaped),
    replace(BASE, name="nearly flat curve", curve=flat),
    replace(BASE, name="sizes 4 times apart", sizes=(62, 248, 992, 2000)),
)
UNCHECKED = (replace(BASE, name="one order for all", sample=2.0, one_order=True),)
"""Shows what the orders of their own are for: here no bound can hold."""
LABELS = gold_arm(GOLD_ROWS)
PAIRS = (
    *((arm, LABELS) for arm in ANSWERS),
    ("rationale", "shuffled"),
    ("teacher", gold_arm(PEOPLE)),
)
TEACHERS = ("teacher", "other teacher")
"""The arms whose gold equivalents are computed."""
CANDIDATES = (LABELS, gold_arm(PEOPLE), *ANSWERS)
"""The arms of which the best is looked for. Three of them have the same truth."""

ALARMS, HELD, INFERIOR, COVERED = 0.06, 0.95, 0.06, 0.93
CHUNK = 50
"""Experiments with one pool, simulated at a time."""


@dataclass(frozen=True)
class WorthMeasured:
    """Arrays of experiments × what is measured.

    estimate, half, truth: of the pairs; `truth` is that of this pool
    held:     whether the set holds the best; one column
    inferior: whether the labels-only arm was called non-inferior; one column
    covered, opened: of the gold equivalents of TEACHERS
    ratio:    of their ends, NaN where open
    """

    estimate: Floats
    half: Floats
    truth: Floats
    held: Floats
    inferior: Floats
    covered: Floats
    opened: Floats
    ratio: Floats


def parts_of_arms(batch: WorthBatch) -> dict[str, ArmVariance]:
    return {
        arm: variance_of_arm(of_units(table, batch.index), batch.effective)
        for arm, table in batch.correct.items()
    }


def contains(sizes: GoldSizes, truth: float) -> Floats:
    """Whether each interval contains the truth; an open end contains all beyond it."""
    below = ~np.isnan(sizes.low) & (truth < sizes.low)
    beyond = ~np.isnan(sizes.high) & (truth > sizes.high)
    return ~(below | beyond)


def run_chunk(scenario: Worth, count: int, seed: list[int]) -> WorthMeasured:
    """Simulate experiments; the first of the first chunk also passes through what ships."""
    batch = simulate_worth(np.random.default_rng(seed), scenario, count)
    arms, grouped, truth = parts_of_arms(batch), batch.index is not None, batch.truth
    pairs = [variance_of_mean([arms[a], arms[b]], grouped) for a, b in PAIRS]
    best = max(CANDIDATES, key=truth.__getitem__)
    candidates = [arms[name] for name in CANDIDATES]
    left_out = excluded(candidates, grouped)
    margin = max(truth[best] - truth[LABELS], 1e-6)
    dearest = len(CANDIDATES) - 1
    called = non_inferior_arms(candidates, range(dearest), margin, grouped)
    curve = [arms[gold_arm(size)] for size in scenario.sizes]
    sizes = {arm: gold_sizes(arms[arm], curve, scenario.sizes, grouped) for arm in TEACHERS}
    if seed[-1] == 0:
        check_against_shipped(batch, scenario, left_out[0], called[0], margin, sizes)
    opened = [np.isnan(each.low) | np.isnan(each.high) for each in sizes.values()]
    return WorthMeasured(
        estimate=np.stack([each.mean for each in pairs], axis=1),
        half=np.stack([half_width(each, 0.05) for each in pairs], axis=1),
        truth=np.tile([truth[a] - truth[b] for a, b in PAIRS], (count, 1)),
        held=~left_out[:, [CANDIDATES.index(best)]],
        inferior=called[:, [CANDIDATES.index(LABELS)]],
        covered=np.stack([contains(each, batch.worth[arm]) for arm, each in sizes.items()], axis=1),
        opened=np.stack(opened, axis=1),
        ratio=np.stack([each.high / each.low for each in sizes.values()], axis=1),
    )


def check_against_shipped(
    batch: WorthBatch,
    scenario: Worth,
    left_out: Floats,
    called: Floats,
    margin: float,
    sizes: Mapping[str, GoldSizes],
) -> None:
    """Raises AssertionError where the first experiment differs from what ships."""
    tables = {arm: table[0] for arm, table in batch.correct.items()}
    named = {arm: tables[arm] for arm in CANDIDATES}
    chosen = possibly_best(named, batch.groups)
    if [not each.may_be_best for each in chosen.candidates] != list(left_out):
        raise AssertionError("the set of possibly best arms and its vectorised core differ")
    costs = {arm: float(number) for number, arm in enumerate(CANDIDATES)}
    shown = non_inferiority(named, costs, batch.groups, margin)
    if [each.non_inferior for each in shown.cheaper] != list(called):
        raise AssertionError("non-inferiority and its vectorised core differ")
    curve = {size: tables[gold_arm(size)] for size in scenario.sizes}
    for arm, core in sizes.items():
        found = gold_equivalent(tables[arm], curve, GOLD_ROWS, batch.groups)
        ours = [core.estimate[0], core.low[0], core.high[0]]
        theirs = [np.nan if v is None else v for v in (found.estimate, found.low, found.high)]
        if not np.allclose(ours, theirs, rtol=1e-6, equal_nan=True):
            raise AssertionError(f"gold equivalents and their core differ: {ours}, {theirs}")


def run(pool: ProcessPoolExecutor, scenario: Worth, experiments: int, stream: int) -> WorthMeasured:
    starts = range(0, experiments, CHUNK)
    chunks = list(
        pool.map(
            run_chunk,
            itertools.repeat(scenario),
            [min(CHUNK, experiments - start) for start in starts],
            [[stream, start] for start in starts],
        )
    )
    return WorthMeasured(
        *(
            np.concatenate([getattr(chunk, each.name) for chunk in chunks])
            for each in fields(WorthMeasured)
        )
    )


HEADER = (
    "scenario                seeds   false alarms    new pool      best held     inferior   "
    "   covered       closed        open    ratio"
)


def line(measured: WorthMeasured, scenario: Worth, bounds: Bounds | None) -> str:
    """A scenario's line of the table; without bounds, nothing is checked."""
    where = f"{scenario.name}, {scenario.seeds} seeds"
    cells = [f"{scenario.name:22s}  {scenario.seeds:5d}  "]

    def cell(name: str, hits: Floats, limit: float | None = None, at_least: bool = False) -> None:
        value, mark = share_and_error(hits), " "
        if limit is not None and bounds is not None:
            way = "at least" if at_least else "at most"
            mark = bounds.check(f"{name} {way} {limit:g}", value, limit, where, at_least)
        cells.append(f"{value[0]:6.1%} ±{value[1]:.1%}{mark} ")

    off = np.abs(measured.estimate - measured.truth)
    cell("false alarms given the pool", off > measured.half, ALARMS)
    pools = np.abs(measured.estimate - measured.truth.mean(axis=0))
    cell("", pools > measured.half)
    cell("best arm held", measured.held, HELD, at_least=True)
    cell("wrongly non-inferior", measured.inferior, INFERIOR)
    cell("gold equivalents covered", measured.covered, COVERED, at_least=True)
    closed = ~measured.opened.astype(bool)
    if closed.sum() < 20:
        return "".join(cells) + f"      –         {1 - closed.mean():6.1%}       –"
    value = float(measured.covered[closed].mean())
    cells.append(f"{value:6.1%}       {1 - closed.mean():6.1%}  ")
    cells.append(f"{float(np.nanmedian(measured.ratio)):6.2f}")
    return "".join(cells)


def worth_table(pool: ProcessPoolExecutor, experiments: int, bounds: Bounds) -> None:
    """Print a line for each scenario."""
    print(
        f"\nArms of unequal rows: {GOLD_ROWS} gold rows and {BOUGHT} that a teacher labelled, and "
        f"a gold curve; an order of rows for each seed; {experiments:,} experiments a line"
    )
    print(HEADER)
    checked = [(each, bounds) for each in SCENARIOS]
    for number, (scenario, limits) in enumerate([*checked, *((each, None) for each in UNCHECKED)]):
        measured = run(pool, scenario, experiments, 5000 + number)
        print(line(measured, scenario, limits), flush=True)


def main(experiments: int) -> int:
    began = time.perf_counter()
    bounds = Bounds()
    with ProcessPoolExecutor(2) as pool:
        worth_table(pool, experiments, bounds)
    kept = bounds.report()
    seconds = time.perf_counter() - began
    print(f"\n{seconds:.0f} s; {'every bound holds' if kept else 'A BOUND IS BROKEN'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 800))
