"""The loss, compared with a plain reference: one row and one task at a time, without padding."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from tutelage.core.types import ObjectiveName, Source, Target, TrainingExample
from tutelage.student.encoding.batching import collate, split_by_tokens
from tutelage.student.encoding.targets import LABEL, RATIONALE
from tutelage.student.encoding.tokenise import EncodedExample, encode_examples
from tutelage.student.model.precision import prepare
from tutelage.student.model.student import Student
from tutelage.student.training.loss import batch_loss

OBJECTIVES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)


def _row(uid: str, premise: str, hypothesis: str, target: Target) -> TrainingExample:
    text = f"Premise: {premise} Hypothesis: {hypothesis}"
    return TrainingExample(uid, Source(text, (9, 9 + len(premise))), target)


ROWS = [
    _row("a", "two dogs play.", "animals.", Target("entailment")),
    _row(
        "b",
        "the old man was born in 1950 in Oslo.",
        "the man is from Norway.",
        Target("neutral", "nothing is said about it."),
    ),
    _row("c", "beach.", "dog.", Target("contradiction", "both true.")),
]

Reference = tuple[list[int], list[tuple[int, list[int]]]]
"""A whole input, and its target in parts: (segment, token ids)."""


def _encoded(student: Student, objective: ObjectiveName) -> list[EncodedExample]:
    student.objective = objective
    return encode_examples(student, ROWS, max_source_tokens=200, max_rationale_tokens=200)


def _reference_sequences(
    student: Student, row: TrainingExample, objective: ObjectiveName
) -> list[Reference]:
    """A row's inputs and targets, written again from the design, not from the code."""
    causal = student.architecture == "decoder-only"

    def ids(text: str) -> list[int]:
        return student.tokenizer(text, add_special_tokens=False).input_ids

    def source(cue: str, prefix: str = "") -> list[int]:
        if causal:
            return ids(row.source.text) + ids(f"\n{cue}:")
        return [*ids(prefix + row.source.text), student.eos_id]

    space, line = (" ", "\n") if causal else ("", "")
    label, end = ids(space + row.target.label), [student.eos_id]
    text = None if objective == "label" else row.target.rationale
    two = objective == "multitask"
    if objective == "rationale_then_label":
        prompt, separator = source("Explanation"), ids(f"{line}Label:")
        if text is None:
            return [(prompt, [(LABEL, separator + label + end)])]
        return [
            (
                prompt,
                [(RATIONALE, ids(space + text) + separator), (LABEL, label), (RATIONALE, end)],
            )
        ]
    prompt = source("Answer", "predict: " if two else "")
    if text is None:
        return [(prompt, [(LABEL, label + end)])]
    if two:
        explain = source("Explanation", "explain: ")
        return [(prompt, [(LABEL, label + end)]), (explain, [(RATIONALE, ids(space + text) + end)])]
    return [(prompt, [(LABEL, label), (RATIONALE, ids(f"{line}Rationale: {text}") + end)])]


def _reference(
    student: Student, weights: tuple[float, float], objective: ObjectiveName
) -> torch.Tensor:
    """The formula, computed from whole forward passes of transformers, one sequence each."""
    sums = [torch.zeros(()), torch.zeros(())]
    counts = [0, 0]
    for row in ROWS:
        for source, parts in _reference_sequences(student, row, objective):
            target = [token for _, tokens in parts for token in tokens]
            if student.architecture == "encoder-decoder":
                inputs = [student.decoder_start_id, *target[:-1]]
                logits = student.model(
                    input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([inputs])
                ).logits[0]
            else:
                logits = student.model(input_ids=torch.tensor([source + target])).logits[0]
                logits = logits[len(source) - 1 : -1]
            losses = -torch.log_softmax(logits, -1)[range(len(target)), target]
            for segment, tokens in parts:
                sums[segment] = sums[segment] + losses[: len(tokens)].sum()
                counts[segment] += len(tokens)
                losses = losses[len(tokens) :]
    return sum(
        (w * s / max(n, 1) for w, s, n in zip(weights, sums, counts, strict=True)), torch.zeros(())
    )


def _gradients(student: Student) -> list[torch.Tensor]:
    return [p.grad.clone() for p in student.model.parameters() if p.grad is not None]


def _backward(student: Student, micro_batches: list[list[EncodedExample]]) -> float:
    student.model.zero_grad()
    batches = [collate(student, rows) for rows in micro_batches]
    counts = [row.counts for rows in micro_batches for row in rows]
    totals = (sum(c[0] for c in counts), sum(c[1] for c in counts))
    total = 0.0
    for batch in batches:
        loss = batch_loss(student, batch).weighted((0.3, 0.7), totals)
        loss.backward()
        total += loss.item()
    return total


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("sizes", [(3,), (1, 2), (1, 1, 1)])
@pytest.mark.parametrize("prepared", [False, True])
def test_loss_and_gradient_follow_the_formula_however_the_step_is_split(
    student: Student,
    sizes: tuple[int, ...],
    prepared: bool,
    objective: ObjectiveName,
) -> None:
    expected = _reference(student, (0.3, 0.7), objective)
    student.model.zero_grad()
    expected.backward()
    wanted = _gradients(student)
    if prepared:  # as in training on a CPU
        prepare(student, "fp32")
        assert "eager" in student.model.config._attn_implementation
    rows = iter(_encoded(student, objective))
    loss = _backward(student, [[next(rows) for _ in range(size)] for size in sizes])
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    found = _gradients(student)
    assert len(found) == len(wanted)
    # fp32 sums in another order: one value in 13,952 differed by 1.2e-6.
    tolerance = 2e-6 if prepared else 1e-6
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=tolerance)


def test_two_tasks_share_a_row_if_the_student_can_pack(
    decoder_only: Student, encoder_decoder: Student
) -> None:
    encoded = _encoded(decoder_only, "multitask")
    assert [e.packed for e in encoded] == [False, True, True]
    separately = sum(len(s.source) + len(s.target) for s in encoded[1].sequences)
    assert encoded[1].length == separately - encoded[1].shared
    assert collate(decoder_only, encoded).input_ids.shape[0] == len(ROWS)
    # An encoder-decoder's prefixes make two inputs of one row.
    assert collate(encoder_decoder, _encoded(encoder_decoder, "multitask")).input_ids.shape[0] == 5


def test_a_model_that_ignores_positions_gets_two_tasks_as_two_rows(decoder_only: Student) -> None:
    forward = decoder_only.model.base_model.forward

    def stubborn(**inputs: torch.Tensor) -> object:
        inputs.pop("position_ids", None)
        return forward(**inputs)

    decoder_only.model.base_model.forward = stubborn
    encoded = _encoded(decoder_only, "multitask")
    assert not any(e.packed for e in encoded)
    assert collate(decoder_only, encoded).input_ids.shape[0] == 5


def test_a_segment_that_is_absent_contributes_nothing(student: Student) -> None:
    encoded = _encoded(student, "label_then_rationale")[:1]
    batch = collate(student, encoded)
    loss = batch_loss(student, batch)
    (counts,) = (row.counts for row in encoded)
    assert counts == (len(encoded[0].sequences[0].target), 0)
    assert loss.weighted((0.3, 0.7), counts).item() == pytest.approx(
        0.3 * loss.label.item() / counts[0]
    )


def test_what_is_cut_is_counted(student: Student) -> None:
    whole = _encoded(student, "label_then_rationale")[1]
    cut = encode_examples(student, ROWS[1:2], max_source_tokens=18, max_rationale_tokens=3)[0]
    assert (whole.source_cut, whole.target_cut) == (0, 0)
    (sequence,), (uncut,) = cut.sequences, whole.sequences
    assert cut.source_cut == len(uncut.source) - len(sequence.source) > 0
    assert cut.target_cut == len(uncut.target) - len(sequence.target) > 0
    assert len(sequence.source) == 18
    assert sequence.segments.count(RATIONALE) == 4  # and the end token
    assert sequence.target[-1] == student.eos_id
    tail = 3
    assert sequence.source[-tail:] == uncut.source[-tail:]


@pytest.mark.parametrize("objective", ["rationale_then_label", "multitask"])
def test_a_cut_rationale_keeps_its_label(student: Student, objective: ObjectiveName) -> None:
    student.objective = objective
    (cut,) = encode_examples(student, ROWS[1:2], max_source_tokens=200, max_rationale_tokens=3)
    assert cut.target_cut > 0
    texts = [student.tokenizer.decode(s.target, skip_special_tokens=True) for s in cut.sequences]
    assert any("neutral" in text for text in texts)
    assert all(s.target[-1] == student.eos_id for s in cut.sequences)
    (whole,) = encode_examples(student, ROWS[1:2], max_source_tokens=200, max_rationale_tokens=99)
    assert sum(len(s.target) for s in cut.sequences) < sum(len(s.target) for s in whole.sequences)


def test_micro_batches_stay_within_the_limit() -> None:
    lengths = [10, 20, 30, 5, 100, 7]
    parts = split_by_tokens(lengths, 60)
    assert [i for part in parts for i in part] == list(range(6))
    assert all(len(p) == 1 or max(lengths[i] for i in p) * len(p) <= 60 for p in parts)
    assert len(parts) < 6
