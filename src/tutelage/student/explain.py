"""The student's own rationale for a label: generated only where somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tutelage.records import Example, Prediction
from tutelage.student.collate import encode_label, encode_sources, length_mask, pad
from tutelage.student.model import Student
from tutelage.student.target import parse_target
from tutelage.task import Task

_BATCH = 32


def explain(
    student: Student,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    task: Task,
    *,
    max_source_tokens: int = 512,
    max_rationale_tokens: int = 128,
    on_progress: Callable[[int], None] | None = None,
) -> list[str]:
    """What the student writes after the label that it predicted, greedily; one text an example.

    The empty text stands for a student that ends after its label (one trained on labels alone).
    """
    texts = [""] * len(examples)
    order = sorted(range(len(examples)), key=lambda i: predictions[i].label)
    done = 0
    student.model.eval()
    while done < len(order):
        label = predictions[order[done]].label
        rows = [i for i in order[done : done + _BATCH] if predictions[i].label == label]
        inputs = [task.render_source(examples[i].fields) for i in rows]
        sources = [ids for ids, _ in encode_sources(student, inputs, max_source_tokens)]
        words = task.verbalize(label)
        written = _continue(student, sources, encode_label(student, words), max_rationale_tokens)
        for i, text in zip(rows, written, strict=True):
            texts[i] = parse_target(f"{words} {text}").rationale or ""
        done += len(rows)
        if on_progress is not None:
            on_progress(done)
    return texts


def _continue(
    student: Student, sources: Sequence[list[int]], label: list[int], limit: int
) -> list[str]:
    """The text that follows `label` for each source."""
    device = student.device
    causal = student.architecture == "decoder-only"
    if causal:
        # Generation goes on at the right end of each row: here padding stands on the left.
        rows = [[*reversed([*source, *label])] for source in sources]
        inputs = {
            "input_ids": pad(rows, student.pad_id).flip(1),
            "attention_mask": length_mask(rows).flip(1),
        }
    else:
        start = torch.tensor([[student.decoder_start_id, *label]] * len(sources))
        inputs = {
            "input_ids": pad(sources, student.pad_id),
            "attention_mask": length_mask(sources),
            "decoder_input_ids": start,
        }
    with torch.no_grad():
        output = student.model.generate(
            **{name: tensor.to(device) for name, tensor in inputs.items()},
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            eos_token_id=student.eos_id,
            pad_token_id=student.pad_id,
        )
    before = inputs["input_ids"].shape[1] if causal else 1 + len(label)
    texts: list[str] = student.tokenizer.batch_decode(output[:, before:], skip_special_tokens=True)
    return texts
