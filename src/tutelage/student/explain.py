"""The student's own rationale for a label: generated only where somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tutelage.records import Example, Prediction
from tutelage.student.collate import encode_label, encode_prompts
from tutelage.student.generate import generate
from tutelage.student.model import Student
from tutelage.student.target import LABEL_SEPARATOR, parse_target
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
    """What the student writes to explain what it predicted, greedily; one text an example.

    A student that learnt label then rationale goes on from the label that it predicted; one that
    learnt them as two tasks, or the rationale first, is asked for the rationale. The empty text
    stands for a student that writes none (one trained on labels alone).
    """
    after_label = student.objective in ("label", "label_then_rationale")
    texts = [""] * len(examples)
    order = sorted(range(len(examples)), key=lambda i: predictions[i].label)
    done = 0
    while done < len(order):
        label = predictions[order[done]].label
        rows = [i for i in order[done : done + _BATCH] if predictions[i].label == label]
        inputs = [task.source(examples[i].fields) for i in rows]
        prompts = encode_prompts(
            student, inputs, "answer" if after_label else "explain", max_source_tokens
        )
        words = task.verbalize(label)
        start = encode_label(student, words) if after_label else []
        written = generate(student, [p.ids for p in prompts], start, max_rationale_tokens)
        for i, ids in zip(rows, written, strict=True):
            text = student.tokenizer.decode(ids, skip_special_tokens=True)
            if after_label:
                text = parse_target([f"{words} {text}"], "label_then_rationale").rationale or ""
            texts[i] = text.partition(LABEL_SEPARATOR)[0].strip()
        done += len(rows)
        if on_progress is not None:
            on_progress(done)
    return texts
