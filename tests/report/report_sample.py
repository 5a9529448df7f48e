"""Results as `tutelage run` would write them, scored and compared from simulated predictions.

python tests/report/report_sample.py OUT.html    writes the page, to look at
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.evaluation.compare import compare
from tutelage.evaluation.metrics import evaluate
from tutelage.records import Prediction
from tutelage.runfolder import as_json
from tutelage.task import NLI

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


def sample_results(
    rows: int = 1000, seeds: int = 5, lifts: Mapping[str, float] = LIFTS
) -> dict[str, Any]:
    """The content of a results.json, as it comes back from JSON."""
    rng = np.random.default_rng(7)
    gold = [NLI.labels[i % 3] for i in range(rows)]
    groups = {f"r{i}": f"premise {i // 3}" for i in range(rows)}
    chance = rng.beta(3, 2.4, rows // 3 + 1)[np.arange(rows) // 3]
    predictions = {
        name: {
            seed: _predict(rng, gold, chance + lift + rng.normal(0, 0.008)) for seed in range(seeds)
        }
        for name, lift in lifts.items()
    }
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
    best = {arm["name"]: max(arm["test"].accuracy_by_seed) + 0.006 for arm in arms}
    results = {
        "name": "sample",
        "tutelage_version": "0.1.0",
        "finished": True,
        "task": {"name": "nli", "fields": NLI.fields, "labels": NLI.labels},
        "data": {
            split: {
                "rows": count,
                "source": f"synthetic:nli?n={count}",
                "unlabelled": lost,
                "sha256": "5f" * 32,
            }
            for split, count, lost in (("train", 4000, 12), ("dev", 600, 0), ("test", rows, 3))
        }
        | {
            "shared_contexts": {"dev": 0, "test": rows // 3},
            "dropped_overlap": 2,
            "warnings": ["333 test rows share a premise with training rows."],
        },
        "teacher": {
            "requests": 9310,
            "cached": 310,
            "tokens": {"prompt": 1_204_331, "completion": None},
            "cost_usd": 1.37,
            "by_arm": {
                name: {
                    "model": "scripted",
                    "statuses": {"ok": 3950, "refused": 11, "truncated": 24, "empty": 15},
                    "requests": 4000,
                    "cached": 0,
                }
                for name in lifts
                if name != "labels"
            },
        },
        "student": {
            "model": "scratch:t5-tiny",
            "parameters": 431_232,
            "settings": {"epochs": 12, "batch_size": 64, "warmup_steps": 100},
        },
        "arms": arms,
        "comparisons": compare(predictions, pairs, NLI, groups),
        "comparisons_unseen": compare(unseen, pairs, NLI, groups),
        "choosing_on_test": {
            "by_arm": {
                name: {"best_accuracy": value, "models_tried": 9 + seeds - 1}
                for name, value in best.items()
            },
            "claims": [
                {"arm": a, "baseline": b, "difference": best[a] - best[b]} for a, b in pairs
            ],
        },
    }
    restored: dict[str, Any] = json.loads(json.dumps(as_json(results)))
    return restored


def _predict(rng: np.random.Generator, gold: list[str], chance: np.ndarray) -> list[Prediction]:
    right = rng.random(len(gold)) < chance
    other = rng.integers(1, 3, len(gold))
    predicted = [
        label if hit else NLI.labels[(NLI.labels.index(label) + int(shift)) % 3]
        for label, hit, shift in zip(gold, right, other, strict=True)
    ]
    return [
        Prediction(f"r{i}", label, {}, gold[i], truncated=i % 250 == 0)
        for i, label in enumerate(predicted)
    ]


def _arm(name: str, test: Any, unseen: Any) -> dict[str, Any]:
    strategy = CONTROLS.get(name, name)
    return {
        "name": name,
        "strategy": None if name == "labels" else strategy.replace("-", "_"),
        "objective": "label" if name == "labels" else "label_then_rationale",
        "control": "shuffled" if name in CONTROLS else None,
        "config": {
            "learning_rate": 0.003,
            "label_weight": None if name == "labels" else 0.5,
        },
        "configs_tried": 2,
        "grid": [
            {"config": {"learning_rate": rate}, "seed": 0, "dev_accuracy": test.accuracy - rate}
            for rate in (0.003, 0.006)
        ],
        "seeds": test.seeds,
        "training": {
            "rows": 4000,
            "with_rationale": 0 if name == "labels" else 3950,
            "truncated_sources": 4,
            "truncated_targets": 0,
            "steps_by_seed": [744 for _ in test.seeds],
        },
        "dev": {"n": 600, "accuracy": test.accuracy, "accuracy_by_seed": test.accuracy_by_seed},
        "test": test,
        "test_unseen": unseen,
    }


if __name__ == "__main__":
    from tutelage.report.page import render_report

    page = render_report(sample_results(), title="A sample: do rationales help?")
    Path(sys.argv[1]).write_text(page, encoding="utf-8")
