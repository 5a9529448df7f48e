"""One process of `train.py`: a student's labels, by scoring and by generation.

python train_scoring.py NAME FOLDER REPORT OPTIONS        as for train_contenders.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from math import log
from pathlib import Path
from statistics import mean
from typing import Any

from train_measure import Clock, write_report
from train_setup import Row, read_rows

TEST_SEED = 3


def _student(folder: Path, precision: str, threads: int) -> Any:
    import torch

    from tutelage.student.model.loading import load_student
    from tutelage.student.model.precision import choose_device, prepare

    torch.set_num_threads(threads)
    student = load_student(str(folder)).to(choose_device())
    prepare(student, precision)
    return student


def score(folder: Path, report: Path, *, rows: int, precision: str, threads: int) -> None:
    """score_labels, tokenisation included."""
    from tutelage.core.task import NLI
    from tutelage.student.inference.score import score_labels

    student = _student(folder / "model", precision, threads)
    examples = [row.example for row in read_rows(folder)[:rows]]
    score_labels(student, examples[:32], NLI)
    clock = Clock()
    clock.start()
    score_labels(student, examples, NLI)
    clock.stop()
    write_report(report, clock.seconds, rows=rows)


def generate(
    folder: Path,
    report: Path,
    *,
    rows: int,
    sample: int,
    batch_size: int,
    precision: str,
    threads: int,
    padded: bool = False,
) -> None:
    """model.generate, greedily, on `sample` of the `rows`.

    New weights do not generate an end token, so that each batch generates as many tokens as the
    longest of its recorded targets has. Rows are sorted by source, as in score_labels, and not by
    target, whose length is unknown in advance. `padded` is how the research code obtains labels:
    rows in their order, every source 600 tokens long.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    student = _student(folder / "model", precision, threads)
    lengths = {row.uid: len(tokenizer(row.target).input_ids) for row in read_rows(folder)[:rows]}
    ordered = read_rows(folder)[:rows]
    filled: dict[str, Any] = {"padding": True}
    if padded:
        filled = {"padding": "max_length", "max_length": 600, "truncation": True}
    else:
        ordered.sort(key=lambda row: len(tokenizer(row.source).input_ids))
    count = max(sample // batch_size, 1)
    starts = [round((rows - batch_size) * (i + 0.5) / count) for i in range(count)]
    batches = [ordered[start : start + batch_size] for start in starts]

    def run(batch: Sequence[Row], limit: int) -> None:
        inputs = tokenizer([row.source for row in batch], return_tensors="pt", **filled)
        student.model.generate(
            input_ids=inputs.input_ids.to(student.device),
            attention_mask=inputs.attention_mask.to(student.device),
            do_sample=False,
            num_beams=1,
            min_new_tokens=limit,
            max_new_tokens=limit,
        )

    student.model.eval()
    run(batches[0], 3)
    clock = Clock()
    clock.start()
    for batch in batches:
        run(batch, max(lengths[row.uid] for row in batch))
    clock.stop()
    met = [lengths[row.uid] for batch in batches for row in batch]
    write_report(
        report,
        clock.seconds,
        rows=len(met),
        tokens=mean(met),
        tokens_of_all=mean(lengths.values()),
    )


def agree(folder: Path, report: Path, *, rows: int, train_rows: int, epochs: int) -> None:
    """Train a student. Compare the labels that it generates with those that scoring selects, and
    scoring in bf16 with scoring in fp32."""
    import torch

    from tutelage.config.training_settings import TrainSettings
    from tutelage.core.task import NLI
    from tutelage.core.types import Rationale
    from tutelage.data.synthetic import generate as generate_rows
    from tutelage.student.encoding.targets import build_training_examples
    from tutelage.student.jobs.jobs import TrainingJob, run_training
    from tutelage.student.model.loading import load_student
    from tutelage.student.model.scratch import tokenizer_for

    examples, test = generate_rows(train_rows, 1), generate_rows(rows, TEST_SEED)
    training = build_training_examples(
        examples,
        NLI,
        [Rationale(e.uid, "informed_reasoning", e.reason or "", "ok") for e in examples],
        "label_then_rationale",
    )
    settings = TrainSettings(
        learning_rate=3e-3, label_weight=0.3, epochs=epochs, batch_size=16, weight_decay=0.01
    )
    with tempfile.TemporaryDirectory() as home:
        tokenizer = tokenizer_for(training, Path(home, "words"))
        dev = generate_rows(200, 2)
        job = TrainingJob(
            "scratch:t5-tiny", tokenizer, training, dev, NLI, settings, Path(home, "run")
        )
        clock = Clock()
        clock.start()
        result = run_training(job)
        clock.stop()
        student = load_student(str(job.folder / "model"))
    scored = _predictions(student, test)
    by_text = {NLI.verbalize(label): label for label in NLI.labels}
    written = [by_text.get(text, "") for text in _written(student, test)]
    student.model.to(torch.bfloat16)
    rounded = _predictions(student, test)
    differing = [
        {
            "uid": prediction.uid,
            "written": label or "no label of the task",
            "scored": prediction.label,
            "margin": _margin(prediction),
        }
        for prediction, label in zip(scored, written, strict=True)
        if prediction.label != label
    ]
    pairs = list(zip(scored, rounded, strict=True))
    write_report(
        report,
        clock.seconds,
        rows=rows,
        dev_accuracy=result.dev_accuracy,
        accuracy=mean(p.label == p.gold for p in scored),
        differing=differing,
        largest_change=max(
            abs(one.probabilities[label] - other.probabilities[label])
            for one, other in pairs
            for label in NLI.labels
        ),
        bf16_differing=[
            {"uid": one.uid, "margin": _margin(one)}
            for one, other in pairs
            if one.label != other.label
        ],
    )


def _predictions(student: Any, examples: Sequence[Any]) -> list[Any]:
    from tutelage.core.task import NLI
    from tutelage.student.inference.score import score_labels

    return score_labels(student, examples, NLI)


def _margin(prediction: Any) -> float:
    """Nats between the two most probable labels."""
    first, second = sorted(prediction.probabilities.values(), reverse=True)[:2]
    return log(first) - log(max(second, 1e-300))


def _written(student: Any, examples: Sequence[Any]) -> list[str]:
    """The label at the start of the student's text, generated freely and greedily."""
    from tutelage.core.task import NLI
    from tutelage.student.encoding.prompts import encode_prompts
    from tutelage.student.encoding.targets import parse_target
    from tutelage.student.inference.generate import generate as generate_ids

    prompts = encode_prompts(student, [NLI.source(e.fields) for e in examples], "answer", 512)
    labels = []
    for start in range(0, len(prompts), 100):
        for ids in generate_ids(student, [p.ids for p in prompts[start : start + 100]], [], 160):
            text = student.tokenizer.decode(ids, skip_special_tokens=True)
            labels.append(parse_target([text], student.objective).label)
    return labels


WORKERS: dict[str, Callable[..., None]] = {"score": score, "generate": generate, "agree": agree}

if __name__ == "__main__":
    WORKERS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), **json.loads(sys.argv[4]))
