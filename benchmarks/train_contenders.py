"""One process of `train.py`: trains T5-small's shape in one of three ways for a few steps.

    python train_contenders.py NAME FOLDER REPORT OPTIONS

NAME is a key of CONTENDERS, FOLDER the one that `train_setup.py` wrote, OPTIONS a JSON object of
keyword arguments. The first step is not timed. The report contains the work done: the
floating-point operations of the rows, without padding, so that steps of long and of short rows can
be compared.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from train_measure import Clock, flops, write_report
from train_setup import Row, read_rows

LEARNING_RATE = 6e-4
WARM_UP = 4
"""Steps before the clock starts if lengths differ: memory grows until the longest rows are seen."""


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def padded(folder: Path, report: Path, *, steps: int, batch_size: int) -> None:
    """Every row padded to 600 and 400 tokens, padding in the loss, fp32: like the research code."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "model").to(_device()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    rows = read_rows(folder)[: (steps + 1) * batch_size]
    filled = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    clock = Clock()
    for step in range(steps + 1):
        if step == 1:
            clock.start()
        part = rows[step * batch_size :][:batch_size]
        inputs = tokenizer([row.source for row in part], max_length=600, **filled).to(_device())
        labels = tokenizer([row.target for row in part], max_length=400, **filled).to(_device())
        loss = model(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            labels=labels.input_ids,
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    clock.stop()
    write_report(report, clock.seconds, rows=steps * batch_size, loss=loss.item())


def trainer(folder: Path, report: Path, *, steps: int, batch_size: int, precision: str) -> None:
    """transformers' Seq2SeqTrainer, batches of similar length padded to their longest row."""
    from transformers import (
        AutoModelForSeq2SeqLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        TrainerCallback,
    )

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "model")
    rows = read_rows(folder)
    sources = tokenizer([row.source for row in rows]).input_ids
    targets = tokenizer([row.target for row in rows]).input_ids
    data = [
        {"input_ids": s, "attention_mask": [1] * len(s), "labels": t}
        for s, t in zip(sources, targets, strict=True)
    ]
    clock = Clock()
    met = []

    class Counting(Seq2SeqTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
            met.append((inputs["attention_mask"], inputs["labels"]))
            return super().training_step(model, inputs, *rest)

    class Timing(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == WARM_UP:
                clock.start()
            elif state.global_step == WARM_UP + steps:
                clock.stop()

    with tempfile.TemporaryDirectory() as output:
        arguments = Seq2SeqTrainingArguments(
            output_dir=output,
            per_device_train_batch_size=batch_size,
            max_steps=WARM_UP + steps,
            learning_rate=LEARNING_RATE,
            train_sampling_strategy="group_by_length",
            bf16=precision == "bf16",
            use_cpu=_device().type == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        Counting(
            model=model,
            args=arguments,
            train_dataset=data,
            data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
            processing_class=tokenizer,
            callbacks=[Timing()],
        ).train()
    work = 0.0
    for mask, labels in met[WARM_UP:]:
        lengths = zip(mask.sum(1).tolist(), (labels != -100).sum(1).tolist(), strict=True)
        work += sum(flops(*pair) for pair in lengths)
    write_report(report, clock.seconds, work=work, rows=sum(len(mask) for mask, _ in met[WARM_UP:]))


def ours(
    folder: Path,
    report: Path,
    *,
    steps: int,
    batch_size: int,
    threads: int,
    tokens_per_micro_batch: int,
) -> None:
    """A training job of this package."""
    from tutelage.config.training_settings import TrainSettings
    from tutelage.core.task import NLI
    from tutelage.student.encoding.batching import training_steps
    from tutelage.student.encoding.tokenise import encode_examples
    from tutelage.student.jobs.jobs import TrainingJob, run_training
    from tutelage.student.model.loading import load_student

    rows = read_rows(folder)
    training = training_examples(rows)
    settings = TrainSettings(
        learning_rate=LEARNING_RATE,
        batch_size=batch_size,
        max_steps=WARM_UP + steps,
        tokens_per_micro_batch=tokens_per_micro_batch,
        threads=threads,
    )
    clock = Clock()

    def on_step(done: int, total: int) -> None:
        if done == WARM_UP:
            clock.start()
        elif done == total:
            clock.stop()  # before the evaluation on dev

    dev = [row.example for row in rows[:2]]
    with tempfile.TemporaryDirectory() as output:
        job = TrainingJob(str(folder / "model"), None, training, dev, NLI, settings, Path(output))
        result = run_training(job, on_step)
    student = load_student(str(folder / "model"))
    encoded = encode_examples(
        student,
        training,
        max_source_tokens=settings.max_source_tokens,
        max_rationale_tokens=settings.max_rationale_tokens,
    )
    met = training_steps(
        encoded,
        batch_size=batch_size,
        tokens_per_micro_batch=tokens_per_micro_batch,
        seed=0,
        epoch=0,
    )[WARM_UP : WARM_UP + steps]
    timed = [row.sequences[0] for step in met for rows in step for row in rows]
    write_report(
        report,
        clock.seconds,
        work=sum(flops(len(s.source), len(s.target)) for s in timed),
        rows=len(timed),
        steps=result.steps,
    )


def training_examples(rows: list[Row]) -> list[Any]:
    """The rows as the student learns them: the label, then the reasoning."""
    from tutelage.core.task import NLI
    from tutelage.core.types import Rationale
    from tutelage.student.encoding.targets import build_training_examples

    return build_training_examples(
        [row.example for row in rows],
        NLI,
        [Rationale(row.uid, "informed_reasoning", row.reasoning, "ok") for row in rows],
        "label_then_rationale",
    )


CONTENDERS: dict[str, Callable[..., None]] = {"padded": padded, "trainer": trainer, "ours": ours}

if __name__ == "__main__":
    CONTENDERS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), **json.loads(sys.argv[4]))
