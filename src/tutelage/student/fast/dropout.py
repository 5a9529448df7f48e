"""Dropout whose random numbers are cheap on a CPU: the same distribution, other draws."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_STEPS = 1 << 15
"""Dropout's rate is rounded to a multiple of one in so many."""

_draws = threading.local()
"""`generator`: what this thread's dropout draws from; without it the CPU's default one."""

_EAGER = "tutelage_eager"
"""transformers' name for `_eager_attention`."""


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Inside, in this thread, our dropout layers draw from a generator of their own."""
    _draws.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        del _draws.generator


def _dropout_mask(like: torch.Tensor, rate: float) -> torch.Tensor:
    """0 with probability `rate`, else 1 / (1 − rate), in the shape and type of `like`.

    Drawn by the thread's generator (`drawing_from`), sixteen bits for each value: torch's own way
    draws a double and costs ten times as much. The sixteen bits become −1 (dropped) or 0 by
    shifting, and then by masking the bits of a bfloat16.
    """
    count = like.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64)
    bits.random_(-(1 << 63), None, generator=getattr(_draws, "generator", None))
    draws = bits.view(torch.int16)[:count]
    lowest = -_STEPS // 2
    draws.bitwise_right_shift_(1).sub_(lowest + round(rate * _STEPS)).bitwise_right_shift_(15)
    value = 1 / (1 - rate) if like.dtype == torch.bfloat16 else 1.0
    kept = int(torch.tensor(value, dtype=torch.bfloat16).view(torch.int16))
    mask = draws.bitwise_not_().bitwise_and_(kept).view(torch.bfloat16).view(like.shape)
    if like.dtype == torch.bfloat16:
        return mask
    return mask.to(like.dtype).mul_(1 / (1 - rate))


def _drop(values: torch.Tensor, rate: float) -> torch.Tensor:
    return values * _dropout_mask(values, rate)


class _Dropout(nn.Dropout):
    """torch's, with cheaper draws. The same distribution, other draws."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or not 0 < self.p < 1 or input.device.type != "cpu":
            return super().forward(input)
        return _drop(input, self.p)


def _eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float = 1.0,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """T5's plain attention with our dropout. query, key, value: [B, heads, length, width]."""
    scores = query.contiguous() @ key.transpose(2, 3).contiguous()
    if scaling != 1:
        scores = scores * scaling
    for added in (position_bias, attention_mask):
        if added is not None:
            scores = scores + added
    weights = torch.softmax(scores, -1)
    if dropout and module.training:
        weights = _drop(weights, dropout)
    output = (weights @ value.contiguous()).transpose(1, 2).contiguous()
    return output, weights


_OWN_ATTENTION = frozenset({"t5", "mt5"})
"""Model types whose attention `_eager_attention` is. What others do in training drops nothing."""


def use_fast_dropout(model: Any) -> None:
    """Give `model`, which is to train on a CPU, dropout layers that draw cheaply."""
    for parent in model.modules():
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                replacement = _Dropout(child.p)
                setattr(parent, name, replacement.train(child.training))
    if model.config.model_type in _OWN_ATTENTION:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import eager_mask

        AttentionInterface.register(_EAGER, _eager_attention)
        AttentionMaskInterface.register(_EAGER, eager_mask)
        model.set_attn_implementation(_EAGER)
