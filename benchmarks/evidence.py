"""Check the calibration of the statistics on simulated experiments, with the code that ships.

    python benchmarks/evidence.py [EXPERIMENTS]

Simulates whole experiments, the search included, with the arms and the primary family of a recipe
with two strategies: without an effect, and with a true difference of the size that the power
analysis states beforehand. One factor is varied at a time from the base line, which is the first
scenario; each scenario is simulated with 3, 5 and 10 seeds. Prints each measurement with its
Monte-Carlo error, then each bound, and exits with 1 if a bound is broken: a bound holds where the
measurement plus its error keeps it. The default is 2,000 experiments for each line, and 6,400
for `found`, the numbers for which the bounds are promised.

What is measured, over all comparisons of the family unless it says otherwise:

    false alarms  intervals that miss the procedures' true difference: p < 5% where it is zero
    family-wise   experiments in which Holm's p of some comparison is below 5% (the smallest p below
                  5% / family), where all true differences are zero
    coverage      intervals that hold the procedures' true difference
    bias          of the estimated difference, in points
    width         median half-width, divided by that of an interval that knows the variance
    warned        experiments whose report warns of unlike or collapsed seeds; among those in which
                  a seed collapsed, where seeds do
    found         p below 5% / family where the true difference is the stated size

A procedure is a search and a training. An arm whose seeds are noisier truly chooses worse, so its
true difference from another arm is not zero: it is measured by a large simulation of each procedure
alone (`evidence_model.true_accuracy`).

The experiments pass through the functions that `compare` uses, many at a time. The first of each
line also goes through `compare` itself, from predictions, and must give the same results.

`evidence_worth` then does the same for arms of unequal rows: the set of possibly best arms,
non-inferiority and gold equivalents.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from evidence_bounds import Bounds, share_and_error
from evidence_model import (
    ARMS,
    LABELS,
    PRIMARY,
    REASONING,
    Batch,
    Floats,
    Scenario,
    premises_by_rows,
    simulate,
    true_accuracy,
)
from evidence_worth import worth_table

from tutelage.core.results import Comparison
from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.evaluation.caveats import unlike_seeds
from tutelage.evaluation.compare import ALPHA, POWER, compare
from tutelage.evaluation.crossed import half_width
from tutelage.evaluation.numeric import solve
from tutelage.evaluation.power import detectable_difference
from tutelage.evaluation.sequence import level_at, looks
from tutelage.evaluation.variance import VarianceEstimates, variance_of_arm, variance_of_mean

TASK = Task("right or wrong", ("text",), ("right", "wrong"))
Pairs = tuple[tuple[str, str], ...]
POWER_PAIR: Pairs = ((REASONING, LABELS),)

BASE = Scenario("base line")
SCENARIOS = (
    BASE,
    replace(BASE, name="one configuration", trials=0),
    replace(BASE, name="dev of 200 rows", dev=200),
    replace(BASE, name="seed SD 0.5", seed_sd=0.5, treatment_seed_sd=0.5),
    replace(BASE, name="seed SD 4", seed_sd=4.0, treatment_seed_sd=4.0),
    replace(BASE, name="seed SDs 1 and 4", seed_sd=1.0, treatment_seed_sd=4.0),
    replace(BASE, name="heavy-tailed seeds", shape="heavy"),
    replace(BASE, name="two-humped seeds", shape="humps"),
    replace(BASE, name="rows alone", premises="alone"),
    replace(BASE, name="unequal groups", premises="unequal"),
    replace(BASE, name="accuracy .34", accuracy=0.34),
    replace(BASE, name="accuracy .92", accuracy=0.92),
    replace(BASE, name="200 rows", rows=200),
    replace(BASE, name="5,000 rows", rows=5000),
)
FEW_GROUPS = replace(BASE, name="12 unequal groups", premises="few")
COLLAPSING = replace(BASE, name="seeds that collapse", collapse=0.15)
SEEDS = (3, 5, 10)

MORE_FOR_POWER = 3.2
"""Times as many experiments for `found`, whose rate has the larger error."""
SHARE_OF_WORTH = 0.4
"""Times as many experiments for each line of `evidence_worth`, whose arms are more."""
CHUNK = 50
"""Experiments simulated at a time."""


@dataclass(frozen=True)
class Limits:
    """The bounds of a scenario; widths by number of seeds."""

    alarms: float = 0.06
    coverage: float = 0.935
    bias: float = 0.15
    width: tuple[tuple[int, float], ...] = ((3, 1.6), (5, 1.2))
    power: tuple[float, float] = (0.75, 0.88)
    warned: tuple[tuple[int, float], ...] = ((3, 0.2), (5, 0.1), (10, 0.1))
    warned_at_least: tuple[tuple[int, float], ...] = ()


UNLIKE = Limits(
    width=((3, 1.6), (5, 1.3)), warned=(), warned_at_least=((3, 0.5), (5, 0.5), (10, 0.5))
)
HEAVY = Limits(warned=())
"""Alike as they are, heavy-tailed seeds often look unlike: the rate is printed."""
OF_FEW = Limits(alarms=0.08, coverage=0.92, width=(), power=(0.0, 1.0), warned=())


@dataclass(frozen=True)
class Measured:
    """Arrays of experiments × comparisons; the last three: of chunks, and of experiments.

    difference: the estimates
    half:       half-widths of the 95% intervals
    strict:     half-widths at 5% / family, Holm's strictest step
    after:      the detectable difference that the first experiment of each chunk would state, of
                the last comparison of `pairs`
    warned:     whether the report would warn of unlike or collapsed seeds in some comparison
                (`caveats.unlike_seeds`)
    collapsed:  whether a seed collapsed
    """

    difference: Floats
    half: Floats
    strict: Floats
    after: Floats
    warned: Floats
    collapsed: Floats


def from_predictions(batch: Batch, pairs: Pairs) -> list[Comparison]:
    """The comparisons of a batch's first experiment, computed from predictions."""
    words = np.array(["wrong", "right"])
    predictions = {
        arm: {
            seed: [
                Prediction(f"row {i}", word, {}, "right")
                for i, word in enumerate(words[column.astype(int)].tolist())
            ]
            for seed, column in enumerate(table[0].T)
        }
        for arm, table in batch.correct.items()
    }
    premises = {f"row {i}": f"premise {group}" for i, group in enumerate(batch.groups)}
    return compare(predictions, pairs, TASK, premises)


def parts_of(batch: Batch, pairs: Pairs) -> list[VarianceEstimates]:
    """The variances of each comparison's mean, for all experiments of a batch."""
    arms = {arm: variance_of_arm(batch.units(arm), batch.effective) for arm in batch.correct}
    return [
        variance_of_mean([arms[arm], arms[other]], batch.index is not None) for arm, other in pairs
    ]


def run_chunk(scenario: Scenario, pairs: Pairs, count: int, seed: list[int]) -> Measured:
    """Simulate experiments; the first of the first chunk also passes through `compare`."""
    arms = tuple(arm for arm in ARMS if any(arm in pair for pair in pairs))
    batch = simulate(np.random.default_rng(seed), scenario, count, arms)
    parts = parts_of(batch, pairs)
    measured = Measured(
        difference=np.stack([each.mean for each in parts], axis=1),
        half=np.stack([half_width(each, ALPHA) for each in parts], axis=1),
        strict=np.stack([half_width(each, ALPHA / len(PRIMARY)) for each in parts], axis=1),
        after=np.empty(0),
        warned=np.array([warns(batch, pairs, number) for number in range(count)]),
        collapsed=batch.collapsed.any(axis=1),
    )
    if seed[-1] == 0:
        check_against_compare(measured, from_predictions(batch, pairs))
    last = parts[-1]
    first = replace(
        last,
        mean=float(last.mean[0]),
        rows=float(last.rows[0]),
        seeds=tuple(float(each[0]) for each in last.seeds),
        residue=tuple(float(each[0]) for each in last.residue),
    )
    size = detectable_difference(first, ALPHA / len(PRIMARY), POWER)
    return replace(measured, after=np.array([np.inf if size is None else size]))


def warns(batch: Batch, pairs: Pairs, experiment: int) -> bool:
    """Whether the seeds of some arm are called unlike or collapsed."""
    accuracies = {arm: table[experiment].mean(axis=0) for arm, table in batch.correct.items()}
    return bool(unlike_seeds(accuracies, {arm for arm, _ in pairs}))


def check_against_compare(measured: Measured, shipped: Sequence[Comparison]) -> None:
    """Raises AssertionError where the first experiment differs from what `compare` says of it."""
    for number, each in enumerate(shipped):
        difference, half, strict = (
            float(values[0, number])
            for values in (measured.difference, measured.half, measured.strict)
        )
        ours = (difference, max(difference - half, -1.0), min(difference + half, 1.0))
        theirs = (each.difference, *each.ci95)
        alike = np.allclose(ours, theirs, rtol=1e-7, atol=1e-10)
        alike &= (abs(difference) > half) == (each.p_value < ALPHA)
        alike &= (abs(difference) > strict) == (each.p_value < ALPHA / len(PRIMARY))
        if not alike:
            raise AssertionError(f"compare and its vectorised core differ: {ours}, {theirs}")
    adjusted = [each.p_adjusted < ALPHA for each in shipped]
    strictest = np.abs(measured.difference[0]) > measured.strict[0]
    if len(shipped) == len(PRIMARY) and any(adjusted) != bool(strictest.any()):
        raise AssertionError("Holm's correction finds something where its first step does not")


def run(
    pool: ProcessPoolExecutor, scenario: Scenario, pairs: Pairs, experiments: int, stream: int
) -> Measured:
    starts = range(0, experiments, CHUNK)
    chunks = list(
        pool.map(
            run_chunk,
            itertools.repeat(scenario),
            itertools.repeat(pairs),
            [min(CHUNK, experiments - start) for start in starts],
            [[stream, start] for start in starts],
        )
    )
    return Measured(
        *(
            np.concatenate([getattr(chunk, each.name) for chunk in chunks])
            for each in fields(Measured)
        )
    )


def true_differences(scenario: Scenario, pairs: Pairs) -> tuple[Floats, float]:
    """The procedures' true difference of each comparison, and the error of measuring it."""
    accuracies = {arm: (0.0, 0.0) for pair in pairs for arm in pair}
    alike = scenario.seed_sd == scenario.treatment_seed_sd and not scenario.collapse
    if not alike or scenario.gain:
        accuracies = {arm: true_accuracy(scenario, arm) for arm in accuracies}
    error = max(accuracies[a][1] + accuracies[b][1] for a, b in pairs)
    return np.array([accuracies[a][0] - accuracies[b][0] for a, b in pairs]), error


def stated_before(scenario: Scenario) -> float | None:
    """The difference that the primary test is stated to detect in 80 of 100 experiments, at Holm's
    strictest step, from the variances that experiments of this kind have on average."""
    rng = np.random.default_rng(1)
    arms = (LABELS, REASONING)
    parts = [parts_of(simulate(rng, scenario, 40, arms), POWER_PAIR)[0] for _ in range(10)]
    average = replace(
        parts[0],
        mean=0.0,
        rows=float(np.mean([each.rows for each in parts])),
        seeds=tuple(float(np.mean([each.seeds[arm] for each in parts])) for arm in (0, 1)),
        residue=tuple(float(np.mean([each.residue[arm] for each in parts])) for arm in (0, 1)),
        effective_units=float(np.mean([each.effective_units for each in parts])),
    )
    return detectable_difference(average, ALPHA / len(PRIMARY), POWER)


def with_true_difference(scenario: Scenario, size: float) -> Scenario:
    """The scenario with the gain in logits that makes the procedures differ by `size`."""

    def off(gain: float) -> float:
        gained = replace(scenario, gain=gain)
        return float(true_differences(gained, POWER_PAIR)[0][0]) - size

    return replace(scenario, gain=solve(off, 0.0, 12.0, 1e-4))


def width_and_error(measured: Measured) -> tuple[float, float]:
    """Median half-width, divided by 1.96 SDs of the estimates in this simulation."""
    known = 1.959964 * measured.difference.std(axis=0)
    half = measured.half / known
    rng = np.random.default_rng(3)
    again = [np.median(half[rng.integers(0, len(half), len(half))]) for _ in range(50)]
    return float(np.median(half)), float(np.std(again))


def sequence_chunk(scenario: Scenario, plan: tuple[int, ...], count: int, seed: list[int]) -> Any:
    """Experiments × (any comparison false at some planned look, the same at 5% at every look)."""
    batch = simulate(np.random.default_rng(seed), scenario, count)
    units = {arm: batch.units(arm) for arm in batch.correct}
    alarms = np.zeros((count, 2), dtype=bool)
    strictest = ALPHA / len(PRIMARY)
    for look in plan:
        arms = {
            arm: variance_of_arm(each[..., :look], batch.effective) for arm, each in units.items()
        }
        for arm, other in PRIMARY:
            parts = variance_of_mean([arms[arm], arms[other]], batch.index is not None)
            for number, level in enumerate((level_at(look, plan, strictest), strictest)):
                alarms[:, number] |= np.abs(parts.mean) > half_width(parts, level)
    return alarms


def sequence(pool: ProcessPoolExecutor, experiments: int, bounds: Bounds) -> str:
    """False alarms of a plan that adds seeds until something is significant."""
    plan = looks(5, 5, 20)
    scenario = replace(BASE, seeds=plan[-1])
    starts = range(0, experiments, CHUNK)
    chunks = pool.map(
        sequence_chunk,
        itertools.repeat(scenario),
        itertools.repeat(plan),
        [min(CHUNK, experiments - start) for start in starts],
        [[2000, start] for start in starts],
    )
    alarms = np.concatenate(list(chunks))
    planned, each_time = share_and_error(alarms[:, 0]), share_and_error(alarms[:, 1])
    limit = Limits().alarms
    where = f"looks at {', '.join(map(str, plan))} seeds"
    mark = bounds.check(f"planned looks at most {limit:g}", planned, limit, where, at_least=False)
    return (
        f"\nSeeds added until some comparison is significant, {where}, family-wise:\n"
        f"  with the levels of a plan        {planned[0]:6.1%} ±{planned[1]:.1%}{mark}\n"
        f"  at 5% each time                  {each_time[0]:6.1%} ±{each_time[1]:.1%}"
    )


HEADER = (
    "scenario                seeds   false alarms   family-wise    coverage       bias"
    "           width         warned         stated  (after)  found"
)


def line(
    pool: ProcessPoolExecutor,
    scenario: Scenario,
    limits: Limits | None,
    experiments: int,
    stream: int,
    bounds: Bounds,
    power: bool,
) -> str:
    """Simulate a scenario; its line of the table. Without limits, nothing is checked."""
    where = f"{scenario.name}, {scenario.seeds} seeds"
    measured = run(pool, scenario, PRIMARY, experiments, stream)
    truth, truth_error = true_differences(scenario, PRIMARY)
    off = measured.difference - truth
    missed = share_and_error(np.abs(off) > measured.half)
    cells = [f"{scenario.name:22s}  {scenario.seeds:5d}  "]

    def cell(name: str, value: tuple[float, float], limit: float | None, at_least: bool) -> str:
        mark = " "
        if limits is not None and limit is not None:
            way = "at least" if at_least else "at most"
            mark = bounds.check(f"{name} {way} {limit:g}", value, limit, where, at_least)
        return mark

    kept = limits or Limits()
    mark = cell("false alarms", missed, kept.alarms, False)
    cells.append(f"{missed[0]:6.1%} ±{missed[1]:.1%}{mark} ")
    if np.any(truth):
        cells.append("             –")
    else:
        family = share_and_error((np.abs(measured.difference) > measured.strict).any(axis=1))
        mark = cell("family-wise", family, kept.alarms, False)
        cells.append(f"{family[0]:6.1%} ±{family[1]:.1%}{mark} ")
    covered = (1 - missed[0], missed[1])
    mark = cell("coverage", covered, kept.coverage, True)
    cells.append(f"{covered[0]:6.1%} ±{covered[1]:.1%}{mark} ")
    by_pair = 100 * off.mean(axis=0)
    worst = int(np.abs(by_pair).argmax())
    error = 100 * float(off[:, worst].std() / len(off) ** 0.5) + 100 * truth_error
    mark = cell("bias in points", (abs(float(by_pair[worst])), 0.0), kept.bias + error, False)
    cells.append(f"{by_pair[worst]:+6.2f} ±{error:.2f}{mark} ")
    width = width_and_error(measured)
    mark = cell(
        f"width at {scenario.seeds} seeds", width, dict(kept.width).get(scenario.seeds), False
    )
    cells.append(f"{width[0]:5.2f} ±{width[1]:.2f}{mark} ")
    warned = share_and_error(measured.warned)
    if scenario.collapse:
        warned = share_and_error(measured.warned[measured.collapsed.astype(bool)])
        where += ", where one did"
        bounds.check("warned at least 0.9", warned, 0.9, where, at_least=True)
    mark = cell("warned", warned, dict(kept.warned).get(scenario.seeds), False)
    mark = max(mark, cell("warned", warned, dict(kept.warned_at_least).get(scenario.seeds), True))
    cells.append(f"{warned[0]:6.1%} ±{warned[1]:.1%}{mark} ")
    if not power:
        return " ".join(cells)
    size = stated_before(scenario)
    if size is None or size > 0.4:
        cells.append("   none can be detected" if size is None else f"{100 * size:8.1f}")
        return " ".join(cells)
    moved = with_true_difference(scenario, size)
    count = max(int(experiments * MORE_FOR_POWER), 20)
    powerful = run(pool, moved, POWER_PAIR, count, 1000 + stream)
    found = share_and_error(np.abs(powerful.difference) > powerful.strict)
    marks = [" "]
    if scenario.accuracy + size <= 1:
        marks = [
            cell("found", found, kept.power[0], True),
            cell("found", found, kept.power[1], False),
        ]
    # Else no arm can be better by that much: what is found is a difference between an arm further
    # up and one further down, where seeds do not vary as stated, and it is only printed.
    after = 100 * float(np.median(powerful.after))
    mark = max(marks)
    cells.append(f"{100 * size:6.1f}  {after:6.1f}  {found[0]:6.1%} ±{found[1]:.1%}{mark}")
    return " ".join(cells)


def table(
    scenarios: Sequence[tuple[Scenario, Mapping[int, Limits]]],
    experiments: int,
    bounds: Bounds,
    power: bool = True,
) -> None:
    """Print a line for each scenario with each number of seeds; limits by number of seeds."""
    print(HEADER)
    with ProcessPoolExecutor(2) as pool:
        for number, (scenario, limits) in enumerate(scenarios):
            for seeds in SEEDS:
                stream = 10 * number + seeds
                of_seeds = replace(scenario, seeds=seeds)
                shown = line(pool, of_seeds, limits.get(seeds), experiments, stream, bounds, power)
                print(shown, flush=True)


def opening(experiments: int) -> str:
    return (
        f"{experiments:,} experiments a line, {int(experiments * MORE_FOR_POWER):,} for `found`; "
        f"premises {premises_by_rows()[1]}; {len(ARMS)} arms, {len(PRIMARY)} comparisons\n"
        "± is one standard error of the simulation; * breaks a bound; bias and sizes in points"
    )


def main(experiments: int) -> int:
    began = time.perf_counter()
    base = BASE
    print(opening(experiments))
    print(
        f"Base line: {base.rows:,} test rows, dev of {base.dev:,}, accuracy {base.accuracy}, seed "
        f"SD {base.seed_sd:g} points, {base.trials} trials of 9 configurations whose SD is "
        f"{base.config_sd:g} points, premises as in e-SNLI. Each other scenario changes what its "
        "name says.\n"
    )
    bounds = Bounds()
    scenarios: list[tuple[Scenario, Mapping[int, Limits]]] = []
    for each in (*SCENARIOS, FEW_GROUPS):
        limits = Limits() if each.seed_sd == each.treatment_seed_sd else UNLIKE
        limits = {"few": OF_FEW}.get(each.premises, HEAVY if each.shape == "heavy" else limits)
        scenarios.append((each, dict.fromkeys(SEEDS, limits)))
    table([*scenarios, (COLLAPSING, {})], experiments, bounds)
    with ProcessPoolExecutor(2) as pool:
        print(sequence(pool, experiments, bounds))
        worth_table(pool, max(int(experiments * SHARE_OF_WORTH), CHUNK), bounds)
    kept = bounds.report()
    seconds = time.perf_counter() - began
    print(f"\n{seconds:.0f} s; {'every bound holds' if kept else 'A BOUND IS BROKEN'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
