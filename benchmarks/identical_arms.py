"""Real experiments of identical arms, search included: how often is a difference found?

python benchmarks/identical_arms.py [RUNS]    20 by default; some ten minutes on two cores

Each experiment is run twice by `tutelage.run`, on the same rows and with seeds of its own: a label
arm that searches two of four configurations for each of three seeds, trains its choice afresh and
opens the test set. The two runs' arms are the same procedure; `compare_files`, which `tutelage
compare` calls, says whether their accuracies differ significantly at 5%. Every experiment has rows
of its own, and no seed is used twice. At most 3 of 20 may be significant: with a true rate of 5%
there are more once in sixty times.

The students are tiny and see half of a hint, so that what they make of it is luck. Two things show
that the instrument does not pass by being blind. A third run of some experiments learns wrong
labels and must be found. And a test that takes the rows alone as a sample, and the students as they
are, must break the bound on the same predictions.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import ttest_1samp

from tutelage import parse_recipe, run
from tutelage.core.storage import write_jsonl
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.data.synthetic import generate
from tutelage.experiment.prediction_files import compare_files
from tutelage.student.jobs.jobs import read_predictions

EXPERIMENTS, SEEDS, DIFFERENT_IN = 20, 3, 3
MOST = 3
"""Significant experiments of 20 that are still luck."""
HINTED = 0.6
WRONG = dict(zip(NLI.labels, NLI.labels[1:] + NLI.labels[:1], strict=True))


def write_rows(path: Path, rows: Sequence[Example], seed: int, wrong: bool = False) -> str:
    """The rows with one word of the premise, most of them with a hint at the label."""
    draw = random.Random(seed)
    written = []
    for e in rows:
        hint = f"{e.label} " if draw.random() < HINTED else ""
        written.append(
            {
                "uid": e.uid,
                "premise": e.fields["premise"].split()[0],
                "hypothesis": hint + e.fields["hypothesis"],
                "label": WRONG[str(e.label)] if wrong else e.label,
            }
        )
    write_jsonl(path, written)
    return str(path)


def run_one(folder: Path, name: str, data: dict[str, str], seeds: Sequence[int]) -> Path:
    """Run the label arm; returns the folder of its fresh trainings' predictions."""
    recipe = parse_recipe(
        {
            "name": name,
            "task": "nli",
            "data": data | {"overlap": "drop"},
            "teacher": "scripted",
            "student": {
                "model": "scratch:t5-tiny",
                "max_steps": 24,
                "batch_size": 12,
                "warmup_steps": 5,
                "evaluate_every": 24,
            },
            "protocol": "full",
            "arms": [{"name": "labels"}],
            "baselines": [],
            "departures": {"baselines": "identical arms, which need none"},
            "search": {"learning_rate": [2e-3, 3e-3, 4e-3, 6e-3], "trials": 2},
            "seeds": list(seeds),
            "explain_rows": 0,
        },
        "recipe",
    )
    done = run(recipe, runs=folder / "runs", ledger=folder / "ledger.sqlite", workers=1)
    return done.folder / "arms" / "labels"


def differs_by_rows_alone(arms: Sequence[Path]) -> bool:
    """Whether a paired t-test over the rows, on means over the seeds, finds a difference at 5%."""
    right = []
    for arm in arms:
        # Only a fresh training is evaluated on test: a trial of the search has no such file.
        seeds = [read_predictions(file) for file in sorted(arm.glob("**/test.jsonl"))]
        assert len(seeds) == SEEDS
        right.append(np.mean([[p.label == p.gold for p in rows] for rows in seeds], axis=0))
    return bool(ttest_1samp(right[0] - right[1], 0).pvalue < 0.05)


def main(experiments: int) -> int:
    significant, by_rows, found, began = 0, 0, 0, time.perf_counter()
    for number in range(experiments):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            sizes = {"train": 96, "dev": 60, "test": 150}
            rows = {s: generate(n, 3 * number + i) for i, (s, n) in enumerate(sizes.items(), 1)}
            data = {s: write_rows(folder / f"{s}.jsonl", r, number) for s, r in rows.items()}
            first = SEEDS * 3 * number
            arms = [
                run_one(folder, which, data, range(first + SEEDS * i, first + SEEDS * (i + 1)))
                for i, which in enumerate(("one", "other"))
            ]
            compared, _ = compare_files(*arms)
            significant += compared.p_value < 0.05
            by_rows += differs_by_rows_alone(arms)
            line = (
                f"{number:3d}  {100 * compared.difference:+6.1f} points "
                f"({100 * compared.ci95[0]:+.1f} to {100 * compared.ci95[1]:+.1f}), "
                f"p {compared.p_value:.3f}"
            )
            if number < DIFFERENT_IN:
                wrong = {
                    s: write_rows(folder / f"wrong-{s}.jsonl", rows[s], number, wrong=True)
                    for s in ("train", "dev")
                }
                seeds = range(first + 2 * SEEDS, first + 3 * SEEDS)
                blind, _ = compare_files(run_one(folder, "wrong", data | wrong, seeds), arms[0])
                found += blind.p_value < 0.05 and blind.difference < 0
                line += f"; wrong labels {100 * blind.difference:+.1f}, p {blind.p_value:.4f}"
            print(line, flush=True)
    print(
        f"{significant} of {experiments} pairs of identical arms differ significantly (at most "
        f"{MOST} of 20), {by_rows} by the rows alone; wrong labels found in {found} of "
        f"{min(DIFFERENT_IN, experiments)}; {time.perf_counter() - began:.0f} s"
    )
    at_most = MOST * max(1.0, experiments / EXPERIMENTS)
    held = significant <= at_most and found == min(DIFFERENT_IN, experiments)
    fooled = by_rows > at_most or experiments < EXPERIMENTS
    return 0 if held and fooled else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else EXPERIMENTS))
