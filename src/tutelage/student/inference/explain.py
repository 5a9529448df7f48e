"""Rationales that a trained student generates, on request only. No prediction is made from them.

explain             for the label that it predicted
write_explanations  freely: label and rationale as the student generates them by itself
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tutelage.core.errors import StudentError
from tutelage.core.task import Task
from tutelage.core.types import Example, Explanation, Prediction
from tutelage.student.encoding.batching import split_by_tokens
from tutelage.student.encoding.prompts import (
    encode_label,
    encode_prompts,
    encode_separator,
    explaining_prompt,
    explains_after_label,
    rationale_in,
)
from tutelage.student.encoding.targets import parse_target
from tutelage.student.inference.generate import find_way_to_generate, generate
from tutelage.student.model.student import Student

_BATCH = 32
"""Rows for which `explain` generates at once."""


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
    """The student's rationale for each of its predictions, generated greedily.

    A student trained on label then rationale continues after the label that it predicted. One that
    learnt two tasks, or the rationale first, gets the prompt for rationales. The text is empty if
    the student generates no rationale, as one trained on labels alone.

    on_progress: called with the number of rows done so far
    """
    if student.architecture == "classifier":
        raise StudentError("this student is a classifier: it writes no rationales")
    after_label = explains_after_label(student)
    texts = [""] * len(examples)
    order = sorted(range(len(examples)), key=lambda i: predictions[i].label)
    done = 0
    while done < len(order):
        label = predictions[order[done]].label
        rows = [i for i in order[done : done + _BATCH] if predictions[i].label == label]
        sources = [task.source(examples[i].fields) for i in rows]
        prompts = encode_prompts(student, sources, explaining_prompt(student), max_source_tokens)
        words = task.verbalize(label)
        start = encode_label(student, words) if after_label else []
        generated = generate(student, [p.ids for p in prompts], start, max_rationale_tokens)
        for i, ids in zip(rows, generated, strict=True):
            text = student.tokenizer.decode(ids, skip_special_tokens=True)
            texts[i] = rationale_in(student, text, words)
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
    """The label and rationale that the student generates freely, greedily, for each example.

    Its target is not started for it. A student trained on label then rationale, or the rationale
    first, generates both, so that the label in its text can be compared with the scored label. One
    that learnt two tasks gets the prompt for rationales and generates no label.

    max_rationale_tokens: limit for the rationale; label and separator get extra tokens
    on_progress:          called with the number of rows done so far
    """
    if not examples:
        return []
    answers = student.objective in ("label", "label_then_rationale")
    sources = [task.source(e.fields) for e in examples]
    prompts = encode_prompts(
        student, sources, "answer" if answers else "explain", max_source_tokens
    )
    words = [task.verbalize(label) for label in task.labels]
    limit = max_rationale_tokens + max(len(encode_label(student, word)) for word in words)
    limit += len(encode_separator(student))
    order = sorted(range(len(examples)), key=lambda i: len(prompts[i].ids))
    lengths = [len(prompts[i].ids) + limit for i in order]
    # Once, with the longest input: the parts below come in the order of their length.
    find_way_to_generate(student, [prompt.ids for prompt in prompts], [])
    explanations: dict[int, Explanation] = {}
    for part in split_by_tokens(lengths, tokens_per_micro_batch, order):
        generated = generate(student, [prompts[i].ids for i in part], [], limit)
        for i, ids in zip(part, generated, strict=True):
            text = student.tokenizer.decode(ids, skip_special_tokens=True)
            label, rationale = _parse(text, student, task)
            explanations[i] = Explanation(
                examples[i].uid, rationale, label, len(ids), len(ids) == limit
            )
        if on_progress is not None:
            on_progress(len(explanations))
    return [explanations[i] for i in range(len(examples))]


def _parse(text: str, student: Student, task: Task) -> tuple[str | None, str]:
    """The label in a generated text, None if it is not one of the task's, and the rationale."""
    if student.objective == "multitask":
        return None, text.strip()
    target = parse_target([text], student.objective)
    labels = {task.verbalize(label).strip(): label for label in task.labels}
    return labels.get(target.label), target.rationale or ""
