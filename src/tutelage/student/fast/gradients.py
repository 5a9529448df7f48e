"""Gradients of embeddings, added where they are kept.

autograd has every operation make a gradient as large as its weight, which is then added up: for a
weight that is input and output embedding at once that is three tensors of the whole vocabulary in
every pass, of which two are zero but for the rows that were read. (For the other layers' weights
the same was measured to gain nothing: docs/performance.md.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

_MARK = "adds_gradients"
"""Attribute of a head whose gradients are added to `weight.grad` in the backward pass itself."""

_FEW = 4
"""A pass reads few rows of an embedding that has so many times as many as there are tokens."""

_PART = 1 << 20
"""Values that are added at once where types differ: what a cache holds."""


@torch.no_grad()
def add_to(total: torch.Tensor, gradient: torch.Tensor) -> None:
    """total += gradient, of whatever type, without a second tensor of that size."""
    if total.dtype == gradient.dtype:
        total.add_(gradient)
        return
    flat, added = total.view(-1), gradient.reshape(-1)
    for start in range(0, len(flat), _PART):
        flat[start : start + _PART].add_(added[start : start + _PART])


@torch.no_grad()
def add_product(weight: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """weight.grad += left @ right, rounded once. left: [n, m]; right: [m, width]"""
    if weight.grad is None:
        weight.grad = left @ right
    else:
        weight.grad.addmm_(left, right)


@torch.no_grad()
def add_rows(weight: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor) -> None:
    """weight.grad[ids] += rows, those of one id added up in fp32 and rounded once.

    ids: [n], in which an id may come again; rows: [n, width]
    """
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    met, places = ids.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    sums = weight.grad[met].float().index_add_(0, places, rows.float())
    weight.grad[met] = sums.to(weight.dtype)


class _Lookup(torch.autograd.Function):
    """Rows of an embedding's weight, whose gradient goes straight into `weight.grad`."""

    @staticmethod
    def forward(
        ctx: Any, ids: torch.Tensor, weight: torch.Tensor, padding: int | None
    ) -> torch.Tensor:
        ctx.weight, ctx.padding = weight, padding
        ctx.save_for_backward(ids)
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        ids = ctx.saved_tensors[0].flatten()
        rows = gradients[0].reshape(len(ids), -1)
        if ctx.padding is not None:
            kept = (ids != ctx.padding).nonzero()[:, 0]
            ids, rows = ids[kept], rows[kept]
        add_rows(ctx.weight, ids, rows)
        return None, None, None


class _Embedding(nn.Embedding):
    """torch's, with another backward pass where few of its rows are read."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled() or input.numel() * _FEW > self.num_embeddings:
            return super().forward(input)
        rows: torch.Tensor = _Lookup.apply(input, self.weight, self.padding_idx)  # type: ignore[no-untyped-call]
        return rows


def add_gradients_in_place(model: Any) -> None:
    """Have the gradients of the model's output and input embeddings added where they are kept.

    For a plain training loop: hooks on these gradients and `torch.autograd.grad` see nothing of
    them.
    """
    wide = {id(model.get_input_embeddings().weight)}
    head = model.get_output_embeddings()
    if head is not None:
        setattr(head, _MARK, True)
        wide.add(id(head.weight))
    for module in model.modules():
        if (
            type(module) is nn.Embedding
            and id(module.weight) in wide
            and module.max_norm is None
            and not module.scale_grad_by_freq
            and not module.sparse
        ):
            # Another class, not another module: names, hooks and shared weights stay.
            module.__class__ = _Embedding


def adds_in_place(head: nn.Module) -> bool:
    """Whether the gradient of `head`'s weight is for `add_product`."""
    return getattr(head, _MARK, False)
