"""The student's own rationale: generated only where somebody asks for it.

    explain             for the label that it predicted
    write_explanations  label and rationale as it writes them when nobody begins for it

No prediction is made from either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tutelage.core.task import Task
from tutelage.core.types import Example, Explanation, Prediction
from tutelage.student.encoding.batching import (
    encode_label,
    encode_prompts,
    encode_separator,
    split_by_tokens,
)
from tutelage.student.encoding.targets import LABEL_SEPARATOR, parse_target
from tutelage.student.inference.generate import generate
from tutelage.student.model.student import Student

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


def write_explanations(
    student: Student,
    examples: Sequence[Example],
    task: Task,
    *,
    max_source_tokens: int = 512,
    max_rationale_tokens: int = 256,
    tokens_per_micro_batch: int = 8192,
    on_progress: Callable[[int], None] | None = None,
) -> list[Explanation]:
    """What the student writes of its own accord, greedily; one explanation an example.

    Nothing is begun for it: one that learnt label then rationale, or the rationale first, writes
    both, so that the label in its text can be held against the label that scoring found. One that
    learnt them as two tasks is asked for its rationale alone.

    max_rationale_tokens: the bound of the rationale; label and separators have room besides
    """
    if not examples:
        return []
    answers = student.objective in ("label", "label_then_rationale")
    sources = [task.source(e.fields) for e in examples]
    prompts = encode_prompts(
        student, sources, "answer" if answers else "explain", max_source_tokens
    )
    words = [task.verbalize(label) for label in task.labels]
    room = max_rationale_tokens + max(len(encode_label(student, word)) for word in words)
    room += len(encode_separator(student))
    order = sorted(range(len(examples)), key=lambda i: len(prompts[i].ids))
    lengths = [len(prompts[i].ids) + room for i in order]
    explanations: dict[int, Explanation] = {}
    for part in split_by_tokens(lengths, tokens_per_micro_batch, order):
        written = generate(student, [prompts[i].ids for i in part], [], room)
        for i, ids in zip(part, written, strict=True):
            text = student.tokenizer.decode(ids, skip_special_tokens=True)
            label, rationale = _taken_apart(text, student, task)
            explanations[i] = Explanation(
                examples[i].uid, rationale, label, len(ids), len(ids) == room
            )
        if on_progress is not None:
            on_progress(len(explanations))
    return [explanations[i] for i in range(len(examples))]


def _taken_apart(text: str, student: Student, task: Task) -> tuple[str | None, str]:
    """The label in what a student wrote, if it is one of the task's, and the rationale."""
    if student.objective == "multitask":
        return None, text.strip()
    target = parse_target([text], student.objective)
    names = {task.verbalize(label).strip(): label for label in task.labels}
    return names.get(target.label), target.rationale or ""
