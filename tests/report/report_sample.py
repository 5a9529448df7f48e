"""A run's folder as `tutelage run` would leave it, scored and compared from simulated predictions.

python tests/report/report_sample.py FOLDER    writes it and its report, to look at
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.config.arm_settings import ArmSection
from tutelage.core.results import (
    ArmAnnotation,
    ArmResult,
    Baselines,
    BestOnTest,
    ChoosingOnTest,
    ClaimOnTest,
    ComparisonResult,
    Configuration,
    DataSummary,
    DevEvaluation,
    Evaluation,
    MajorityBaseline,
    ProtocolSummary,
    Results,
    SearchSummary,
    SharedContexts,
    SplitSummary,
    StudentSummary,
    TaskSummary,
    TeacherBaseline,
    TeacherLabelsBaseline,
    TeacherSummary,
    TestEvaluation,
    TokenCounts,
    TrainingSummary,
    Trial,
)
from tutelage.core.results.decode import decode
from tutelage.core.storage import as_json, write_json, write_jsonl
from tutelage.core.task import NLI
from tutelage.core.types import Example, Prediction
from tutelage.data.split import Overlap
from tutelage.evaluation.compare import compare
from tutelage.evaluation.metrics import evaluate
from tutelage.experiment.diagnostics import describe_diagnostics, describe_selection
from tutelage.experiment.prepare import Splits
from tutelage.experiment.replication import recommended_model
from tutelage.experiment.summarise import ArmRun, extended

Predictions = Mapping[str, Mapping[int, list[Prediction]]]

HOSTILE = "<script>alert('x')</script> \"quoted\" & $x_1$"
"""An arm's name that would show if anything were not escaped."""

LIFTS = {
    "labels": 0.0,
    "information-extraction": 0.006,
    "information-extraction-shuffled": 0.0,
    "informed-reasoning": 0.075,
    "informed-reasoning-shuffled": 0.01,
    HOSTILE: 0.08,
    "echo": 0.08,
}
"""Arm -> what it adds to the chance of a right answer."""

CONTROLS = {
    "information-extraction-shuffled": "information-extraction",
    "informed-reasoning-shuffled": "informed-reasoning",
    "echo": HOSTILE,
}


def sample_results(rows: int = 1000, seeds: int = 5, lifts: Mapping[str, float] = LIFTS) -> Results:
    """The results of simulated arms."""
    return results_of(sample_predictions(rows, seeds, lifts))


def as_document(results: Results) -> dict[str, Any]:
    """The content of results.json, for a test to change."""
    document: dict[str, Any] = json.loads(json.dumps(as_json(results)))
    return document


def from_document(document: Mapping[str, Any]) -> Results:
    """The results in the content of a results.json."""
    return decode(Results, document)


def sample_predictions(
    rows: int, seeds: int, lifts: Mapping[str, float] = LIFTS, first_seed: int = 7
) -> Predictions:
    """Of every arm and seed; the premises of three rows are equally hard."""
    rng = np.random.default_rng(first_seed)
    gold = [NLI.labels[i % 3] for i in range(rows)]
    chance = rng.beta(3, 2.4, rows // 3 + 1)[np.arange(rows) // 3]
    return {
        name: {
            seed: _predict(rng, gold, chance + lift + rng.normal(0, 0.008)) for seed in range(seeds)
        }
        for name, lift in lifts.items()
    }


def results_of(predictions: Predictions) -> Results:
    """The results of these predictions."""
    lifts = list(predictions)
    rows, seeds = len(predictions[lifts[0]][0]), len(predictions[lifts[0]])
    groups = {f"r{i}": f"premise {i // 3}" for i in range(rows)}
    pairs = [(name, "labels") for name in lifts if name != "labels" and name not in CONTROLS]
    pairs += [(arm, control) for control, arm in CONTROLS.items() if control in lifts]
    unseen = {
        name: {seed: made[rows // 3 :] for seed, made in by_seed.items()}
        for name, by_seed in predictions.items()
    }
    arms = [
        _arm(name, evaluate(predictions[name], NLI, groups), evaluate(unseen[name], NLI, groups))
        for name in lifts
    ]
    best = {arm.name: max(arm.test.accuracy_by_seed) + 0.006 for arm in arms}

    def split(count: int, lost: int) -> SplitSummary:
        return SplitSummary(count, f"synthetic:nli?n={count}", lost, "5f" * 32)

    def compared(made: Predictions) -> tuple[ComparisonResult, ...]:
        found = compare(made, pairs, NLI, groups)
        return tuple(extended(ComparisonResult, each, primary=True) for each in found)

    results = Results(
        name="sample",
        tutelage_version="0.1.0",
        finished=True,
        task=TaskSummary("nli", NLI.fields, NLI.labels, NLI.context),
        data=DataSummary(
            train=split(4000, 12),
            dev=split(600, 0),
            test=split(rows, 3),
            shared_contexts=SharedContexts(0, rows // 3),
            dropped_overlap=2,
            warnings=("333 test rows share a premise with training rows.",),
        ),
        teacher=TeacherSummary(
            requests=9310,
            cached=310,
            tokens=TokenCounts(1_204_331, None),
            cost_usd=1.37,
            by_arm={
                name: ArmAnnotation(
                    model="scripted",
                    statuses={"ok": 3950, "refused": 11, "truncated": 24, "empty": 15},
                    requests=4000,
                    cached=0,
                    cost_usd=0.41,
                    shares_with=CONTROLS.get(name),
                )
                for name in lifts
                if name != "labels"
            },
        ),
        student=StudentSummary(
            "scratch:t5-tiny", 431_232, {"epochs": 12, "batch_size": 64, "warmup_steps": 100}
        ),
        protocol=ProtocolSummary("full", ()),
        search=SearchSummary(
            2, 2, ("the search <b>anew</b>", "the training"), ("the training rows", "the shuffle")
        ),
        arms=tuple(arms),
        recommended=recommended_model(arms, compared(predictions)),
        comparisons=compared(predictions),
        comparisons_unseen=compared(unseen),
        context_comparisons=(),
        departures=(),
        choosing_on_test=ChoosingOnTest(
            by_arm={name: BestOnTest(value, 3 * seeds) for name, value in best.items()},
            claims=tuple(ClaimOnTest(a, b, best[a] - best[b]) for a, b in pairs),
        ),
        explanations=None,
        **_diagnostics(predictions, best),
        baselines=BASELINES,
        learning_curve=None,
        interim=None,
        other_answers=(),
        test_rows_also_used_by=(),
        training_seconds={},
        seconds=None,
    )
    # As it comes back from the file: diagnostics of numpy, say, would show here.
    assert from_document(as_document(results)) == results
    return results


def _diagnostics(predictions: Predictions, best: Mapping[str, float]) -> dict[str, Any]:
    """`diagnostics` and `selection` as a run makes them, for names that no recipe may take."""
    arms = [
        ArmSection.model_construct(
            name=name,
            strategy=None if name == "labels" else CONTROLS.get(name, name),
            control="shuffled" if name in CONTROLS else None,
        )
        for name in predictions
    ]
    runs = [ArmRun(arm, (), {}, None, {}, predictions[arm.name]) for arm in arms]
    examples = [
        Example(row["uid"], row["fields"], row["label"], tags=tuple(row["tags"]))
        for row in sample_rows(len(predictions["labels"][0]))
    ]
    splits = Splits([], [], examples, {}, Overlap(0, 0, frozenset()), 0)
    accuracies = {name: [value] * 13 for name, value in best.items()}
    return {
        "diagnostics": describe_diagnostics(runs, "labels", splits, NLI),
        "selection": describe_selection(accuracies, runs, "labels", splits, NLI),
    }


def _predict(rng: np.random.Generator, gold: list[str], chance: np.ndarray) -> list[Prediction]:
    right = rng.random(len(gold)) < chance
    other = rng.integers(1, 3, len(gold))
    predicted = [
        label if hit else NLI.labels[(NLI.labels.index(label) + int(shift)) % 3]
        for label, hit, shift in zip(gold, right, other, strict=True)
    ]
    return [
        Prediction(f"r{i}", label, _shares(label, sure), gold[i], truncated=i % 250 == 0)
        for i, (label, sure) in enumerate(zip(predicted, _confidence(rng, right), strict=True))
    ]


def _confidence(rng: np.random.Generator, right: np.ndarray) -> list[float]:
    """Higher where right, and too high on the whole: in eighths, so that shares are exact."""
    drawn: list[float] = (np.ceil(4 + 4 * rng.beta(np.where(right, 2.6, 1.4), 1.2)) / 8).tolist()
    return drawn


def _shares(label: str, sure: float) -> dict[str, float]:
    return {each: sure if each == label else (1 - sure) / 2 for each in NLI.labels}


def _arm(name: str, test: Evaluation, unseen: Evaluation) -> ArmResult:
    strategy = CONTROLS.get(name, name)
    with_rationales = name != "labels"
    config = Configuration(0.003, 0.5 if with_rationales else 1.0)

    def scored(found: Evaluation) -> TestEvaluation:
        return extended(
            TestEvaluation,
            found,
            macro_f1_ci95=None,
            macro_f1_ci_method="no interval: not computed",
            tokens_cut=0,
            cut_beyond=0,
        )

    return ArmResult(
        name=name,
        strategy=strategy.replace("-", "_") if with_rationales else None,
        objective="label_then_rationale" if with_rationales else "label",
        control="shuffled" if name in CONTROLS else None,
        omits=(),
        configurations=2,
        trials=tuple(
            Trial(Configuration(rate, config.label_weight), seed, test.accuracy - rate, None)
            for seed in test.seeds
            for rate in (0.003, 0.006)
        ),
        seeds=test.seeds,
        config_by_seed=tuple(config for _ in test.seeds),
        folder_by_seed=tuple(f"arms/{name}/lr-0.003_w-1/seed-{seed}" for seed in test.seeds),
        training=TrainingSummary(
            rows=4000,
            with_rationale=3950 if with_rationales else 0,
            statuses=None,
            truncated_sources=4,
            truncated_targets=0,
            source_tokens_cut=9,
            target_tokens_cut=0,
            sources_cut_beyond=0,
            steps_by_seed=tuple(744 for _ in test.seeds),
            best_step_by_seed=tuple(700 for _ in test.seeds),
            diverged_at_by_seed=tuple(None for _ in test.seeds),
        ),
        dev=DevEvaluation(600, test.accuracy, test.accuracy_by_seed, 0, 0, 0),
        test=scored(test),
        seeds_share=0.25,
        test_unseen=scored(unseen),
    )


BASELINES = Baselines(
    majority=MajorityBaseline("neutral", 1000, 0.334, (0.305, 0.364), "Wilson"),
    teacher_labels=(
        TeacherLabelsBaseline(
            arm="informed-reasoning",
            strategy="recorded",
            model="recorded:<b>file</b>#k",
            rows=4000,
            labelled=3950,
            accuracy=0.699,
            accuracy_of_all=0.69,
            ci95=(0.68, 0.717),
            ci_method="t-test",
        ),
    ),
    teacher=tuple(
        TeacherBaseline(
            model="openai:big|one",
            shots=shots,
            split="dev",
            rows=200,
            accuracy=0.71,
            ci95=(0.643, 0.769),
            ci_method="Wilson",
            unparsed=2 * (shots > 0),
            statuses={"ok": 200},
            unparsed_examples=(),
            per_label={},
            requests=199,
            cached=1,
            tokens=TokenCounts(31_000, 600),
            cost_usd=0.0131,
        )
        for shots in (0, 3)
    ),
    teacher_note=None,
)
"""What needs no student."""

NASTY = {
    "premise": "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'> "
    "\"double\" 'single' `back` & \u202eright to left\u202c \u0000 \U0001f642",
    "hypothesis": "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd " + "very long " * 500,
}
"""A row that would show if any text were read as markup, or any length took the page over."""


def sample_rows(rows: int) -> list[dict[str, Any]]:
    """The content of rows.jsonl; the second row is the nasty one."""
    return [
        {
            "uid": f"r{i}",
            "fields": NASTY
            if i == 1
            else {
                "premise": f"Text {i // 3}." + " And on." * (i // 3 % 7),
                "hypothesis": f"Hy {i}.",
            },
            "label": NLI.labels[i % 3],
            "reason": f"It is so because of {i}." if i % 4 == 0 else None,
            "tags": ["numbers"] * (i % 2) + ["<b>names</b>"] * (i % 5 == 0),
            "references": {},
            "group": f"r{3 * (i // 3)}",
        }
        for i in range(rows)
    ]


def write_folder(folder: Path, predictions: Predictions) -> Results:
    """A run's folder but for its report; returns its results."""
    results = replace(
        results_of(predictions), training_seconds=dict.fromkeys(predictions, 52.8), seconds=433.4
    )
    write_json(folder / "results.json", results)
    write_jsonl(folder / "rows.jsonl", sample_rows(results.data.test.rows))
    (folder / "recipe.yaml").write_text("name: sample # <i>a recipe</i>\n")
    write_json(folder / "manifest.json", MANIFEST)
    for name, by_seed in predictions.items():
        for seed, rows in by_seed.items():
            path = folder / "arms" / name / "lr-0.003_w-1" / f"seed-{seed}"
            write_jsonl(path / "test.jsonl", rows)
    why = [("refused", "I cannot help with <that>"), ("ok", ""), ("empty", "")]
    write_jsonl(
        folder / "rationales" / "informed-reasoning.jsonl",
        [
            {"uid": str(i), "status": status, "detail": detail}
            for i, (status, detail) in enumerate(why * 2 + why[:1])
        ],
    )
    return results


MANIFEST = {
    "name": "sample",
    "recipe_sha256": "ab" * 32,
    "started": "2026-01-02T03:04:05Z",
    "last_call": "2026-01-03T03:04:05Z",
    "data_sha256": {"train": "5f" * 32, "dev": "5e" * 32, "test": "5d" * 32},
    "versions": {"python": "3.11.7", "torch": None},
    "git_revision": "cd" * 20,
    "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
    "test_set_openings": [{"chosen": {}, "test_sha256": "5d" * 32, "time": "2026-01-03T01:00:00Z"}],
    "thresholds_on_test": [
        {"threshold": 0.8, "answer": {"point": {"accuracy": 0.831}, "student": 0.81}},
        {"threshold": 0.65, "answer": None},
    ],
}

if __name__ == "__main__":
    from tutelage.report.page import write_report

    write_folder(Path(sys.argv[1]), sample_predictions(600, 5))
    print(write_report(Path(sys.argv[1])))
