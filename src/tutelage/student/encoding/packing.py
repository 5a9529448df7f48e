"""Several continuations of one source in one pass of a causal model.

A packed row is [source, branch 1, branch 2, …]. A branch sees the source and itself alone, and its
positions go on from the source's, so that each branch reads as if it stood there by itself: what is
shared is computed once. Labels are scored so, and the tasks of `multitask` are learnt so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tutelage.student.model.student import PROBE_TOLERANCE, Student

Row = tuple[Sequence[int], Sequence[Sequence[int]]]
"""A source and its branches, as token ids; a branch may be empty."""

_NOBODY = -1
"""Owner of padding."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Packed rows as tensors (B rows, T positions).

    input_ids:    [B, T]
    position_ids: [B, T]
    owners:       [B, T], the branch that a position belongs to, from 1; 0 for the source, −1 for
                  padding: what `branch_mask` makes a mask of, on the device where it is needed
    starts:       for each row, the column at which each of its branches begins
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    owners: torch.Tensor
    starts: list[list[int]]


def branch_mask(owners: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[B, 1, T, T] of `Packed.owners` [B, T]: 0 where a position (third) sees another (fourth), and
    the lowest number there is where it does not. It is added to the attention's scores, which every
    implementation understands; dtype: the model's own."""
    seen = owners[:, None, :]
    # Padding sees padding, so that no row of the softmax is empty.
    mask = (seen == 0) | (seen == owners[:, :, None])
    mask &= torch.ones(mask.shape[1:], dtype=torch.bool, device=owners.device).tril()
    added = torch.zeros(mask.shape, dtype=dtype, device=owners.device)
    return added.masked_fill_(~mask, torch.finfo(dtype).min)[:, None]


def pack(rows: Sequence[Row], filler: int) -> Packed:
    """One packed row for each source with its branches, filled up on the right."""
    ids, positions, owners, starts = [], [], [], []
    for source, branches in rows:
        row, place, owner = list(source), list(range(len(source))), [0] * len(source)
        begins = []
        for number, branch in enumerate(branches, 1):
            begins.append(len(row))
            row.extend(branch)
            place.extend(range(len(source), len(source) + len(branch)))
            owner.extend([number] * len(branch))
        ids.append(row)
        positions.append(place)
        owners.append(owner)
        starts.append(begins)
    width = max(len(row) for row in ids)

    def fill(values: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        return torch.tensor([[*v, *[value] * (width - len(v))] for v in values])

    return Packed(fill(ids, filler), fill(positions, 0), fill(owners, _NOBODY), starts)


def can_pack(student: Student) -> bool:
    """Whether this student reads packed rows as it reads their branches one by one.

    Found out by trying, once: not every model takes a mask of four dimensions and positions of
    its own, and an encoder-decoder needs none.
    """
    if student.can_pack is None:
        student.can_pack = student.architecture == "decoder-only" and _works(student)
    return student.can_pack


def _works(student: Student) -> bool:
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
                    mine = together[i, start : start + len(branch)]
                    if bool((mine - alone[len(source) :]).abs().max() >= limit):
                        return False
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    finally:
        student.model.train(training)
    return True
