"""Learning curves: each arm's chosen configuration again, on nested fractions of the training rows.

What more rows are worth, beside what rationales are worth. Read on dev alone: the test set stays
closed, and the point of all rows is the dev accuracy of the students that the run has anyway.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tutelage.config.design_rules import rationale_arms
from tutelage.config.recipe import Recipe
from tutelage.config.sections import ArmSection
from tutelage.config.training_settings import Config, TrainSettings
from tutelage.core.errors import UsageError
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction, Rationale, Usage
from tutelage.evaluation.compare import compare
from tutelage.evaluation.metrics import evaluate
from tutelage.experiment.prepare import Splits
from tutelage.experiment.summarise import ArmOutcome, SeedPredictions, total_or_none
from tutelage.experiment.trainings import Students
from tutelage.strategies.registry import get_strategy
from tutelage.student.jobs.jobs import TrainingJob, read_predictions
from tutelage.teacher.annotate import Annotation


@dataclass(frozen=True, slots=True)
class Subset:
    """A fraction of the training rows.

    fraction: as it was asked for; whole groups come out near it
    uids:     of its rows
    """

    fraction: float
    uids: frozenset[str]

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.fraction:g}"


def parse_fractions(texts: Sequence[str]) -> tuple[float, ...]:
    """`["0.1,0.3", "0.5"]` -> (0.1, 0.3, 0.5). UsageError as in `check_fractions`."""
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

    UsageError for one that is not above 0 and at most 1, or given twice (folders are named by the
    first six digits).
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
        raise UsageError(f"--fractions: {twice[0]} is given twice, expected each once")
    return tuple(fraction for fraction in ordered if f"{fraction:g}" != "1")


def nested_subsets(
    examples: Sequence[Example], task: Task, fractions: Sequence[float]
) -> list[Subset]:
    """The rows of each fraction, each a part of the next.

    fractions: as `check_fractions` gives them

    Whole groups (`task.group`) are taken in the order of a digest of their keys, as many as bring
    the number of rows nearest to the fraction. So neither the order of the file nor any seed
    decides, and all arms learn the same rows.

    Raises UsageError for a fraction that comes to all rows, to those of the fraction before, or to
    rows that lack one of the labels of the training rows.
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
            raise UsageError(f"{where}, none of label {lacking[0]!r}: ask for a larger fraction")
        if len(rows) == len(examples):
            raise UsageError(f"{where}, which is all: leave it out, the curve ends with all rows")
        if subsets and len(rows) == len(subsets[-1].uids):
            raise UsageError(
                f"{where}, as many as {subsets[-1].name}: the rows form {len(order)} groups that "
                "stay whole; ask for fractions that lie farther apart"
            )
        subsets.append(Subset(fraction, frozenset(example.uid for example in rows)))
    return subsets


def _digest(key: str) -> str:
    return hashlib.sha256(f"tutelage/fractions/{key}".encode()).hexdigest()


def _nearest(sizes: Sequence[int], wanted: float) -> int:
    """How many of the first sizes add up to what is nearest to `wanted`; the fewer of equals."""
    total, best, gap = 0, 0, wanted
    for count, size in enumerate(sizes, 1):
        total += size
        if abs(total - wanted) < gap:
            best, gap = count, abs(total - wanted)
    return best


def check_rationales(
    subsets: Sequence[Subset], rationales: Mapping[str, Sequence[Rationale]]
) -> None:
    """UsageError for a subset in which an arm has not one usable rationale.

    rationales: what each arm with a strategy learns from
    """
    for subset in subsets:
        for arm, rows in rationales.items():
            if not any(row.status == "ok" and row.uid in subset.uids for row in rows):
                raise UsageError(
                    f"--fractions: {subset.name} comes to {len(subset.uids)} rows, and arm {arm!r} "
                    "has a usable rationale for none of them: ask for a larger fraction"
                )


def scaled(settings: TrainSettings, rows: int, all_rows: int) -> TrainSettings:
    """The settings for `rows` of `all_rows`: the same training in small.

    The epochs stay, so that steps follow from the rows; what is counted in steps (warm-up, the
    interval between readings of dev, a limit on steps) shrinks as an epoch's steps do. So each
    training reads dev about as often, and has as good a chance to pick a lucky checkpoint.
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
    RUN/fractions/0.1/ARM/CONFIG/seed-N. A row keeps its target: controls are not made anew, and
    what a row of a shuffled arm learns may come from a row outside."""
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
"""What the students of each subset said of dev, by arm."""


def train_subsets(
    students: Students, chosen: Mapping[str, Config], subsets: Sequence[Subset]
) -> Curve:
    """Train every arm's chosen configuration on each subset, with all seeds, and read dev."""
    if not subsets:
        return []
    students.observer.stage("Training: the chosen configurations on fractions of the rows")
    recipe = students.recipe
    plan = [
        (subset, seed, arm) for subset in subsets for seed in recipe.seeds for arm in recipe.arms
    ]
    jobs = [
        subset_job(students.job(arm, chosen[arm.name], seed), subset) for subset, seed, arm in plan
    ]
    students.run(jobs)
    read: dict[Subset, dict[str, dict[int, Sequence[Prediction]]]] = {}
    for (subset, seed, arm), job in zip(plan, jobs, strict=True):
        by_seed = read.setdefault(subset, {}).setdefault(arm.name, {})
        by_seed[seed] = read_predictions(job.folder / "dev.jsonl")
    return list(read.items())


def describe_curve(
    curve: Curve,
    outcomes: Sequence[ArmOutcome],
    annotations: Mapping[str, Annotation],
    recipe: Recipe,
    splits: Splits,
) -> list[dict[str, Any]] | None:
    """`learning_curve` of results.json: a point for each subset, and at the end one for all rows;
    None where there are no subsets."""
    if not curve:
        return None
    task = recipe.resolved_task()
    groups = {e.uid: task.group(e.uid, e.fields) for e in splits.dev}
    treated = rationale_arms(recipe.arms)
    pairs = [(arm.name, recipe.baseline.name) for arm in treated]
    costs = {arm.name: _coster(arm, annotations[arm.name], splits, task) for arm in treated}
    whole = Subset(1.0, frozenset(e.uid for e in splits.train))
    points = []
    for subset, dev in [*curve, (whole, {o.arm.name: o.dev for o in outcomes})]:
        evaluated = {name: evaluate(by_seed, task, groups) for name, by_seed in dev.items()}
        points.append(
            {
                "fraction": subset.fraction,
                "rows": len(subset.uids),
                "dev_rows": len(splits.dev),
                "arms": [
                    {
                        "name": o.arm.name,
                        "control": o.arm.control,
                        "with_rationale": sum(
                            row.status == "ok" and row.uid in subset.uids
                            for row in o.rationales or ()
                        ),
                        "dev_accuracy": evaluated[o.arm.name].accuracy,
                        "ci95": list(evaluated[o.arm.name].ci95),
                        "by_seed": list(evaluated[o.arm.name].accuracy_by_seed),
                    }
                    for o in outcomes
                ],
                "differences": [
                    {
                        "arm": found.arm,
                        "baseline": found.baseline,
                        "difference": found.difference,
                        "ci95": list(found.ci95),
                        "test": found.test,
                    }
                    for found in compare(dev, pairs, task, groups)
                ],
                "annotation": [
                    {"arm": arm.name, **costs[arm.name](subset.uids)} for arm in treated
                ],
            }
        )
    return points


def _coster(
    arm: ArmSection, annotation: Annotation, splits: Splits, task: Task
) -> Callable[[frozenset[str]], dict[str, Any]]:
    """A function from uids to what annotating these rows took: each distinct question once.

    A question's first row carries what its answer cost (see `annotate`), and that row may lie
    outside of a subset which asks the question too: so cost is told by question, not by row.
    """
    strategy = get_strategy(arm.strategy or "", template=arm.template, task=task)
    if not annotation.requests + annotation.cached:  # looked up, or in the data: nobody was asked
        return lambda uids: _took([])
    question_of = {e.uid: strategy.render(e, task) for e in splits.train}
    answers: dict[Any, list[Rationale]] = {}
    for row in annotation.rationales:
        answers.setdefault(question_of[row.uid], []).append(row)
    return lambda uids: _took([answers[key] for key in {question_of[uid] for uid in uids}])


def _took(questions: Sequence[Sequence[Rationale]]) -> dict[str, Any]:
    """Sums over questions, each given by the rows that share its answer; null where one answer has
    no price, or no count of its tokens. A question without any answer counts as a request alone."""
    rows = [r for rows in questions for r in rows if r.status != "failed" or r.usage != Usage()]
    costs = [row.cost_usd for row in rows]
    return {
        "requests": len(questions),
        "cost_usd": None if None in costs else math.fsum(cost or 0.0 for cost in costs),
        "tokens": {
            "prompt": total_or_none([row.usage.prompt_tokens for row in rows]),
            "completion": total_or_none([row.usage.completion_tokens for row in rows]),
        },
    }
