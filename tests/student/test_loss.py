"""The loss against a plain reference: one row at a time, no padding, no masks."""

from __future__ import annotations

import pytest
import torch

from tutelage.records import Target, TrainingExample
from tutelage.student.collate import EncodedExample, collate, encode, split_by_tokens
from tutelage.student.loss import segment_loss, target_logits
from tutelage.student.model import Student

ROWS = [
    TrainingExample("a", "Premise: two dogs play. Hypothesis: animals.", Target("entailment")),
    TrainingExample(
        "b",
        "Premise: the old man was born in 1950 in Oslo. Hypothesis: the man is from Norway.",
        Target("neutral", "nothing is said about it."),
    ),
    TrainingExample("c", "Premise: beach. Hypothesis: dog.", Target("contradiction", "both true.")),
]


def _encoded(student: Student) -> list[EncodedExample]:
    return encode(student, ROWS, max_source_tokens=200, max_rationale_tokens=200)


def _reference(student: Student, weights: tuple[float, float]) -> torch.Tensor:
    """The formula, read off the whole forward pass of transformers, row by row."""
    sums = [torch.zeros(()), torch.zeros(())]
    counts = [0, 0]
    for row in _encoded(student):
        target = row.label + row.rationale
        if student.architecture == "encoder-decoder":
            inputs = [student.decoder_start_id, *target[:-1]]
            logits = student.model(
                input_ids=torch.tensor([row.source]), decoder_input_ids=torch.tensor([inputs])
            ).logits[0]
        else:
            logits = student.model(input_ids=torch.tensor([row.source + target])).logits[0]
            logits = logits[len(row.source) - 1 : -1]
        chosen = torch.log_softmax(logits, -1)[torch.arange(len(target)), torch.tensor(target)]
        for segment, part in enumerate((chosen[: len(row.label)], chosen[len(row.label) :])):
            sums[segment] = sums[segment] - part.sum()
            counts[segment] += len(part)
    return weights[0] * sums[0] / counts[0] + weights[1] * sums[1] / counts[1]


def _gradients(student: Student) -> list[torch.Tensor]:
    return [p.grad.clone() for p in student.model.parameters() if p.grad is not None]


def _backward(student: Student, passes: list[list[EncodedExample]]) -> float:
    student.model.zero_grad()
    batches = [collate(student, rows) for rows in passes]
    totals = (sum(b.counts[0] for b in batches), sum(b.counts[1] for b in batches))
    total = 0.0
    for batch in batches:
        loss = segment_loss(target_logits(student, batch), batch).weighted((0.3, 0.7), totals)
        loss.backward()
        total += loss.item()
    return total


@pytest.mark.parametrize("sizes", [(3,), (1, 2), (1, 1, 1)])
def test_loss_and_gradient_are_the_formula_however_the_step_is_split(
    student: Student, sizes: tuple[int, ...]
) -> None:
    expected = _reference(student, (0.3, 0.7))
    student.model.zero_grad()
    expected.backward()
    wanted = _gradients(student)
    rows = iter(_encoded(student))
    loss = _backward(student, [[next(rows) for _ in range(size)] for size in sizes])
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    found = _gradients(student)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_segment_that_is_absent_contributes_nothing(student: Student) -> None:
    batch = collate(student, _encoded(student)[:1])
    loss = segment_loss(target_logits(student, batch), batch)
    assert batch.counts == (len(_encoded(student)[0].label), 0)
    assert loss.weighted((0.3, 0.7), batch.counts).item() == pytest.approx(
        0.3 * loss.label.item() / batch.counts[0]
    )


def test_segments_hold_the_tokens_that_the_design_gives_them(student: Student) -> None:
    plain, reasoned, _ = _encoded(student)
    assert plain.label[-1] == student.eos_id
    assert plain.rationale == []
    assert student.eos_id not in reasoned.label
    assert reasoned.rationale[-1] == student.eos_id
    assert student.tokenizer.decode(reasoned.rationale).strip().startswith("Rationale:")


def test_what_is_cut_is_told(student: Student) -> None:
    whole = _encoded(student)[1]
    cut = encode(student, ROWS[1:2], max_source_tokens=20, max_rationale_tokens=3)[0]
    assert (cut.truncated_source, cut.truncated_target) == (True, True)
    assert (whole.truncated_source, whole.truncated_target) == (False, False)
    assert len(cut.source) == 20
    assert len(cut.rationale) == 4  # and the end token
    assert cut.rationale[-1] == student.eos_id
    tail = 3
    assert cut.source[-tail:] == whole.source[-tail:]


def test_passes_hold_no_more_than_they_may() -> None:
    lengths = [10, 20, 30, 5, 100, 7]
    parts = split_by_tokens(lengths, 60)
    assert [i for part in parts for i in part] == list(range(6))
    assert all(len(p) == 1 or max(lengths[i] for i in p) * len(p) <= 60 for p in parts)
    assert len(parts) < 6
