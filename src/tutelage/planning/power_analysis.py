"""What an experiment could find, said before it is run: the smallest difference that it would see.

The rows of test and the units they come in, the seeds and the size of Holm's family are known. How
much two arms' students differ is not: it is taken from a finished run, or assumed and said so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tutelage.config.recipe import Recipe
from tutelage.core.errors import RunFolderError, UsageError
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.evaluation.compare import ALPHA, POWER
from tutelage.evaluation.power import (
    Design,
    design_of,
    detectable_difference,
    expected_mean_squares,
)
from tutelage.experiment.prepare import Splits
from tutelage.report.run_files import RunFiles, read_run

DISAGREEMENTS = (0.15, 0.25, 0.35)
SEED_SDS = (0.005, 0.01, 0.015)
"""What is assumed where nothing was measured; the middle of each makes the headline."""

OTHER_SEEDS = (3, 5, 10)


@dataclass(frozen=True, slots=True)
class Sight:
    """The smallest difference that some variant of the experiment finds with the chance POWER.

    detectable: a fraction (0.01 is one point); None: no difference that an accuracy can show
    """

    rows: int
    seeds: int
    disagreement: float
    seed_sd: float
    detectable: float | None


@dataclass(frozen=True, slots=True)
class Foresight:
    """What an experiment can be expected to find.

    rows, units: of test, and the units that the test counts: contexts, where rows share one
    unit:        what a unit is called
    family:      primary comparisons, Holm's family; alpha: the level of its strictest step
    measured_in: the run that the design's assumptions come from; None: they are assumed
    design:      disagreement, seed SD and the rest, as in `evaluation.power.Design`, without sizes
    expected:    the headline; its `detectable` is None with one seed, which tells nothing of others
    assumed:     the same for other disagreements and seed SDs; empty where they were measured
    other_seeds, more_rows: what other seeds, and twice the rows, would make of the headline
    remarks:     what a reader should know
    """

    rows: int
    units: int
    unit: str
    seeds: int
    family: int
    alpha: float
    power: float
    measured_in: str | None
    design: Mapping[str, float]
    expected: Sight
    assumed: tuple[Sight, ...]
    other_seeds: tuple[Sight, ...]
    more_rows: Sight
    remarks: tuple[str, ...]

    def sentences(self) -> Iterator[str]:
        """For people, a line each."""
        units = "" if self.units == self.rows else f" ({self.units:,} {self.unit}s)"
        size = f"{self.rows:,} test rows{units}, {_count(self.seeds, 'seed')}"
        size += f", {_count(self.family, 'primary comparison')}"
        if self.seeds == 1:
            yield (
                f"what it could find: with {size}: nothing can be told of any student but the ones "
                "trained, for nobody sees how much another seed would change; name more seeds"
            )
        else:
            found = _found(self.expected.detectable)
            yield f"what it could find: with {size}: {found} (5% level, Holm's strictest step)"
        design = self.design
        yield (
            f"  {self._basis()}: of two arms' students one alone is right on "
            f"{100 * design['disagreement']:.0f}% of rows, on {100 * design['repeated']:.0f}% of "
            "these whatever the seed;"
        )
        yield (
            f"  an arm's accuracy varies over seeds by {_points(design['seed_sd'])} (one SD); "
            f"rows of one {self.unit} correlate by {design['within_group']:.2f}"
        )
        others = [f"with {s.seeds} seeds {_points(s.detectable)}" for s in self.other_seeds]
        if self.seeds > 1:
            others.append(f"with twice the rows {_points(self.more_rows.detectable)}")
        yield f"  otherwise: {', '.join(others)}"
        if self.assumed and self.seeds > 1:
            shares = "".join(f"{f'{100 * share:.0f}%':>7s}" for share in DISAGREEMENTS)
            yield f"  in points, if one alone is right on  {shares}"
            for seed_sd in SEED_SDS:
                cells = (_cell(s, self.expected) for s in self.assumed if s.seed_sd == seed_sd)
                yield f"    and seeds vary by {_points(seed_sd):18s} {''.join(cells)}"
        for remark in self.remarks:
            yield f"  {remark}"

    def _basis(self) -> str:
        return "assumed" if self.measured_in is None else f"as measured in {self.measured_in}"


def foresee(recipe: Recipe, splits: Splits, runs: Path, like: Path | None) -> Foresight | None:
    """What the experiment of a recipe can be expected to find; None where nothing is compared.

    runs: the folder in which a finished run of the recipe's name is looked for
    like: another finished run whose students these will differ like

    Only how much arms differ is taken from a run, never which of them is better. Raises UsageError
    where `like` is no finished run, or holds no predictions to compare.
    """
    family = len(recipe.comparisons().primary)
    task, seeds = recipe.resolved_task(), len(recipe.seeds)
    sizes = tuple(Counter(task.group(e.uid, e.fields) for e in splits.test).values())
    if family == 0 or len(sizes) < 2:
        return None
    design = Design(sizes, seeds, DISAGREEMENTS[1], SEED_SDS[1])
    remarks: list[str] = []
    source = like
    if like is None and (runs / recipe.name / "results.json").exists():
        source = runs / recipe.name
    if source is not None:
        try:
            design, remarks = _measured(source, design, splits.test, task)
        except RunFolderError as error:
            if like is not None:
                raise UsageError(f"--like {like}: {error}") from error
            source, remarks = None, [f"nothing is taken from the run of this name: {error}"]
    alpha = ALPHA / family
    return Foresight(
        rows=sum(sizes),
        units=len(sizes),
        unit=task.context or "row",
        seeds=seeds,
        family=family,
        alpha=alpha,
        power=POWER,
        measured_in=None if source is None else str(source),
        design={
            "disagreement": design.disagreement,
            "seed_sd": design.seed_sd,
            "repeated": design.repeated,
            "within_group": design.within_group,
        },
        expected=_sight(design, alpha),
        assumed=()
        if source is not None
        else tuple(
            _sight(replace(design, disagreement=share, seed_sd=seed_sd), alpha)
            for seed_sd in SEED_SDS
            for share in DISAGREEMENTS
        ),
        other_seeds=tuple(
            _sight(replace(design, seeds=count), alpha) for count in _other_seeds(seeds)
        ),
        more_rows=_sight(replace(design, group_sizes=sizes * 2), alpha),
        remarks=tuple(remarks),
    )


def _other_seeds(seeds: int) -> list[int]:
    """What a reader may want to know beside `seeds`: the usual numbers, and always a larger one."""
    more = set() if seeds < max(OTHER_SEEDS) else {2 * seeds}
    return sorted({*OTHER_SEEDS, *more} - {seeds})


def _sight(design: Design, alpha: float) -> Sight:
    size = None
    if design.seeds > 1:
        size = detectable_difference(expected_mean_squares(design), alpha, POWER)
    if size is not None and size >= 1:
        size = None
    rows = sum(design.group_sizes)
    return Sight(rows, design.seeds, design.disagreement, design.seed_sd, size)


def _measured(
    folder: Path, assumed: Design, test: Sequence[Example], task: Task
) -> tuple[Design, list[str]]:
    """`assumed`, with what a finished run's primary comparisons show in the place of assumptions.

    Raises RunFolderError where they show nothing.
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
        known = {row.uid: task.group(row.uid, row.fields) for row in test}
        groups = [known.get(uid, uid) for uid in files.uids]
    designs = []
    for arm, baseline in pairs:
        if arm in files.predictions and baseline in files.predictions:
            difference = _difference(files, arm, baseline)
            if difference:
                try:
                    designs.append(design_of(difference, groups))
                except ValueError:  # no row differs, or all are of one unit: nothing to learn
                    continue
    if not designs:
        raise RunFolderError(f"{folder}: holds no predictions of arms that differ")
    count, remarks = len(designs), []
    design = replace(
        assumed,
        disagreement=sum(d.disagreement for d in designs) / count,
        within_group=sum(d.within_group for d in designs) / count,
    )
    seeds = designs[0].seeds
    if seeds == 1:
        remarks.append(f"{folder} has one seed: how seeds vary is assumed")
        return design, remarks
    if seeds < 5:
        remarks.append(f"{folder} has {seeds} seeds: how much seeds vary is a rough guess")
    return replace(
        design,
        seed_sd=math.sqrt(sum(d.seed_sd**2 for d in designs) / count),
        repeated=sum(d.repeated for d in designs) / count,
    ), remarks


def _difference(files: RunFiles, arm: str, baseline: str) -> list[list[int]]:
    """Rows × seeds: 1 where the arm alone is right, -1 where the baseline alone is; empty where the
    two have not as many seeds."""
    one, other = files.predictions[arm].labels, files.predictions[baseline].labels
    if len(one) != len(other):
        return []
    return [
        [(a[row] == gold) - (b[row] == gold) for a, b in zip(one, other, strict=True)]
        for row, gold in enumerate(files.gold)
    ]


def _found(detectable: float | None) -> str:
    if detectable is None:
        return "none can be promised to be found, so much may seeds vary: name more of them"
    return f"a true difference of about {_points(detectable)} is found four times in five"


def _points(share: float | None) -> str:
    """`4.9 points`; whole ones from ten on, where no digit after the point means anything."""
    if share is None:
        return "nothing"
    points = 100 * share
    return f"{points:.0f} points" if points >= 9.95 else f"{points:.1f} points"


def _cell(sight: Sight, headline: Sight) -> str:
    value = "none" if sight.detectable is None else f"{100 * sight.detectable:.1f}"
    return f"{value + '*' * (sight == headline):>7s}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
