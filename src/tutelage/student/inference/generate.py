"""Greedy generation from a student: token ids that continue a source and a start of the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from tutelage.student.encoding.batching import length_mask, pad
from tutelage.student.model.student import Student


def generate(
    student: Student, sources: Sequence[list[int]], start: Sequence[int], limit: int
) -> list[list[int]]:
    """The token ids that the student generates for each source.

    start: ids with which every target starts; not returned
    limit: most ids per source

    The end token and what follows it are not returned.
    """
    device = student.device
    causal = student.architecture == "decoder-only"
    if causal:
        # Generation continues at the right end of each row, so the padding is on the left here.
        rows = [[*reversed([*source, *start])] for source in sources]
        inputs = {
            "input_ids": pad(rows, student.pad_id).flip(1),
            "attention_mask": length_mask(rows).flip(1),
        }
    else:
        decoder = torch.tensor([[student.decoder_start_id, *start]] * len(sources))
        inputs = {
            "input_ids": pad(sources, student.pad_id),
            "attention_mask": length_mask(sources),
            "decoder_input_ids": decoder,
        }
    training = student.model.training
    student.model.eval()
    try:
        with torch.no_grad(), _greedy(student, limit):
            output = student.model.generate(
                **{name: tensor.to(device) for name, tensor in inputs.items()}
            )
    finally:
        student.model.train(training)
    before = inputs["input_ids"].shape[1] if causal else 1 + len(start)
    return [_until(ids, student.eos_id) for ids in output[:, before:].tolist()]


@contextmanager
def _greedy(student: Student, limit: int) -> Iterator[None]:
    """Inside, the model generates the most likely token each time. Its own generation settings
    (forced first tokens, repetition penalties, minimum lengths) do not apply."""
    from transformers import GenerationConfig

    model = student.model
    kept = model.generation_config
    model.generation_config = GenerationConfig(
        max_new_tokens=limit,
        do_sample=False,
        num_beams=1,
        eos_token_id=student.eos_id,
        pad_token_id=student.pad_id,
        decoder_start_token_id=None if kept is None else kept.decoder_start_token_id,
    )
    try:
        yield
    finally:
        model.generation_config = kept


def _until(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids
