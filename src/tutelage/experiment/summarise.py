"""results.json: from predictions to the document that the table and the report are made of.

Everything in `arms` and `comparisons` is a function of data, recipe and seeds: no times, no dates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.config.recipe import Families, Recipe
from tutelage.config.sections import ArmSection
from tutelage.config.training_settings import Config
from tutelage.core.storage import as_json
from tutelage.core.task import Task
from tutelage.core.types import RATIONALE_STATUSES, Prediction, Rationale
from tutelage.evaluation.bootstrap import macro_f1_interval
from tutelage.evaluation.compare import MARGIN, compare
from tutelage.evaluation.majority import majority_predictions
from tutelage.evaluation.metrics import evaluate
from tutelage.experiment.prepare import Splits
from tutelage.student.training.result import TrainResult
from tutelage.teacher.annotate import Annotation

SeedPredictions = Mapping[int, Sequence[Prediction]]


@dataclass(frozen=True)
class ArmOutcome:
    """What came of one arm.

    tried:       every trained (configuration, seed) of the search, in order
    chosen:      the configuration that dev chose
    by_seed:     its training results
    """

    arm: ArmSection
    tried: Sequence[tuple[Config, int, TrainResult]]
    chosen: Config
    by_seed: Mapping[int, TrainResult]
    rationales: Sequence[Rationale] | None
    dev: SeedPredictions
    test: SeedPredictions


def describe_arms(
    outcomes: Sequence[ArmOutcome], splits: Splits, task: Task
) -> list[dict[str, Any]]:
    """`arms` of results.json."""
    groups = {e.uid: task.group(e.uid, e.fields) for e in (*splits.dev, *splits.test)}
    return [_describe_arm(outcome, splits, task, groups) for outcome in outcomes]


def _describe_arm(
    outcome: ArmOutcome, splits: Splits, task: Task, groups: Mapping[str, str]
) -> dict[str, Any]:
    arm = outcome.arm
    statuses = Counter(r.status for r in outcome.rationales or ())
    results = [outcome.by_seed[seed] for seed in sorted(outcome.by_seed)]
    unseen = splits.overlap.unseen_test
    has_seen = 0 < len(unseen) < len(splits.test)
    dev = evaluate(outcome.dev, task, groups)
    return {
        "name": arm.name,
        "strategy": arm.strategy,
        "objective": arm.effective_objective,
        "control": arm.control,
        "omits": list(arm.omits),
        "config": as_json(outcome.chosen),
        "configs_tried": len({config for config, _, _ in outcome.tried}),
        "grid": [
            {"config": as_json(config), "seed": seed, "dev_accuracy": result.dev_accuracy}
            for config, seed, result in outcome.tried
        ],
        "seeds": sorted(outcome.by_seed),
        "training": {
            "rows": len(splits.train),
            "with_rationale": statuses["ok"] if arm.strategy else 0,
            "statuses": {s: statuses[s] for s in RATIONALE_STATUSES} if arm.strategy else None,
            "truncated_sources": results[0].truncated_sources,
            "truncated_targets": results[0].truncated_targets,
            "source_tokens_cut": results[0].source_tokens_cut,
            "target_tokens_cut": results[0].target_tokens_cut,
            "sources_cut_beyond": results[0].sources_cut_beyond,
            "steps_by_seed": [r.steps for r in results],
            "best_step_by_seed": [r.best_step for r in results],
        },
        "dev": {
            "n": dev.n,
            "accuracy": dev.accuracy,
            "accuracy_by_seed": list(dev.accuracy_by_seed),
            "truncated": dev.truncated,
            **_cut(outcome.dev),
        },
        "test": _evaluated(outcome.test, task, groups),
        "test_unseen": _evaluated(_only(outcome.test, unseen), task, groups) if has_seen else None,
    }


def _evaluated(by_seed: SeedPredictions, task: Task, groups: Mapping[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = as_json(evaluate(by_seed, task, groups))
    macro_f1 = macro_f1_interval(by_seed, task, groups)
    document |= {"macro_f1_ci95": macro_f1.ci95, "macro_f1_ci_method": macro_f1.method}
    return document | _cut(by_seed)


def _cut(by_seed: SeedPredictions) -> dict[str, int]:
    """What inputs lost: the tokens, and the rows that lost more than the field that is cut first.

    All seeds of an arm read the same inputs with one tokenizer: any of them says it.
    """
    rows = by_seed[min(by_seed)]
    return {
        "tokens_cut": sum(p.cut_tokens for p in rows),
        "cut_beyond": sum(p.cut_beyond > 0 for p in rows),
    }


def _only(by_seed: SeedPredictions, uids: frozenset[str]) -> dict[int, list[Prediction]]:
    return {seed: [p for p in rows if p.uid in uids] for seed, rows in by_seed.items()}


def describe_comparisons(
    outcomes: Sequence[ArmOutcome],
    families: Families,
    splits: Splits,
    task: Task,
    *,
    unseen_only: bool = False,
    margin: float = MARGIN,
) -> list[dict[str, Any]]:
    """`comparisons` of results.json, the primary ones first: over the test rows, or over those of
    them whose context train does not have (nothing, where that is all of them or none). Each family
    has a correction of its own. margin: of equivalence, a fraction."""
    groups = {e.uid: task.group(e.uid, e.fields) for e in splits.test}
    unseen = splits.overlap.unseen_test
    if unseen_only and not 0 < len(unseen) < len(splits.test):
        return []
    predictions = {o.arm.name: _only(o.test, unseen) if unseen_only else o.test for o in outcomes}
    return [
        as_json(comparison) | {"primary": primary}
        for primary, pairs in ((True, families.primary), (False, families.secondary))
        for comparison in compare(predictions, pairs, task, groups, margin)
    ]


MAJORITY = "majority class"
"""The commonest label as a baseline; no arm's name has a space."""


def describe_context_comparisons(
    outcomes: Sequence[ArmOutcome],
    splits: Splits,
    task: Task,
    *,
    majority: bool,
    margin: float = MARGIN,
) -> list[dict[str, Any]]:
    """`context_comparisons` of results.json: what the arms are worth beyond an easy answer.

    Labels alone and each rationale arm, over the test rows, minus each student that omits fields
    (`kind` omits) and, if `majority`, minus the training rows' commonest label (`kind` majority).
    They belong to no family: each is made alone, and its p_adjusted is its p_value.
    """
    groups = {e.uid: task.group(e.uid, e.fields) for e in splits.test}
    predictions: dict[str, SeedPredictions] = {o.arm.name: o.test for o in outcomes}
    baselines = [(o.arm.name, "omits") for o in outcomes if o.arm.omits]
    if majority:
        answers = majority_predictions(splits.train, splits.test, task)
        predictions[MAJORITY] = dict.fromkeys(outcomes[0].test, answers)
        baselines.append((MAJORITY, "majority"))
    arms = [o.arm.name for o in outcomes if o.arm.control is None and not o.arm.omits]
    return [
        as_json(compare(predictions, [(arm, baseline)], task, groups, margin)[0]) | {"kind": kind}
        for baseline, kind in baselines
        for arm in arms
    ]


def describe_rows(splits: Splits, task: Task) -> list[dict[str, Any]]:
    """rows.jsonl: the test rows, so that the report can show what was read. `group` is the uid of
    the first row of the unit that a row belongs to."""
    first: dict[str, str] = {}
    return [
        as_json(e) | {"group": first.setdefault(task.group(e.uid, e.fields), e.uid)}
        for e in splits.test
    ]


def describe_data(splits: Splits) -> dict[str, Any]:
    """`data` of results.json."""
    rows = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    train = splits.sources["train"]
    described: dict[str, Any] = {
        name: {
            "rows": len(rows[name]),
            "source": source.source
            + (" (held out)" if name != "train" and source is train else ""),
            "unlabelled": source.unlabelled,
            "sha256": source.sha256,
        }
        for name, source in splits.sources.items()
    }
    described["shared_contexts"] = {
        "dev": splits.overlap.dev_rows,
        "test": splits.overlap.test_rows,
    }
    described["dropped_overlap"] = splits.dropped
    described["warnings"] = warnings(splits)
    return described


def warnings(splits: Splits) -> list[str]:
    """What somebody who reads the numbers should know of the rows."""
    lines = []
    for name, source in splits.sources.items():
        if source.unlabelled and (name == "train" or source is not splits.sources["train"]):
            lines.append(f"{name}: {source.unlabelled} rows carry no label and were left out")
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
) -> dict[str, Any]:
    """What choosing the best model of each arm on the test set would have claimed.

    accuracies: arm -> test accuracy of every model it trained, whatever dev thought of it. A claim
    for each primary comparison.
    """
    best = {arm: max(values) for arm, values in accuracies.items()}
    return {
        "by_arm": {
            arm: {"best_accuracy": best[arm], "models_tried": len(values)}
            for arm, values in accuracies.items()
        },
        "claims": [
            {"arm": arm, "baseline": baseline, "difference": best[arm] - best[baseline]}
            for arm, baseline in recipe.comparisons().primary
        ],
    }


def describe_teacher(recipe: Recipe, annotations: Mapping[str, Annotation]) -> dict[str, Any]:
    """`teacher` of results.json: the rationales. Arms of one question share their answers, and are
    counted once; what the teacher cost as a baseline is in `baselines.teacher`.

    `cost_usd` is what the answers cost, whenever they were asked; null where some have no price.
    In `by_arm` it is that of the arm's answers: `shares_with` names the first arm of the same
    question, whose cost it is, and is null for that arm itself.
    """
    by_arm: dict[str, Any] = {}
    distinct: dict[tuple[Any, ...], Annotation] = {}
    first: dict[tuple[Any, ...], str] = {}
    for arm in recipe.arms:
        if arm.strategy is None:
            continue
        annotation = annotations[arm.name]
        distinct[arm.annotation_key] = annotation
        asked_by = first.setdefault(arm.annotation_key, arm.name)
        teacher = recipe.teacher_of(arm)
        by_arm[arm.name] = {
            "model": None if arm.strategy == "human" or teacher is None else teacher.model,
            "statuses": annotation.counts,
            "requests": annotation.requests,
            "cached": annotation.cached,
            "cost_usd": annotation.summary.cost_usd,
            "shares_with": None if asked_by == arm.name else asked_by,
        }
    tokens = [annotation.tokens for annotation in distinct.values()]
    costs = [annotation.summary.cost_usd for annotation in distinct.values()]
    return {
        "requests": sum(a.requests for a in distinct.values()),
        "cached": sum(a.cached for a in distinct.values()),
        "tokens": {
            "prompt": total_or_none([t.prompt_tokens for t in tokens]),
            "completion": total_or_none([t.completion_tokens for t in tokens]),
        },
        "cost_usd": None if None in costs else sum(cost or 0.0 for cost in costs),
        "by_arm": by_arm,
    }


def training_seconds(outcomes: Sequence[ArmOutcome]) -> dict[str, float]:
    """`training_seconds` of results.json: each arm's trainings, in the search and on all seeds.

    Seconds of work, added up: some ran beside each other. The search's seeds are among the others
    as a rule; a training that both name is counted once.
    """
    seconds = {}
    for outcome in outcomes:
        trained = {(config, seed): result for config, seed, result in outcome.tried}
        trained |= {(outcome.chosen, seed): result for seed, result in outcome.by_seed.items()}
        seconds[outcome.arm.name] = round(sum(result.seconds for result in trained.values()), 1)
    return seconds


def total_or_none(counts: Sequence[int | None]) -> int | None:
    """The sum; None where one of them is not known."""
    return None if None in counts else sum(count or 0 for count in counts)
