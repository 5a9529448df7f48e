"""Summarises predictions, trainings and answers as the parts of `Results` (results.json).

`arms` and `comparisons` are functions of data, recipe and seeds alone: they hold no times or dates.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tutelage.config.recipe import Families, Recipe
from tutelage.config.sections import ArmSection
from tutelage.config.training_settings import Config
from tutelage.core.results import (
    ArmAnnotation,
    ArmResult,
    BestOnTest,
    ChoosingOnTest,
    ClaimOnTest,
    ComparisonResult,
    Configuration,
    ContextComparison,
    DataSummary,
    DevEvaluation,
    SharedContexts,
    SplitSummary,
    TeacherSummary,
    TestEvaluation,
    TokenCounts,
    TrainingSummary,
    TriedConfiguration,
)
from tutelage.core.storage import as_json
from tutelage.core.task import Task
from tutelage.core.types import RATIONALE_STATUSES, Prediction, Rationale
from tutelage.data.load import Examples
from tutelage.evaluation.bootstrap import macro_f1_interval
from tutelage.evaluation.compare import MARGIN, compare
from tutelage.evaluation.majority import majority_predictions
from tutelage.evaluation.metrics import evaluate
from tutelage.experiment.prepare import Splits
from tutelage.student.training.result import TrainResult
from tutelage.teacher.annotate import Annotation

SeedPredictions = Mapping[int, Sequence[Prediction]]


T = TypeVar("T")


@dataclass(frozen=True)
class ArmRun:
    """The trainings, rationales and predictions of one arm.

    tried:      every trained (configuration, seed) of the search, in order
    chosen:     the configuration that dev chose
    by_seed:    its training results, by seed
    rationales: that the arm learns; None for an arm that learns labels alone
    dev, test:  predictions of the chosen configuration, by seed
    """

    arm: ArmSection
    tried: Sequence[tuple[Config, int, TrainResult]]
    chosen: Config
    by_seed: Mapping[int, TrainResult]
    rationales: Sequence[Rationale] | None
    dev: SeedPredictions
    test: SeedPredictions


def extended(kind: type[T], base: Any, /, **more: Any) -> T:
    """An object of the dataclass `kind` with the fields of `base`, which it extends, and `more`."""
    values = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    return kind(**values, **more)


def describe_arms(runs: Sequence[ArmRun], splits: Splits, task: Task) -> tuple[ArmResult, ...]:
    """`Results.arms`, in the order of `runs`."""
    groups = {e.uid: task.group(e.uid, e.fields) for e in (*splits.dev, *splits.test)}
    return tuple(_describe_arm(run, splits, task, groups) for run in runs)


def _describe_arm(run: ArmRun, splits: Splits, task: Task, groups: Mapping[str, str]) -> ArmResult:
    arm = run.arm
    statuses = Counter(r.status for r in run.rationales or ())
    results = [run.by_seed[seed] for seed in sorted(run.by_seed)]
    unseen = splits.overlap.unseen_test
    has_seen = 0 < len(unseen) < len(splits.test)
    dev = evaluate(run.dev, task, groups)
    return ArmResult(
        name=arm.name,
        strategy=arm.strategy,
        objective=arm.effective_objective,
        control=arm.control,
        omits=tuple(arm.omits),
        config=_configuration(run.chosen),
        configs_tried=len({config for config, _, _ in run.tried}),
        grid=tuple(
            TriedConfiguration(_configuration(config), seed, result.dev_accuracy)
            for config, seed, result in run.tried
        ),
        seeds=tuple(sorted(run.by_seed)),
        training=TrainingSummary(
            rows=len(splits.train),
            with_rationale=statuses["ok"] if arm.strategy else 0,
            statuses={s: statuses[s] for s in RATIONALE_STATUSES} if arm.strategy else None,
            truncated_sources=results[0].truncated_sources,
            truncated_targets=results[0].truncated_targets,
            source_tokens_cut=results[0].source_tokens_cut,
            target_tokens_cut=results[0].target_tokens_cut,
            sources_cut_beyond=results[0].sources_cut_beyond,
            steps_by_seed=tuple(r.steps for r in results),
            best_step_by_seed=tuple(r.best_step for r in results),
        ),
        dev=DevEvaluation(
            n=dev.n,
            accuracy=dev.accuracy,
            accuracy_by_seed=dev.accuracy_by_seed,
            truncated=dev.truncated,
            **_cut(run.dev),
        ),
        test=_evaluated(run.test, task, groups),
        test_unseen=_evaluated(_only(run.test, unseen), task, groups) if has_seen else None,
    )


def _configuration(config: Config) -> Configuration:
    return Configuration(config.learning_rate, config.label_weight)


def _evaluated(by_seed: SeedPredictions, task: Task, groups: Mapping[str, str]) -> TestEvaluation:
    macro_f1 = macro_f1_interval(by_seed, task, groups)
    return extended(
        TestEvaluation,
        evaluate(by_seed, task, groups),
        macro_f1_ci95=macro_f1.ci95,
        macro_f1_ci_method=macro_f1.method,
        **_cut(by_seed),
    )


def _cut(by_seed: SeedPredictions) -> dict[str, int]:
    """What inputs lost: tokens, and rows that lost more than the field that is cut first.

    All seeds of an arm have the same inputs and one tokenizer, so any seed says it.
    """
    rows = by_seed[min(by_seed)]
    return {
        "tokens_cut": sum(p.cut_tokens for p in rows),
        "cut_beyond": sum(p.cut_beyond > 0 for p in rows),
    }


def _only(by_seed: SeedPredictions, uids: frozenset[str]) -> dict[int, list[Prediction]]:
    return {seed: [p for p in rows if p.uid in uids] for seed, rows in by_seed.items()}


def describe_comparisons(
    runs: Sequence[ArmRun],
    families: Families,
    splits: Splits,
    task: Task,
    *,
    unseen_only: bool = False,
    margin: float = MARGIN,
) -> tuple[ComparisonResult, ...]:
    """`Results.comparisons`, the primary family first; each family is corrected by itself.

    unseen_only: use only the test rows whose context no training row has; nothing is compared where
                 that is all of them or none
    margin:      of equivalence, a fraction
    """
    groups = {e.uid: task.group(e.uid, e.fields) for e in splits.test}
    unseen = splits.overlap.unseen_test
    if unseen_only and not 0 < len(unseen) < len(splits.test):
        return ()
    predictions = {r.arm.name: _only(r.test, unseen) if unseen_only else r.test for r in runs}
    return tuple(
        extended(ComparisonResult, comparison, primary=primary)
        for primary, pairs in ((True, families.primary), (False, families.secondary))
        for comparison in compare(predictions, pairs, task, groups, margin)
    )


MAJORITY = "majority class"
"""The most frequent label as a baseline; no arm can have this name, since it holds a space."""


def describe_context_comparisons(
    runs: Sequence[ArmRun],
    splits: Splits,
    task: Task,
    *,
    majority: bool,
    margin: float = MARGIN,
) -> tuple[ContextComparison, ...]:
    """`Results.context_comparisons`: the arms compared with what is easy to predict.

    Labels alone and each treatment arm, over the test rows, minus each student that omits fields
    (kind `omits`) and, if `majority`, minus the most frequent training label (kind `majority`).
    They belong to no family: each is made by itself, and its p_adjusted is its p_value.
    """
    groups = {e.uid: task.group(e.uid, e.fields) for e in splits.test}
    predictions: dict[str, SeedPredictions] = {r.arm.name: r.test for r in runs}
    baselines = [(r.arm.name, "omits") for r in runs if r.arm.omits]
    if majority:
        answers = majority_predictions(splits.train, splits.test, task)
        predictions[MAJORITY] = dict.fromkeys(runs[0].test, answers)
        baselines.append((MAJORITY, "majority"))
    arms = [r.arm.name for r in runs if r.arm.control is None and not r.arm.omits]
    return tuple(
        extended(
            ContextComparison,
            compare(predictions, [(arm, baseline)], task, groups, margin)[0],
            kind=kind,
        )
        for baseline, kind in baselines
        for arm in arms
    )


def describe_rows(splits: Splits, task: Task) -> list[dict[str, Any]]:
    """The content of rows.jsonl: the test rows, for the report to show. `group` is the uid of the
    first row of the unit that a row belongs to."""
    first: dict[str, str] = {}
    return [
        as_json(e) | {"group": first.setdefault(task.group(e.uid, e.fields), e.uid)}
        for e in splits.test
    ]


def describe_data(splits: Splits) -> DataSummary:
    """`Results.data`."""
    train = splits.sources["train"]

    def split(name: str, rows: int) -> SplitSummary:
        source: Examples = splits.sources[name]
        held_out = " (held out)" if name != "train" and source is train else ""
        return SplitSummary(rows, source.source + held_out, source.unlabelled, source.sha256)

    return DataSummary(
        train=split("train", len(splits.train)),
        dev=split("dev", len(splits.dev)),
        test=split("test", len(splits.test)),
        shared_contexts=SharedContexts(splits.overlap.dev_rows, splits.overlap.test_rows),
        dropped_overlap=splits.dropped,
        warnings=tuple(warnings(splits)),
    )


def warnings(splits: Splits) -> list[str]:
    """What a reader of the numbers should know about the rows, in sentences."""
    lines = []
    for name, source in splits.sources.items():
        if source.unlabelled and (name == "train" or source is not splits.sources["train"]):
            lines.append(f"{name}: {source.unlabelled} rows have no label and were left out")
    if splits.dropped:
        lines.append(f"train: {splits.dropped} rows were dropped because dev or test has them too")
    for name, count, total in (
        ("dev", splits.overlap.dev_rows, len(splits.dev)),
        ("test", splits.overlap.test_rows, len(splits.test)),
    ):
        if count:
            lines.append(f"{name}: {count} of {total} rows share a context with train")
    return lines


def describe_choosing_on_test(
    accuracies: Mapping[str, Sequence[float]], recipe: Recipe
) -> ChoosingOnTest:
    """`Results.choosing_on_test`: what choosing each arm's best model on the test set would have
    claimed, for each primary comparison.

    accuracies: arm -> test accuracy of every model it trained, chosen by dev or not
    """
    best = {arm: max(values) for arm, values in accuracies.items()}
    return ChoosingOnTest(
        by_arm={arm: BestOnTest(best[arm], len(values)) for arm, values in accuracies.items()},
        claims=tuple(
            ClaimOnTest(arm, baseline, best[arm] - best[baseline])
            for arm, baseline in recipe.comparisons().primary
        ),
    )


def describe_teacher(recipe: Recipe, annotations: Mapping[str, Annotation]) -> TeacherSummary:
    """`Results.teacher`: the rationales. Arms with the same requests share their answers, which are
    counted once; what the teacher cost as a baseline is in `Baselines.teacher`."""
    by_arm: dict[str, ArmAnnotation] = {}
    distinct: dict[tuple[Any, ...], Annotation] = {}
    first: dict[tuple[Any, ...], str] = {}
    for arm in recipe.arms:
        if arm.strategy is None:
            continue
        annotation = annotations[arm.name]
        distinct[arm.annotation_key] = annotation
        owner = first.setdefault(arm.annotation_key, arm.name)
        teacher = recipe.teacher_of(arm)
        by_arm[arm.name] = ArmAnnotation(
            model=teacher.model if arm.asks_teacher and teacher is not None else None,
            statuses=dict(annotation.counts),
            requests=annotation.requests,
            cached=annotation.cached,
            cost_usd=annotation.summary.cost_usd,
            shares_with=None if owner == arm.name else owner,
        )
    tokens = [annotation.tokens for annotation in distinct.values()]
    costs = [annotation.summary.cost_usd for annotation in distinct.values()]
    return TeacherSummary(
        requests=sum(a.requests for a in distinct.values()),
        cached=sum(a.cached for a in distinct.values()),
        tokens=TokenCounts(
            prompt=total_or_none([t.prompt_tokens for t in tokens]),
            completion=total_or_none([t.completion_tokens for t in tokens]),
        ),
        cost_usd=None if None in costs else sum(cost or 0.0 for cost in costs),
        by_arm=by_arm,
    )


def training_seconds(runs: Sequence[ArmRun]) -> dict[str, float]:
    """`Results.training_seconds`: each arm's trainings, in the search and on all seeds.

    Seconds of work, summed: some trainings ran at the same time. The search usually uses some of
    the same seeds; a training that belongs to both stages is counted once.
    """
    seconds = {}
    for run in runs:
        trained = {(config, seed): result for config, seed, result in run.tried}
        trained |= {(run.chosen, seed): result for seed, result in run.by_seed.items()}
        seconds[run.arm.name] = round(sum(result.seconds for result in trained.values()), 1)
    return seconds


def total_or_none(counts: Sequence[int | None]) -> int | None:
    """The sum; None where one of them is unknown."""
    return None if None in counts else sum(count or 0 for count in counts)
