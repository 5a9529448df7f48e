"""Summarises predictions, trainings and answers as the parts of `Results` (results.json).

`arms` and `comparisons` are functions of data, recipe and seeds alone: they hold no times or dates.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tutelage.config.arm_settings import ArmSection
from tutelage.config.comparisons import Families
from tutelage.config.recipe import Recipe
from tutelage.config.training_settings import Config
from tutelage.core.results import (
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
    TestEvaluation,
    TrainingSummary,
)
from tutelage.core.results import Trial as TrialResult
from tutelage.core.storage import as_json
from tutelage.core.task import Task
from tutelage.core.types import RATIONALE_STATUSES, Prediction, Rationale
from tutelage.data.load import Examples
from tutelage.evaluation.bootstrap import macro_f1_interval
from tutelage.evaluation.compare import MARGIN, compare
from tutelage.evaluation.majority import majority_predictions
from tutelage.evaluation.metrics import by_uid, correctness, evaluate
from tutelage.evaluation.variance import seeds_share
from tutelage.experiment.label_units import single_label
from tutelage.experiment.prepare import Splits
from tutelage.experiment.trainings import Replicate, Trial

SeedPredictions = Mapping[int, Sequence[Prediction]]


T = TypeVar("T")


@dataclass(frozen=True)
class ArmRun:
    """The trainings, rationales and predictions of one arm.

    trials:     of the searches of all its replicates
    replicates: by seed: what each chose, and trained afresh
    rationales: that the arm learns; None for an arm that learns labels alone
    dev, test:  predictions of the replicates' students, by seed
    rows:       training rows of the first seed; None: all of train
    """

    arm: ArmSection
    trials: Sequence[Trial]
    replicates: Mapping[int, Replicate]
    rationales: Sequence[Rationale] | None
    dev: SeedPredictions
    test: SeedPredictions
    rows: int | None = None


def extended(kind: type[T], base: Any, /, **more: Any) -> T:
    """An object of the dataclass `kind` with the fields of `base`, which it extends, and `more`."""
    values = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    return kind(**values, **more)


def describe_arms(
    runs: Sequence[ArmRun], splits: Splits, task: Task, recipe: Recipe, folder: Path
) -> tuple[ArmResult, ...]:
    """`Results.arms`, in the order of `runs`.

    folder: of the run
    """
    groups = splits.groups((*splits.dev, *splits.test), task)
    return tuple(_describe_arm(run, splits, task, groups, recipe, folder) for run in runs)


def _describe_arm(
    run: ArmRun,
    splits: Splits,
    task: Task,
    groups: Mapping[str, str],
    recipe: Recipe,
    folder: Path,
) -> ArmResult:
    arm = run.arm
    statuses = Counter(r.status for r in run.rationales or ())
    replicates = [run.replicates[seed] for seed in sorted(run.replicates)]
    results = [replicate.result for replicate in replicates]
    # All trainings of an arm have the same rows, so any of them says what was cut.
    any_result = next(r for r in (*results, *(t.result for t in run.trials)) if r is not None)
    unseen = splits.overlap.unseen_test
    has_seen = 0 < len(unseen) < len(splits.test)
    balanced = recipe.balanced
    dev = evaluate(run.dev, task, groups, balanced=balanced)
    return ArmResult(
        name=arm.name,
        strategy=arm.strategy,
        objective=arm.effective_objective,
        control=arm.control,
        omits=tuple(arm.omits),
        configurations=len(recipe.configs(arm)),
        trials=tuple(
            TrialResult(
                _configuration(trial.config),
                trial.seed,
                trial.dev_accuracy,
                trial.result.diverged_at,
            )
            for trial in run.trials
        ),
        seeds=tuple(replicate.seed for replicate in replicates),
        config_by_seed=tuple(
            None if each.config is None else _configuration(each.config) for each in replicates
        ),
        folder_by_seed=tuple(each.folder.relative_to(folder).as_posix() for each in replicates),
        training=TrainingSummary(
            rows=run.rows if run.rows is not None else len(splits.train),
            with_rationale=statuses["ok"] if arm.strategy else 0,
            statuses={s: statuses[s] for s in RATIONALE_STATUSES} if arm.strategy else None,
            truncated_sources=any_result.truncated_sources,
            truncated_targets=any_result.truncated_targets,
            source_tokens_cut=any_result.source_tokens_cut,
            target_tokens_cut=any_result.target_tokens_cut,
            sources_cut_beyond=any_result.sources_cut_beyond,
            steps_by_seed=tuple(0 if r is None else r.steps for r in results),
            best_step_by_seed=tuple(0 if r is None else r.best_step for r in results),
            diverged_at_by_seed=tuple(None if r is None else r.diverged_at for r in results),
        ),
        dev=DevEvaluation(
            n=dev.n,
            accuracy=dev.accuracy,
            accuracy_by_seed=dev.accuracy_by_seed,
            truncated=dev.truncated,
            **_cut(run.dev),
        ),
        test=_evaluated(run.test, task, groups, balanced),
        seeds_share=_seeds_share(run.test, task, groups, balanced),
        test_unseen=_evaluated(_only(run.test, unseen), task, groups, balanced)
        if has_seen
        else None,
        classifier=None if arm.classifier is None else arm.classifier.classifier,
        own_gold=run.rows if arm.gold is not None else None,
        learns_pool=arm.learns_pool,
        equal_epochs=arm.equal == "epochs",
    )


def _configuration(config: Config) -> Configuration:
    return Configuration(config.learning_rate, config.label_weight)


def _evaluated(
    by_seed: SeedPredictions, task: Task, groups: Mapping[str, str], balanced: bool
) -> TestEvaluation:
    macro_f1 = macro_f1_interval(by_seed, task, groups)
    return extended(
        TestEvaluation,
        evaluate(by_seed, task, groups, balanced=balanced),
        macro_f1_ci95=macro_f1.ci95,
        macro_f1_ci_method=macro_f1.method,
        **_cut(by_seed),
    )


def _seeds_share(
    by_seed: SeedPredictions, task: Task, groups: Mapping[str, str], balanced: bool
) -> float | None:
    tables = {seed: by_uid(rows, f"seed {seed}", task) for seed, rows in by_seed.items()}
    rows = next(iter(tables.values()))
    units, labels = [groups[uid] for uid in rows], [row.gold for row in rows.values()]
    return seeds_share(correctness(tables, list(rows)), units, labels if balanced else None)


def _cut(by_seed: SeedPredictions) -> dict[str, int]:
    """What inputs lost: tokens, and rows that lost more than the field that is cut first.

    All seeds of an arm have the same inputs and one tokenizer; only where the most frequent label
    answers in place of a student is nothing cut.
    """
    return {
        "tokens_cut": max(sum(p.cut_tokens for p in rows) for rows in by_seed.values()),
        "cut_beyond": max(sum(p.cut_beyond > 0 for p in rows) for rows in by_seed.values()),
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
    balanced: bool = False,
) -> tuple[ComparisonResult, ...]:
    """`Results.comparisons`, the primary family first; each family is corrected by itself.

    unseen_only: use only the test rows whose context no training row has; nothing is compared where
                 that is all of them or none, or `too_few_unseen` says why
    margin:      of equivalence, a fraction
    balanced:    whether differences are of balanced accuracy
    """
    groups = splits.groups(splits.test, task)
    unseen = splits.overlap.unseen_test
    if unseen_only and not 0 < len(unseen) < len(splits.test):
        return ()
    if unseen_only and balanced and too_few_unseen(splits, task) is not None:
        return ()
    predictions = {r.arm.name: _only(r.test, unseen) if unseen_only else r.test for r in runs}
    return tuple(
        extended(ComparisonResult, comparison, primary=primary)
        for primary, pairs in ((True, families.primary), (False, families.secondary))
        for comparison in compare(predictions, pairs, task, groups, margin, balanced=balanced)
    )


def too_few_unseen(splits: Splits, task: Task) -> str | None:
    """Why arms cannot be compared in balanced accuracy on the test rows whose context no training
    row has; None where they can, or there are none."""
    unseen = [row for row in splits.test if row.uid in splits.overlap.unseen_test]
    label = single_label(unseen, splits.groups(splits.test, task))
    if label is None or len(unseen) == len(splits.test):
        return None
    return (
        "test: arms are not compared on the rows that share no context with train: with the label "
        f"{label} they have a single row, or group of rows, and balanced accuracy needs two"
    )


MAJORITY = "majority class"
"""The most frequent label as a baseline; no arm can have this name, since it holds a space."""

BAG_OF_WORDS = "bag of words"
"""TF-IDF and logistic regression as a baseline; no arm can have this name either."""


def describe_context_comparisons(
    runs: Sequence[ArmRun],
    splits: Splits,
    task: Task,
    *,
    majority: bool,
    bag_of_words: SeedPredictions | None = None,
    margin: float = MARGIN,
    balanced: bool = False,
) -> tuple[ContextComparison, ...]:
    """`Results.context_comparisons`: the arms compared with what is easy to predict.

    Labels alone and each treatment arm, over the test rows, minus each student that omits fields
    (kind `omits`), minus each classifier (`classifier`), minus the most frequent training label if
    `majority` (`majority`), and minus the predictions of a bag of words, where there are any
    (`bag_of_words`). The last two have no seeds: each seed of an arm is compared with the same
    answers.
    They belong to no family: each is made by itself, and its p_adjusted is its p_value.
    """
    groups = splits.groups(splits.test, task)
    predictions: dict[str, SeedPredictions] = {r.arm.name: r.test for r in runs}
    baselines = [(r.arm.name, "omits") for r in runs if r.arm.omits]
    baselines += [(r.arm.name, "classifier") for r in runs if r.arm.classifier]
    if majority:
        answers = majority_predictions(splits.train, splits.test, task)
        predictions[MAJORITY] = dict.fromkeys(runs[0].test, answers)
        baselines.append((MAJORITY, "majority"))
    if bag_of_words:
        first = next(iter(bag_of_words.values()))
        shared = dict.fromkeys(runs[0].test, first)
        predictions[BAG_OF_WORDS] = shared if len(bag_of_words) == 1 else bag_of_words
        baselines.append((BAG_OF_WORDS, "bag_of_words"))
    arms = [r.arm.name for r in runs if r.arm.is_plain or (r.arm.strategy and not r.arm.control)]
    return tuple(
        extended(
            ContextComparison,
            compare(predictions, [(arm, baseline)], task, groups, margin, balanced=balanced)[0],
            kind=kind,
        )
        for baseline, kind in baselines
        for arm in arms
    )


def describe_rows(splits: Splits, task: Task) -> list[dict[str, Any]]:
    """The content of rows.jsonl: the test rows, for the report to show. `group` is the uid of the
    first row of the unit that a row belongs to."""
    first: dict[str, str] = {}
    groups = splits.groups(splits.test, task)
    return [as_json(e) | {"group": first.setdefault(groups[e.uid], e.uid)} for e in splits.test]


def describe_data(splits: Splits, recipe: Recipe) -> DataSummary:
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
        duplicates=splits.duplicates,
        warnings=tuple(warnings(splits, recipe)),
    )


def warnings(splits: Splits, recipe: Recipe) -> list[str]:
    """What a reader of the numbers should know about the rows, in sentences."""
    lines = []
    for name, source in splits.sources.items():
        if source.unlabelled and (name == "train" or source is not splits.sources["train"]):
            lines.append(f"{name}: {source.unlabelled} rows have no label and were left out")
    lines += splits.notes
    for name, count, total in (
        ("dev", splits.overlap.dev_rows, len(splits.dev)),
        ("test", splits.overlap.test_rows, len(splits.test)),
    ):
        if count:
            lines.append(f"{name}: {count} of {total} rows share a context with train")
    if recipe.balanced and (why := too_few_unseen(splits, recipe.resolved_task())) is not None:
        lines.append(why)
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


def training_seconds(runs: Sequence[ArmRun]) -> dict[str, float]:
    """`Results.training_seconds`: each arm's trainings, trials and replicates.

    Seconds of work, summed: some trainings ran at the same time.
    """
    seconds = {}
    for run in runs:
        results = [trial.result for trial in run.trials]
        results += [r.result for r in run.replicates.values() if r.result is not None]
        seconds[run.arm.name] = round(sum(result.seconds for result in results), 1)
    return seconds
