"""Greedy generation from a student: token ids that continue a source and a start of the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from tutelage.student.encoding.batching import length_mask, pad
from tutelage.student.model.agreement import TOLERANCE, agree, evaluating, in_fp32, same
from tutelage.student.model.room import check_room
from tutelage.student.model.student import Student

_WAY = "generation"
"""Key of the way of generating in `Student.ways`."""

_BATCHED, _ALONE, _UNCACHED = "batched", "alone", "uncached"

_STEPS = 3
"""Tokens that are generated to try out a way."""


def generate(
    student: Student, sources: Sequence[list[int]], start: Sequence[int], limit: int
) -> list[list[int]]:
    """The token ids that the student generates for each source.

    start: ids with which every target starts; not returned
    limit: most ids per source

    The end token and what follows it are not returned. Generated in the way that
    `find_way_to_generate` finds.
    """
    check_room(student, [len(source) for source in sources], [len(start) + limit])
    way = find_way_to_generate(student, sources, start)
    groups = [list(sources)] if way == _BATCHED else [[source] for source in sources]
    with evaluating(student), torch.no_grad(), _greedy(student, limit, way != _UNCACHED):
        return [
            _until(ids, student.eos_id)
            for rows in groups
            for ids in _run(student, rows, start).tolist()
        ]


def _run(student: Student, sources: Sequence[list[int]], start: Sequence[int]) -> torch.Tensor:
    """What the model generates for one batch, without what it was given: [B, at most `limit`]."""
    inputs, before = _inputs(student, sources, start)
    generated: torch.Tensor = student.model.generate(**inputs)
    return generated[:, before:]


def _inputs(
    student: Student, sources: Sequence[list[int]], start: Sequence[int]
) -> tuple[dict[str, Any], int]:
    """Arguments for the model's `generate`, and the number of tokens that come before its own."""
    if student.architecture == "decoder-only":
        # Generation continues at the right end of each row, so the padding is on the left here.
        rows = [[*reversed([*source, *start])] for source in sources]
        inputs = {
            "input_ids": pad(rows, student.pad_id).flip(1),
            "attention_mask": length_mask(rows).flip(1),
        }
        before = inputs["input_ids"].shape[1]
    else:
        decoder = torch.tensor([[student.decoder_start_id, *start]] * len(sources))
        inputs = {
            "input_ids": pad(sources, student.pad_id),
            "attention_mask": length_mask(sources),
            "decoder_input_ids": decoder,
        }
        before = 1 + len(start)
    return {name: tensor.to(student.device) for name, tensor in inputs.items()}, before


def find_way_to_generate(
    student: Student, sources: Sequence[list[int]], start: Sequence[int]
) -> str:
    """Find the fastest way of generating that agrees with the plain model on these rows: `batched`
    (all rows at once), `alone` (one row at a time), or `uncached` (so, and every token computed
    again for each new one).

    It is tried out with a few tokens after the longest and the shortest row, and again when longer
    ones come. The logits are compared: two tokens may be almost equally likely.
    """
    longest = max(len(source) for source in sources)
    known = student.ways.get(_WAY)
    if known is not None and (longest <= known[1] or known[0] == _UNCACHED):
        return known[0]
    rows = [max(sources, key=len), min(sources, key=len)]
    with in_fp32(student) as twin, torch.no_grad():
        wanted = [_plain_steps(twin, source, start) for source in rows]

        def agrees(way: str) -> bool:
            groups = [rows] if way == _BATCHED else [[row] for row in rows]
            found = [logits for group in groups for logits in _steps(twin, group, start)]
            return all(map(_continue_alike, found, wanted))

        found = next((w for w in (_BATCHED, _ALONE) if same(partial(agrees, w))), _UNCACHED)
    student.ways[_WAY] = (found, longest)
    return found


def _continue_alike(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> bool:
    """Whether logits [V] of a few steps agree, until two equally likely tokens part them."""
    for one, other in zip(found, wanted, strict=False):
        if not agree(one, other):
            return False
        if one.argmax() != other.argmax():
            return True
    return len(found) == len(wanted)


def _plain_steps(
    student: Student, source: Sequence[int], start: Sequence[int]
) -> list[torch.Tensor]:
    """Logits [V] of a few steps of greedy generation, by one forward pass for each.

    An encoder runs in the first of them alone, if the decoder gives the same numbers with what it
    then made of the source.
    """
    written = list(start)
    steps: list[torch.Tensor] = []
    states: torch.Tensor | None = None
    while len(steps) < _STEPS:
        logits, encoded = _next_logits(student, source, written, states)
        if not steps and encoded is not None:
            repeats = partial(_repeats, student, source, written, encoded, logits)
            states = encoded if same(repeats) else None
        steps.append(logits)
        written.append(int(logits.argmax()))
        if written[-1] == student.eos_id:
            break
    return steps


def _next_logits(
    student: Student,
    source: Sequence[int],
    written: Sequence[int],
    states: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Logits [V] of the token after `written`, and what an encoder made of `source`, [1, S, width].

    states: what it made of it before; None: it is run
    """
    device = student.device
    if student.architecture == "decoder-only":
        row = torch.tensor([[*source, *written]], device=device)
        return student.model(input_ids=row, use_cache=False).logits[0, -1].float(), None
    ids = torch.tensor([list(source)], device=device)
    found = student.model(
        **({"input_ids": ids} if states is None else {"encoder_outputs": (states,)}),
        attention_mask=torch.ones_like(ids),
        decoder_input_ids=torch.tensor([[student.decoder_start_id, *written]], device=device),
        use_cache=False,
    )
    return found.logits[0, -1].float(), found.encoder_last_hidden_state


def _repeats(
    student: Student,
    source: Sequence[int],
    written: Sequence[int],
    states: torch.Tensor,
    wanted: torch.Tensor,
) -> bool:
    """Whether the decoder gives the same numbers for what the encoder made before."""
    return agree(_next_logits(student, source, written, states)[0], wanted, TOLERANCE / 10)


def _steps(
    student: Student, sources: Sequence[list[int]], start: Sequence[int]
) -> list[list[torch.Tensor]]:
    """For each source the logits [V] of a few steps of the model's own generation, to its end."""
    inputs, before = _inputs(student, sources, start)
    with _greedy(student, _STEPS, cached=True):
        output = student.model.generate(**inputs, output_logits=True, return_dict_in_generate=True)
    tokens = output.sequences[:, before:].tolist()
    lengths = [len(_until(ids, student.eos_id)) + 1 for ids in tokens]
    return [
        [logits[row].float() for logits in output.logits[:length]]
        for row, length in enumerate(lengths)
    ]


@contextmanager
def _greedy(student: Student, limit: int, cached: bool) -> Iterator[None]:
    """Inside, the model generates the most likely token each time. Its own generation settings
    (forced first tokens, repetition penalties, minimum lengths) do not apply."""
    from transformers import GenerationConfig

    model = student.model
    kept = model.generation_config
    causal = student.architecture == "decoder-only"
    model.generation_config = GenerationConfig(
        max_new_tokens=limit,
        do_sample=False,
        num_beams=1,
        use_cache=cached,
        eos_token_id=student.eos_id,
        pad_token_id=student.pad_id,
        decoder_start_token_id=None if causal else student.decoder_start_id,
    )
    try:
        yield
    finally:
        model.generation_config = kept


def _until(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids
