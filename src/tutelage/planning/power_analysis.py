"""Power analysis: the smallest difference that an experiment can detect, before it is run.

The test rows and their groups, the seeds and the size of Holm's family are known. How much two
arms' students differ is not: it is measured in a finished run, or assumed and reported as such.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tutelage.config.recipe import Recipe
from tutelage.core.errors import RunFolderError, UsageError
from tutelage.core.main_metric import metric_in_words
from tutelage.core.results import load_results
from tutelage.core.wording import STABLE
from tutelage.evaluation.compare import ALPHA, POWER
from tutelage.evaluation.power import (
    Design,
    balanced_design,
    design_of,
    detectable_difference,
    expected_variance,
)
from tutelage.experiment.prepare import Splits
from tutelage.report.run_files import RunFiles, read_run

DISAGREEMENTS = (0.15, 0.25, 0.35)
"""What is assumed where nothing was measured. The headline uses the middle."""

SEED_SDS = {False: (0.005, 0.01, 0.015), True: (0.01, 0.03, 0.05)}
"""Whether a student is new, or little trained -> SDs of an arm's accuracy over seeds to assume.

Such as were seen in the runs of docs/results.md: pretrained students 0.3 to 2 points, new ones 1 to
5, and a pretrained one after 28 steps 4 to 9."""

LITTLE_TRAINING = 50
"""Optimiser steps below which a pretrained student varies over seeds as a new one does."""

OTHER_SEEDS = (3, 5, 10)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One variant of the experiment, and the smallest difference that it detects with power POWER.

    disagreement: share of rows on which exactly one of two arms' students is right
    seed_sd:      SD of an arm's accuracy (or other metric) over seeds, a fraction
    detectable:   a fraction (0.01 is one point); None where no possible difference is detected
    """

    rows: int
    seeds: int
    disagreement: float
    seed_sd: float
    detectable: float | None


@dataclass(frozen=True, slots=True)
class PowerAnalysis:
    """The differences that an experiment can be expected to detect.

    rows:        number of test rows
    units:       number of independent units among them: contexts, where rows share one
    unit:        name of a unit
    family:      number of primary comparisons, which are Holm's family
    alpha:       significance level of Holm's strictest step
    power:       probability with which the differences below are detected
    metric:      what the differences are of, in words
    measured_in: the run that `design` was measured in; None where it is assumed
    design:      disagreement, seed SD and the rest, as in `evaluation.power.Design`, without sizes
    seed_sds:    the SDs over seeds that are assumed, or that a run with few seeds leaves possible
                 (from the least to the most, each with a chance of one in ten to lie beyond); the
                 middle one is the design's
    possible:    the headline with the first and the last of these
    expected:    the headline. With one seed its `detectable` is None: the variation over seeds is
                 then unknown
    assumed:     the same for other disagreements and seed SDs; empty where they were measured
    other_seeds: the headline with other numbers of seeds
    more_rows:   the headline with twice the rows
    remarks:     what a reader should know, one line each
    """

    rows: int
    units: int
    unit: str
    seeds: int
    family: int
    alpha: float
    power: float
    metric: str
    measured_in: str | None
    design: Mapping[str, float]
    seed_sds: tuple[float, ...]
    possible: tuple[Scenario, Scenario]
    expected: Scenario
    assumed: tuple[Scenario, ...]
    other_seeds: tuple[Scenario, ...]
    more_rows: Scenario
    remarks: tuple[str, ...]

    def sentences(self) -> Iterator[str]:
        """Yield the analysis as text, line by line."""
        units = "" if self.units == self.rows else f" ({self.units:,} {self.unit}s)"
        size = f"{self.rows:,} test rows{units}, {_count(self.seeds, 'seed')}"
        size += f", {_count(self.family, 'primary comparison')}"
        if self.seeds == 1:
            yield (
                f"power analysis: with {size}: no difference can be detected, because one seed "
                f"does not show how much {self.metric} varies over seeds: name two or more seeds"
            )
        else:
            found = _detection(self.expected.detectable)
            if self.measured_in is not None:
                found = _possible_detection(self.expected, self.possible)
            of = "" if self.metric == "accuracy" else f" in {self.metric}"
            yield f"power analysis: with {size}: {found}{of} (5% level, Holm's strictest step)"
        design = self.design
        yield (
            f"  {self._basis()}: exactly one of two arms' students is right on "
            f"{100 * design['disagreement']:.0f}% of rows, and on {100 * design['repeated']:.0f}% "
            "of these with every seed;"
        )
        yield (
            f"  the SD of an arm's {self.metric} over seeds is {_points(design['seed_sd'])}; "
            f"rows of one {self.unit} correlate by {design['within_group']:.2f}"
        )
        others = [f"with {s.seeds} seeds {_points(s.detectable)}" for s in self.other_seeds]
        if self.seeds > 1:
            others.append(f"with twice the rows {_points(self.more_rows.detectable)}")
        yield f"  detectable in other designs: {', '.join(others)}"
        if self.assumed and self.seeds > 1:
            shares = "".join(f"{f'{100 * share:.0f}%':>7s}" for share in DISAGREEMENTS)
            yield f"  in points, if exactly one is right on {shares}"
            for seed_sd in self.seed_sds:
                cells = (_cell(s, self.expected) for s in self.assumed if s.seed_sd == seed_sd)
                yield f"    and the SD over seeds is {_points(seed_sd):10s} {''.join(cells)}"
        for remark in self.remarks:
            yield f"  {remark}"

    def _basis(self) -> str:
        return "assumed" if self.measured_in is None else f"as measured in {self.measured_in}"


@dataclass(frozen=True, slots=True)
class Basis:
    """What an experiment's predictions are expected to be like, and how that is known.

    seed_sds: see `PowerAnalysis`
    source:   the run that it was measured in; None where it is assumed
    """

    design: Design
    seed_sds: tuple[float, ...]
    source: Path | None
    remarks: tuple[str, ...]


def basis_of(recipe: Recipe, splits: Splits, runs: Path, like: Path | None) -> Basis | None:
    """The design of a recipe's experiment; None where it compares no arms, or has one unit.

    runs: the folder in which a finished run is looked for: the one of the recipe's name, or else
          the latest with the same student and the same labels
    like: another finished run to use instead, whose students differ as these are expected to

    Raises UsageError where `like` is not a finished run, or holds no predictions to compare.
    """
    task = recipe.resolved_task()
    groups = splits.groups(splits.test, task)
    sizes = tuple(Counter(groups.values()).values())
    if not recipe.comparisons().primary or len(sizes) < 2:
        return None
    seed_sds: tuple[float, ...] = SEED_SDS[_is_little_trained(recipe, len(splits.train))]
    design = Design(sizes, len(recipe.replicates), DISAGREEMENTS[1], seed_sds[1])
    if recipe.balanced:
        units = [groups[row.uid] for row in splits.test]
        design = balanced_design(design, [row.label for row in splits.test], units)
    remarks: list[str] = []
    for source in (like,) if like is not None else _finished_runs(recipe, runs):
        try:
            measured, freedom, found = _measured(source, design, groups, recipe.balanced)
        except RunFolderError as error:
            if like is not None:
                raise UsageError(f"--like {like}: {error}") from error
            if source == runs / recipe.name:
                remarks = [f"the finished run of this name could not be used: {error}"]
            continue
        if freedom:
            seed_sds = _possible_sds(measured.seed_sd, freedom)
        return Basis(measured, seed_sds, source, tuple(found))
    return Basis(design, seed_sds, None, tuple(remarks))


def _is_little_trained(recipe: Recipe, rows: int) -> bool:
    student = recipe.student
    steps = math.ceil(rows / student.batch_size) * student.epochs
    if student.max_steps is not None:
        steps = min(steps, student.max_steps)
    return student.model.startswith("scratch:") or steps < LITTLE_TRAINING


def _finished_runs(recipe: Recipe, runs: Path) -> list[Path]:
    """The run of the recipe's name; otherwise the latest first of those with its student."""
    own = runs / recipe.name
    if (own / "results.json").exists():
        return [own]
    found = []
    for file in runs.glob("*/results.json"):
        try:
            results = load_results(file)
        except RunFolderError:
            continue  # of another version: not a run of this recipe, so not worth a remark
        same_labels = tuple(results.task.labels) == tuple(recipe.resolved_task().labels)
        if results.finished and same_labels and results.student.model == recipe.student.model:
            found.append((file.stat().st_mtime, file.parent))
    return [folder for _, folder in sorted(found, reverse=True)]


def _possible_sds(seed_sd: float, freedom: int) -> tuple[float, float, float]:
    """The SD, between the ends of its 80% interval: SD · sqrt(ν / q), q quantiles of chi²(ν)."""
    from scipy.special import chdtri

    low, high = (seed_sd * math.sqrt(freedom / float(chdtri(freedom, t))) for t in (0.1, 0.9))
    return low, seed_sd, high


def analyse_power(
    recipe: Recipe, splits: Splits, runs: Path, like: Path | None
) -> PowerAnalysis | None:
    """Estimate which differences a recipe's experiment detects; None where it compares no arms.

    runs, like: as in `basis_of`, which also says what is raised

    Only how much arms differ is taken from a run, never which of them is better.
    """
    basis = basis_of(recipe, splits, runs, like)
    if basis is None:
        return None
    design, task, seed_sds = basis.design, recipe.resolved_task(), basis.seed_sds
    sizes, seeds = design.group_sizes, design.seeds
    family = len(recipe.comparisons().primary)
    alpha = ALPHA / family
    return PowerAnalysis(
        rows=sum(sizes),
        units=len(sizes),
        unit=task.context or ("row" if len(sizes) == sum(sizes) else "group"),
        seeds=seeds,
        family=family,
        alpha=alpha,
        power=POWER,
        metric=metric_in_words(recipe.metric),
        measured_in=None if basis.source is None else str(basis.source),
        design={
            "disagreement": design.disagreement,
            "seed_sd": design.seed_sd,
            "repeated": design.repeated,
            "within_group": design.within_group,
        },
        seed_sds=seed_sds,
        possible=(
            _scenario(replace(design, seed_sd=seed_sds[0]), alpha),
            _scenario(replace(design, seed_sd=seed_sds[-1]), alpha),
        ),
        expected=_scenario(design, alpha),
        assumed=()
        if basis.source is not None
        else tuple(
            _scenario(replace(design, disagreement=share, seed_sd=seed_sd), alpha)
            for seed_sd in seed_sds
            for share in DISAGREEMENTS
        ),
        other_seeds=tuple(
            _scenario(replace(design, seeds=count), alpha) for count in _other_seeds(seeds)
        ),
        more_rows=_scenario(replace(design, group_sizes=(*sizes, *sizes)), alpha),
        remarks=basis.remarks,
    )


def _other_seeds(seeds: int) -> list[int]:
    """Numbers of seeds to compare with `seeds`: the usual ones, and always a larger one."""
    more = set() if seeds < max(OTHER_SEEDS) else {2 * seeds}
    return sorted({*OTHER_SEEDS, *more} - {seeds})


def _scenario(design: Design, alpha: float) -> Scenario:
    size = None
    if design.seeds > 1:
        size = detectable_difference(expected_variance(design), alpha, POWER)
    rows = sum(design.group_sizes)
    return Scenario(rows, design.seeds, design.disagreement, design.seed_sd, size)


def _measured(
    folder: Path, assumed: Design, known: Mapping[str, str], balanced: bool
) -> tuple[Design, int, list[str]]:
    """`assumed`, with its assumptions replaced by what a run's primary comparisons show; the
    degrees of freedom of the SD over seeds, 0 where it remains assumed; remarks.

    known:    uid -> unit of the recipe's test rows, used where the run's folder holds none
    balanced: whether the recipe is about balanced accuracy, whatever that run was about

    Raises RunFolderError where the comparisons show nothing.
    """
    if not (folder / "results.json").exists():
        raise RunFolderError(f"{folder}: holds no results.json, expected a finished run's folder")
    results, files = read_run(folder)
    pairs = [
        (comparison.arm, comparison.baseline)
        for comparison in results.comparisons
        if comparison.primary
    ]
    groups = list(files.groups)
    if not groups:
        groups = [known.get(uid, uid) for uid in files.uids]
    labels = list(files.gold) if balanced else None
    designs = []
    freedom: dict[str, int] = {}
    for arm, baseline in pairs:
        if arm in files.predictions and baseline in files.predictions:
            tables = _correct(files, arm), _correct(files, baseline)
            if len(tables[0][0]) == len(tables[1][0]):
                try:
                    designs.append(design_of(*tables, groups, labels=labels))
                    freedom |= dict.fromkeys((arm, baseline), len(tables[0][0]) - 1)
                except ValueError:  # no row differs, or all are in one unit: shows nothing
                    continue
    if not designs:
        raise RunFolderError(f"{folder}: holds no predictions of arms that differ")
    count, remarks = len(designs), []
    design = replace(
        assumed,
        disagreement=sum(d.disagreement for d in designs) / count,
        within_group=sum(d.within_group for d in designs) / count,
        inflation=sum(d.inflation for d in designs) / count,
    )
    seeds = designs[0].seeds
    if seeds == 1:
        remarks.append(f"{folder} has one seed: the SD over seeds is assumed")
        return design, 0, remarks
    if seeds < 5:
        remarks.append(f"{folder} has {seeds} seeds: its SD over seeds is a rough estimate")
    measured = replace(
        design,
        seed_sd=math.sqrt(sum(d.seed_sd**2 for d in designs) / count),
        repeated=sum(d.repeated for d in designs) / count,
    )
    return measured, sum(freedom.values()), remarks


def _correct(files: RunFiles, arm: str) -> list[list[int]]:
    """Rows × seeds: 1 where the arm's prediction is correct, else 0."""
    by_seed = files.predictions[arm].labels
    return [[int(labels[row] == gold) for labels in by_seed] for row, gold in enumerate(files.gold)]


def _detection(detectable: float | None) -> str:
    if detectable is None:
        return (
            "no difference is detected reliably, because seeds may vary too much: name more seeds"
        )
    return f"a true difference of about {_points(detectable)} is detected four times in five"


def _possible_detection(expected: Scenario, possible: tuple[Scenario, Scenario]) -> str:
    """As `_detection`, with a range where the run leaves the SD over seeds so uncertain."""
    low, high = (each.detectable for each in possible)
    if low is None or (high is not None and high < STABLE * low):
        return _detection(expected.detectable)
    least = f"{100 * low:.1f}"
    if high is None:
        return f"a true difference is detected four times in five from {least} points at best"
    return (
        f"a true difference of about {least} to {_points(high)} is detected four times in five, as "
        "far as so few seeds show"
    )


def _points(share: float | None) -> str:
    """`4.9 points`; whole points from ten on, where decimals mean nothing."""
    if share is None:
        return "nothing"
    points = 100 * share
    return f"{points:.0f} points" if points >= 9.95 else f"{points:.1f} points"


def _cell(scenario: Scenario, headline: Scenario) -> str:
    value = "none" if scenario.detectable is None else f"{100 * scenario.detectable:.1f}"
    return f"{value + '*' * (scenario == headline):>7s}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
