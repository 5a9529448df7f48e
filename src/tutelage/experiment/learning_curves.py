"""Learning curves: what each replicate chose, trained on nested fractions of the rows.

They show what more rows bring, next to what rationales bring. They are evaluated on dev alone: the
test set stays closed. The point of all rows is what the students that the run trains anyway reach
on dev.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tutelage.config.arm_settings import ArmSection
from tutelage.config.design_rules import treatment_arms
from tutelage.config.recipe import Recipe
from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import UsageError
from tutelage.core.results import (
    CurveAnnotation,
    CurveArm,
    CurveDifference,
    CurvePoint,
    TokenCounts,
)
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction, Rationale, Usage
from tutelage.evaluation.compare import compare
from tutelage.evaluation.majority import majority_predictions
from tutelage.evaluation.metrics import evaluate
from tutelage.experiment.arm_strategies import strategy_of
from tutelage.experiment.prepare import Splits
from tutelage.experiment.summarise import ArmRun, SeedPredictions
from tutelage.experiment.teacher_summary import total_or_none
from tutelage.experiment.trainings import Choices, Students
from tutelage.student.jobs.jobs import TrainingJob, read_predictions
from tutelage.teacher.annotate import Annotation


@dataclass(frozen=True, slots=True)
class Subset:
    """A fraction of the training rows.

    fraction: as requested; the rows come near it, since groups stay whole
    uids:     of its rows
    """

    fraction: float
    uids: frozenset[str]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.fraction:g}"


def parse_fractions(given: Sequence[str | float]) -> tuple[float, ...]:
    """`["0.1,0.3", 0.5]` -> (0.1, 0.3, 0.5). UsageError as in `check_fractions`."""
    texts = [str(one) for one in given]
    words = [word.strip() for text in texts for word in text.split(",")]
    try:
        return check_fractions([float(word) for word in words])
    except ValueError as error:
        raise UsageError(
            f"--fractions: got {','.join(texts)!r}, expected numbers between 0 and 1, such as "
            "0.1,0.3"
        ) from error


def check_fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    """The fractions in rising order, without 1, which every curve ends with.

    Raises UsageError for a fraction that is not above 0 and at most 1, or that is given twice
    (folder names have six significant digits).
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise UsageError(
                f"--fractions: got {fraction:g}, expected numbers between 0 and 1, such as 0.1,0.3"
            )
    ordered = sorted(fractions)
    names = [f"{fraction:g}" for fraction in ordered]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"--fractions: got {twice[0]} twice, expected each fraction once")
    return tuple(fraction for fraction in ordered if f"{fraction:g}" != "1")


def nested_subsets(
    examples: Sequence[Example], task: Task, fractions: Sequence[float]
) -> list[Subset]:
    """The rows of each fraction, each a subset of the next.

    fractions: as `check_fractions` returns them

    Whole groups (`task.group`) are taken in the order of a digest of their keys, as many as bring
    the number of rows nearest to the fraction. So neither the order of the file nor any seed
    decides, and all arms learn the same rows.

    Raises UsageError for a fraction that comes to all rows, to the rows of the fraction before, or
    to rows without one of the labels of the training rows.
    """
    sizes: dict[str, int] = {}
    for example in examples:
        key = task.group(example.uid, example.fields)
        sizes[key] = sizes.get(key, 0) + 1
    order = sorted(sizes, key=_digest)
    labels = {example.label for example in examples}
    subsets: list[Subset] = []
    for fraction in fractions:
        taken = set(order[: _nearest([sizes[key] for key in order], fraction * len(examples))])
        rows = [e for e in examples if task.group(e.uid, e.fields) in taken]
        where = f"--fractions: {fraction:g} of {len(examples)} rows comes to {len(rows)}"
        lacking = sorted(labels - {example.label for example in rows})
        if lacking:
            raise UsageError(f"{where}, none with label {lacking[0]!r}: use a larger fraction")
        if len(rows) == len(examples):
            raise UsageError(
                f"{where}, which is all of them: leave it out, since the curve ends with all rows"
            )
        if subsets and len(rows) == len(subsets[-1].uids):
            raise UsageError(
                f"{where}, as many as {subsets[-1].name}: the rows form {len(order)} groups that "
                "stay whole; use fractions that are further apart"
            )
        subsets.append(Subset(fraction, frozenset(example.uid for example in rows)))
    return subsets


def _digest(key: str) -> str:
    return hashlib.sha256(f"tutelage/fractions/{key}".encode()).hexdigest()


def _nearest(sizes: Sequence[int], wanted: float) -> int:
    """How many of the first sizes sum to what is nearest to `wanted`; the fewer of two equals."""
    total, best, gap = 0, 0, wanted
    for count, size in enumerate(sizes, 1):
        total += size
        if abs(total - wanted) < gap:
            best, gap = count, abs(total - wanted)
    return best


def check_rationales(
    subsets: Sequence[Subset], rationales: Mapping[str, Sequence[Rationale]]
) -> None:
    """Raises UsageError for a subset in which an arm has no usable rationale.

    rationales: arm -> what it learns, for each arm with a strategy
    """
    for subset in subsets:
        for arm, rows in rationales.items():
            if not any(row.status == "ok" and row.uid in subset.uids for row in rows):
                raise UsageError(
                    f"--fractions: {subset.name} comes to {len(subset.uids)} rows, and arm {arm!r} "
                    "has a usable rationale for none of them: use a larger fraction"
                )


def scaled(settings: TrainSettings, rows: int, all_rows: int) -> TrainSettings:
    """The settings for `rows` of `all_rows`: the same training, scaled down.

    The number of epochs stays, so that the steps follow from the rows. What is counted in steps
    (warm-up, the interval between evaluations on dev, a limit on steps) shrinks as an epoch's steps
    do. So each training is evaluated on dev about as often, and is as likely to pick a checkpoint
    that is good by chance.
    """
    share = math.ceil(rows / settings.batch_size) / math.ceil(all_rows / settings.batch_size)

    def shrunk(steps: int | None) -> int | None:
        return None if steps is None else max(1, round(share * steps))

    return settings.replace(
        warmup_steps=round(share * settings.warmup_steps),
        evaluate_every=shrunk(settings.evaluate_every),
        max_steps=shrunk(settings.max_steps),
    )


def subset_job(whole: TrainingJob, subset: Subset) -> TrainingJob:
    """The training `whole` (in RUN/arms/ARM/CONFIG/seed-N) on the rows of `subset` alone, in
    RUN/fractions/0.1/ARM/CONFIG/seed-N. A row keeps its target: controls are not built again, and
    the rationale of a row in a shuffled arm may come from a row outside the subset."""
    rows = [row for row in whole.training if row.uid in subset.uids]
    run, place = whole.folder.parents[3], whole.folder.parts[-3:]
    tracking = whole.tracking
    if tracking is not None:
        name = "/".join((tracking.project, "fractions", subset.name, *place))
        tracking = replace(tracking, run=name)
    return replace(
        whole,
        training=rows,
        settings=scaled(whole.settings, len(rows), len(whole.training)),
        folder=run.joinpath("fractions", subset.name, *place),
        tracking=tracking,
    )


Curve = Sequence[tuple[Subset, Mapping[str, SeedPredictions]]]
"""Predictions on dev of the students of each subset, by arm."""


def train_subsets(students: Students, choices: Choices, subsets: Sequence[Subset]) -> Curve:
    """Train what every replicate of every arm chose on each subset; predictions on dev.

    Where there is no student, because trainings diverged, the most frequent label of the subset's
    rows answers.
    """
    if not subsets:
        return []
    students.observer.stage("Training: what each seed chose, on fractions of the rows")
    recipe, splits = students.recipe, students.splits
    plan = [
        (subset, seed, arm, choices[arm.name][seed])
        for subset in subsets
        for seed in recipe.replicates
        for arm in recipe.arms
    ]
    jobs = [
        None if config is None else subset_job(students.job(arm, config, seed), subset)
        for subset, seed, arm, config in plan
    ]
    results = iter(students.run([job for job in jobs if job is not None]))
    dev: dict[Subset, dict[str, dict[int, Sequence[Prediction]]]] = {}
    for (subset, seed, arm, _), job in zip(plan, jobs, strict=True):
        if job is not None and next(results).has_checkpoint:
            rows = read_predictions(job.folder / "dev.jsonl")
        else:
            known = [example for example in splits.train if example.uid in subset.uids]
            rows = majority_predictions(known, splits.dev, students.task)
        dev.setdefault(subset, {}).setdefault(arm.name, {})[seed] = rows
    return list(dev.items())


def describe_curve(
    curve: Curve,
    runs: Sequence[ArmRun],
    annotations: Mapping[str, Annotation],
    recipe: Recipe,
    splits: Splits,
) -> tuple[CurvePoint, ...] | None:
    """`Results.learning_curve`: a point for each subset, then one for all rows; None without
    subsets."""
    if not curve:
        return None
    task = recipe.resolved_task()
    groups = splits.groups(splits.dev, task)
    treated = treatment_arms(recipe.arms)
    pairs = [(arm.name, recipe.baseline.name) for arm in treated]
    costs = [_coster(recipe, arm, annotations[arm.name], splits) for arm in treated]
    whole = Subset(1.0, frozenset(e.uid for e in splits.train))
    points = []
    for subset, dev in [*curve, (whole, {run.arm.name: run.dev for run in runs})]:
        evaluated = {
            name: evaluate(by_seed, task, groups, balanced=recipe.balanced)
            for name, by_seed in dev.items()
        }
        points.append(
            CurvePoint(
                fraction=subset.fraction,
                rows=len(subset.uids),
                dev_rows=len(splits.dev),
                arms=tuple(
                    CurveArm(
                        name=run.arm.name,
                        control=run.arm.control,
                        with_rationale=sum(
                            row.status == "ok" and row.uid in subset.uids
                            for row in run.rationales or ()
                        ),
                        dev_accuracy=evaluated[run.arm.name].accuracy,
                        ci95=evaluated[run.arm.name].ci95,
                        by_seed=evaluated[run.arm.name].accuracy_by_seed,
                    )
                    for run in runs
                ),
                differences=tuple(
                    CurveDifference(c.arm, c.baseline, c.difference, c.ci95, c.test)
                    for c in compare(dev, pairs, task, groups, balanced=recipe.balanced)
                ),
                annotation=tuple(cost(subset.uids) for cost in costs),
            )
        )
    return tuple(points)


def _coster(
    recipe: Recipe, arm: ArmSection, annotation: Annotation, splits: Splits
) -> Callable[[frozenset[str]], CurveAnnotation]:
    """A function from uids to what annotating these rows took, each distinct request once.

    The first row of a request carries the cost of its answer (see `annotate`), and that row may lie
    outside of a subset that makes the request too: so costs are counted by request, not by row.
    """
    task, strategy = recipe.resolved_task(), strategy_of(recipe, arm, splits.train)
    if not annotation.requests + annotation.cached:  # looked up, or in the data: no requests
        return lambda uids: _total(arm.name, [])
    request_of = {e.uid: strategy.render(e, task) for e in splits.train}
    answers: dict[Any, list[Rationale]] = {}
    for row in annotation.rationales:
        answers.setdefault(request_of[row.uid], []).append(row)
    return lambda uids: _total(arm.name, [answers[key] for key in {request_of[u] for u in uids}])


def _total(arm: str, requests: Sequence[Sequence[Rationale]]) -> CurveAnnotation:
    """Sums over requests, each given by the rows that share its answer; None where an answer has no
    price, or no token counts. A request without any answer counts as a request alone."""
    rows = [r for rows in requests for r in rows if r.status != "failed" or r.usage != Usage()]
    costs = [row.cost_usd for row in rows]
    return CurveAnnotation(
        arm=arm,
        requests=len(requests),
        cost_usd=None if None in costs else math.fsum(cost or 0.0 for cost in costs),
        tokens=TokenCounts(
            prompt=total_or_none([row.usage.prompt_tokens for row in rows]),
            completion=total_or_none([row.usage.completion_tokens for row in rows]),
        ),
    )
