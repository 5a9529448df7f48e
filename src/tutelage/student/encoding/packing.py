"""Several continuations of one source in one row of a causal model.

A packed row is [source, branch 1, branch 2, …]. A branch attends to the source and to itself only,
and its positions continue the source's, so that each branch gets the logits that it would get
alone, while the source is computed once. Labels are scored this way, and so are the two tasks of
`multitask` in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tutelage.student.model.student import PROBE_TOLERANCE, Student

Row = tuple[Sequence[int], Sequence[Sequence[int]]]
"""A source and its branches, as token ids; a branch may be empty."""

_PADDING = -1
"""Owner of padding."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Packed rows as tensors (B rows, T positions).

    input_ids:    [B, T]
    position_ids: [B, T]
    owners:       [B, T], the branch that a position belongs to, from 1; 0 for the source, −1 for
                  padding. `branch_mask` makes the attention mask from it, on the model's device
    starts:       for each row, the column at which each of its branches starts
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    owners: torch.Tensor
    starts: list[list[int]]


def branch_mask(owners: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The attention mask [B, 1, T, T] of packed rows with `owners` [B, T].

    0 where a position (dimension 3) attends to another (dimension 4), else the lowest number of
    `dtype`, which is the model's. The mask is added to the attention scores; every attention
    implementation supports that.
    """
    seen = owners[:, None, :]
    # Padding attends to padding, so that no row of the softmax is empty.
    mask = (seen == 0) | (seen == owners[:, :, None])
    mask &= torch.ones(mask.shape[1:], dtype=torch.bool, device=owners.device).tril()
    added = torch.zeros(mask.shape, dtype=dtype, device=owners.device)
    return added.masked_fill_(~mask, torch.finfo(dtype).min)[:, None]


def pack(rows: Sequence[Row], filler: int) -> Packed:
    """One packed row per source and its branches, padded on the right with `filler`."""
    ids, positions, owners, starts = [], [], [], []
    for source, branches in rows:
        row, places, owner = list(source), list(range(len(source))), [0] * len(source)
        begins = []
        for number, branch in enumerate(branches, 1):
            begins.append(len(row))
            row.extend(branch)
            places.extend(range(len(source), len(source) + len(branch)))
            owner.extend([number] * len(branch))
        ids.append(row)
        positions.append(places)
        owners.append(owner)
        starts.append(begins)
    width = max(len(row) for row in ids)

    def fill(values: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        return torch.tensor([[*v, *[value] * (width - len(v))] for v in values])

    return Packed(fill(ids, filler), fill(positions, 0), fill(owners, _PADDING), starts)


def can_pack(student: Student) -> bool:
    """Whether this student computes packed rows as it computes their branches one by one.

    Tried out once: not every model takes a four-dimensional mask and explicit positions. An
    encoder-decoder needs no packing.
    """
    if student.can_pack is None:
        student.can_pack = student.architecture == "decoder-only" and _agree(student)
    return student.can_pack


def _agree(student: Student) -> bool:
    """Whether packed and separate rows give the same logits, up to PROBE_TOLERANCE."""
    vocabulary = student.model.config.get_text_config().vocab_size
    tokens = [i % vocabulary for i in range(5, 40)]
    rows: list[Row] = [
        (tokens[:9], [tokens[20:24], tokens[28:30]]),
        (tokens[9:14], [tokens[24:25], tokens[30:33]]),
    ]
    device = student.device
    training = student.model.training
    student.model.eval()
    try:
        with torch.no_grad():
            packed = pack(rows, student.pad_id)
            together = student.model(
                input_ids=packed.input_ids.to(device),
                position_ids=packed.position_ids.to(device),
                attention_mask=branch_mask(packed.owners.to(device), student.model.dtype),
                use_cache=False,
            ).logits
            for i, (source, branches) in enumerate(rows):
                for start, branch in zip(packed.starts[i], branches, strict=True):
                    whole = torch.tensor([[*source, *branch]], device=device)
                    alone = student.model(input_ids=whole, use_cache=False).logits[0]
                    tolerance = PROBE_TOLERANCE.get(student.model.dtype, 0.0)
                    limit = tolerance * alone.abs().max().clamp(min=1)
                    found = together[i, start : start + len(branch)]
                    if bool((found - alone[len(source) :]).abs().max() >= limit):
                        return False
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    finally:
        student.model.train(training)
    return True
