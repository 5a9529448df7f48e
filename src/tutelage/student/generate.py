"""Greedy generation from a student: token ids that go on from a source and a beginning."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tutelage.student.collate import length_mask, pad
from tutelage.student.model import Student


def generate(
    student: Student, sources: Sequence[list[int]], start: Sequence[int], limit: int
) -> list[list[int]]:
    """What the student writes after `start`, the same for each source: at most `limit` token ids
    each, without the end token and what may follow it."""
    device = student.device
    causal = student.architecture == "decoder-only"
    if causal:
        # Generation goes on at the right end of each row: here padding stands on the left.
        rows = [[*reversed([*source, *start])] for source in sources]
        inputs = {
            "input_ids": pad(rows, student.pad_id).flip(1),
            "attention_mask": length_mask(rows).flip(1),
        }
    else:
        begin = torch.tensor([[student.decoder_start_id, *start]] * len(sources))
        inputs = {
            "input_ids": pad(sources, student.pad_id),
            "attention_mask": length_mask(sources),
            "decoder_input_ids": begin,
        }
    training = student.model.training
    student.model.eval()
    with torch.no_grad():
        output = student.model.generate(
            **{name: tensor.to(device) for name, tensor in inputs.items()},
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            eos_token_id=student.eos_id,
            pad_token_id=student.pad_id,
        )
    student.model.train(training)
    before = inputs["input_ids"].shape[1] if causal else 1 + len(start)
    return [_before(ids, student.eos_id) for ids in output[:, before:].tolist()]


def _before(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids
