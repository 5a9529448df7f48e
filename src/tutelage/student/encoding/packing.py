"""Several continuations of one source in one row of a causal model.

A packed row is [source, branch 1, branch 2, …]. A branch attends to the source and to itself only,
and its positions continue the source's, so that each branch gets the logits that it would get
alone, while the source is computed once. Labels are scored this way, and so are the two tasks of
`multitask` in training.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tutelage.student.model.agreement import agree, in_fp32, same
from tutelage.student.model.student import Student

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


def branch_mask(
    student: Student, owners: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor | dict[str, torch.Tensor]:
    """The attention mask of packed rows, in the form that was found to suit the student.

    owners, positions: [B, T], as in `Packed`

    A mask is [B, 1, T, T]: 0 where a position (dimension 3) attends to another (dimension 4), else
    the lowest number of the model's dtype. It is added to the attention scores; every attention
    implementation supports that. A model whose layers attend to windows of different kinds gets one
    mask for each kind.
    """
    seen = owners[:, None, :]
    # Padding attends to padding, so that no row of the softmax is empty.
    mask = (seen == 0) | (seen == owners[:, :, None])
    mask &= torch.ones(mask.shape[1:], dtype=torch.bool, device=owners.device).tril()
    dtype = student.model.dtype

    def added(mask: torch.Tensor) -> torch.Tensor:
        values = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return values.masked_fill_(~mask, torch.finfo(dtype).min)[:, None]

    if student.packed_mask == PLAIN:
        return added(mask)
    windows = _windows(student)
    if student.packed_mask == BY_LAYER:
        return {kind: added(mask & window(positions)) for kind, window in windows.items()}
    return added(mask & windows[student.packed_mask](positions))


PLAIN = "plain"
"""Form of a mask: the same for all layers, without a window."""

BY_LAYER = "by layer"
"""Form of a mask: one for each kind of layer, by the kind's name in transformers."""

Window = Callable[[torch.Tensor], torch.Tensor]
"""From positions [B, T] to a mask [B, T, T] of what lies in the window of each position."""


def _windows(student: Student) -> dict[str, Window]:
    """What the layers of each kind can attend to, by the kind's name in transformers.

    Windows are measured in positions, not in columns: a branch's positions continue its source's.
    """
    config = student.model.config.get_text_config()
    width = int(getattr(config, "sliding_window", None) or 0)
    chunk = int(getattr(config, "attention_chunk_size", None) or 0)

    def everything(at: torch.Tensor) -> torch.Tensor:
        return torch.ones((*at.shape, at.shape[1]), dtype=torch.bool, device=at.device)

    def sliding(at: torch.Tensor) -> torch.Tensor:
        near: torch.Tensor = at[:, :, None] - at[:, None, :] < width
        return near

    def chunked(at: torch.Tensor) -> torch.Tensor:
        same_chunk: torch.Tensor = at[:, :, None] // chunk == at[:, None, :] // chunk
        return same_chunk

    windows: dict[str, Window] = {"full_attention": everything}
    if width:
        windows["sliding_attention"] = sliding
    if chunk:
        windows["chunked_attention"] = chunked
    return windows


def _forms(student: Student) -> list[str]:
    """Forms of a mask to try out, the cheapest first."""
    windowed = [kind for kind in _windows(student) if kind != "full_attention"]
    return [PLAIN, *([BY_LAYER] if windowed else []), *windowed]


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


def can_pack(student: Student, length: int = 0, branch: int = 0) -> bool:
    """Whether this student computes packed rows as it computes their branches one by one.

    length: positions of the longest sequence that is to be packed
    branch: positions of its longest branch

    Tried out with a row of that length, and again when longer ones come: a model may attend to a
    window that shorter rows do not exceed. Not every model takes a four-dimensional mask and
    explicit positions. An encoder-decoder needs no packing.
    """
    branch = max(branch, _SHORTEST_BRANCH)
    length = max(length, branch + _SHORTEST)
    tried = student.packing_tried
    untried = student.can_pack is None or length > tried[0] or branch > tried[1]
    if student.can_pack is not False and untried:
        student.can_pack = student.architecture == "decoder-only" and _find_form(
            student, length, branch
        )
        student.packing_tried = (max(length, tried[0]), max(branch, tried[1]))
    return bool(student.can_pack)


_SHORTEST, _SHORTEST_BRANCH = 16, 5
"""Positions of source and branch that packing is tried out with, at least."""


def _find_form(student: Student, length: int, branch: int) -> bool:
    """Find a form of the mask with which packed and separate rows give the same logits."""
    with in_fp32(student) as twin, torch.no_grad():
        rows = _rows_to_try(twin, length, branch)
        alone: list[torch.Tensor] = []

        def agrees() -> bool:
            if not alone:
                alone.extend(_alone(twin, rows))
            return agree(_together(twin, rows), torch.cat(alone))

        before = twin.packed_mask
        for form in _forms(student):
            twin.packed_mask = form
            if same(agrees):
                return True
        # Shorter rows that are packed already keep the form that was found for them.
        twin.packed_mask = before
        return False


def _rows_to_try(student: Student, length: int, branch: int) -> list[Row]:
    """A row whose longest sequence has `length` positions, of them `branch` in a branch, with a
    second branch after it; and a short row, which is padded."""
    parts = iter(student.any_tokens(length + 2 * _SHORTEST))

    def take(count: int) -> list[int]:
        return list(itertools.islice(parts, count))

    first = (take(length - branch), [take(branch), take(_SHORTEST_BRANCH - 2)])
    return [first, (take(_SHORTEST), [take(2), take(_SHORTEST_BRANCH)])]


def _together(student: Student, rows: Sequence[Row]) -> torch.Tensor:
    """Logits of all branches' tokens, computed in packed rows: [N, vocabulary]."""
    packed = pack(rows, student.pad_id)
    device = student.device
    positions = packed.position_ids.to(device)
    logits = student.model(
        input_ids=packed.input_ids.to(device),
        position_ids=positions,
        attention_mask=branch_mask(student, packed.owners.to(device), positions),
        use_cache=False,
    ).logits
    return torch.cat(
        [
            logits[row, start : start + len(branch)]
            for row, (_, branches) in enumerate(rows)
            for start, branch in zip(packed.starts[row], branches, strict=True)
        ]
    )


def _alone(student: Student, rows: Sequence[Row]) -> list[torch.Tensor]:
    """The same logits, one forward pass of the plain model for each branch."""
    return [
        student.model(
            input_ids=torch.tensor([[*source, *branch]], device=student.device), use_cache=False
        ).logits[0, len(source) :]
        for source, branches in rows
        for branch in branches
    ]
