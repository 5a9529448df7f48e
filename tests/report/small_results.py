"""Small results, complete in every field, for tests that look at a few of them."""

from __future__ import annotations

from typing import Any

from tutelage.core.results import (
    ArmResult,
    Baselines,
    ComparisonResult,
    Configuration,
    DataSummary,
    DevEvaluation,
    ProtocolSummary,
    Results,
    SearchSummary,
    SharedContexts,
    SplitSummary,
    StudentSummary,
    TaskSummary,
    TeacherSummary,
    TestEvaluation,
    TokenCounts,
    TrainingSummary,
)
from tutelage.core.types import ControlName

LABELS = ("entailment", "neutral", "contradiction")


def comparison(
    arm: str,
    baseline: str,
    difference: float = 0.0,
    half: float = 0.01,
    p: float = 1.0,
    **more: Any,
) -> ComparisonResult:
    """A primary one; p is the adjusted p-value, half is half of the interval."""
    values = {
        "arm": arm,
        "baseline": baseline,
        "difference": difference,
        "ci95": (difference - half, difference + half),
        "p_value": p,
        "p_adjusted": p,
        "test": "a test",
        "minimum_detectable_difference": 0.042,
        "detectable_range": (0.041, 0.043),
        "n": 4912,
        "groups": more.get("n", 4912),
        "effective_groups": 4912.0,
        "few_groups": False,
        "seeds": 5,
        "family": 1,
        "standard_error": None,
        "degrees_of_freedom": None,
        "only_arm_right_by_seed": (),
        "only_baseline_right_by_seed": (),
        "mcnemar_p_by_seed": (),
        "equivalence_margin": 0.01,
        "equivalence_p_value": 1.0,
        "ci90": (difference - half, difference + half),
        "primary": True,
    }
    return ComparisonResult(**(values | more))


def arm(
    name: str,
    strategy: str | None = None,
    control: ControlName | None = None,
    *,
    omits: tuple[str, ...] = (),
    accuracy: float = 0.7,
    half: float = 0.05,
    n: int = 4912,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    confusion: tuple[tuple[int, ...], ...] = (),
) -> ArmResult:
    """An arm with this test accuracy, whose interval is `half` to both sides."""
    by_seed = tuple(accuracy for _ in seeds)
    test = TestEvaluation(
        n=n,
        seeds=seeds,
        accuracy=accuracy,
        accuracy_by_seed=by_seed,
        ci95=(accuracy - half, accuracy + half),
        ci_method="an interval",
        macro_f1=None,
        labels=LABELS,
        per_label={},
        confusion=confusion,
        truncated=0,
        macro_f1_ci95=None,
        macro_f1_ci_method="no interval",
        tokens_cut=0,
        cut_beyond=0,
    )
    return ArmResult(
        name=name,
        strategy=strategy,
        objective="label" if strategy is None else "label_then_rationale",
        control=control,
        omits=omits,
        configurations=1,
        trials=(),
        seeds=seeds,
        config_by_seed=tuple(Configuration(0.003, 0.5) for _ in seeds),
        folder_by_seed=tuple(f"arms/{name}/lr-0.003_w-0.5/seed-{seed}" for seed in seeds),
        training=TrainingSummary(
            90, 0, None, 0, 0, 0, 0, 0, (2,) * len(seeds), (1,) * len(seeds), (None,) * len(seeds)
        ),
        dev=DevEvaluation(30, accuracy, by_seed, 0, 0, 0),
        test=test,
        seeds_share=None,
        test_unseen=None,
    )


def results(**changes: Any) -> Results:
    """Those of a finished run without arms, comparisons or anything else that is optional."""
    split = SplitSummary(90, "rows.jsonl", 0, "5f" * 32)
    values: dict[str, Any] = {
        "name": "small",
        "tutelage_version": "0.1.0",
        "finished": True,
        "task": TaskSummary("nli", ("premise", "hypothesis"), LABELS, "premise"),
        "data": DataSummary(split, split, split, SharedContexts(0, 0), 0, ()),
        "teacher": TeacherSummary(0, 0, TokenCounts(0, 0), 0.0, {}),
        "student": StudentSummary("scratch:t5-tiny", 1000, {}),
        "protocol": ProtocolSummary("full", ()),
        "search": SearchSummary(1, 0, ("the training",), ("the training rows",)),
        "arms": (),
        "recommended": None,
        "comparisons": (),
        "comparisons_unseen": (),
        "context_comparisons": (),
        "departures": (),
        "choosing_on_test": None,
        "explanations": None,
        "diagnostics": {},
        "selection": None,
        "baselines": Baselines(None, (), (), None),
        "learning_curve": None,
        "interim": None,
        "other_answers": (),
        "test_rows_also_used_by": (),
        "training_seconds": {},
        "seconds": 1.0,
    }
    return Results(**(values | changes))
