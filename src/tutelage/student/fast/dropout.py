"""Dropout whose random numbers are cheap to draw on a CPU: the same distribution, other numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_RATE_STEPS = 1 << 15
"""The dropout rate is rounded to a multiple of 1 / _RATE_STEPS."""

_thread = threading.local()
"""`generator`: what this thread's dropout draws from; if it is absent, the CPU's default one."""

_EAGER = "tutelage_eager"
"""The name under which transformers knows `_eager_attention`."""

_T5_ATTENTION = frozenset({"t5", "mt5"})
"""Model types whose attention `_eager_attention` computes. Others keep their own attention, which
by default drops nothing."""


@contextmanager
def dropout_generator(seed: int) -> Iterator[None]:
    """Inside, fast dropout in this thread draws from a generator with this seed."""
    _thread.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        del _thread.generator


def _dropout_mask(like: torch.Tensor, rate: float) -> torch.Tensor:
    """0 with probability `rate`, else 1 / (1 − rate), in the shape and type of `like`.

    Draws sixteen bits per value; torch draws a double, which costs ten times as much. Shifts turn
    the sixteen bits into −1 (dropped) or 0, and these mask the bits of a bfloat16.
    """
    count = like.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64)
    bits.random_(-(1 << 63), None, generator=getattr(_thread, "generator", None))
    draws = bits.view(torch.int16)[:count]
    lowest = -_RATE_STEPS // 2
    draws.bitwise_right_shift_(1).sub_(lowest + round(rate * _RATE_STEPS)).bitwise_right_shift_(15)
    value = 1 / (1 - rate) if like.dtype == torch.bfloat16 else 1.0
    kept = int(torch.tensor(value, dtype=torch.bfloat16).view(torch.int16))
    mask = draws.bitwise_not_().bitwise_and_(kept).view(torch.bfloat16).view(like.shape)
    if like.dtype == torch.bfloat16:
        return mask
    return mask.to(like.dtype).mul_(1 / (1 - rate))


def _drop(values: torch.Tensor, rate: float) -> torch.Tensor:
    return values * _dropout_mask(values, rate)


class _Dropout(nn.Dropout):
    """torch's dropout with random numbers that are cheaper to draw."""

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
    """T5's plain attention with fast dropout. query, key, value: [B, heads, length, width]."""
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


def use_fast_dropout(model: Any) -> None:
    """Replace the dropout layers of `model`, which is to train on a CPU."""
    for parent in model.modules():
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                replacement = _Dropout(child.p)
                setattr(parent, name, replacement.train(child.training))
    if model.config.model_type in _T5_ATTENTION:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import eager_mask

        AttentionInterface.register(_EAGER, _eager_attention)
        AttentionMaskInterface.register(_EAGER, eager_mask)
        model.set_attn_implementation(_EAGER)
