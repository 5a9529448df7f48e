"""Root-mean-square norm as one operation with a gradient of its own.

Models write it as half a dozen operations, each of which makes an fp32 tensor, and as many again
in the backward pass: on a CPU twice the time (docs/performance.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class _RootMeanSquare(torch.autograd.Function):
    """y = w · x · r with r = (mean(x²) + ε)^(−½), the mean over the last dimension, r in fp32.

    With h = x · r:  dw = Σ g · h and dx = r · (g · w − h · mean(g · w · h)).
    Source: Zhang and Sennrich 2019 (arXiv 1910.07467), equation 4.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        values = x.float()
        scale = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        scale.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        # Rounded before the weight, as models that come from T5 do it.
        normal: torch.Tensor = weight * (values * scale).to(x.dtype)
        return normal

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        width = x.shape[-1]
        normal = (x * scale).view(-1, width)
        gradient = gradients[0].reshape(-1, width)
        product = gradient * normal  # fp32, like `normal`
        for_x = for_weight = None
        if ctx.needs_input_grad[1]:
            for_weight = product.sum(0).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            wide = weight.float()
            means = torch.mv(product, wide).div_(width)[:, None]
            change = (gradient * wide).addcmul_(normal, means, value=-1)
            for_x = change.mul_(scale.view(-1, 1)).to(x.dtype).view(x.shape)
        return for_x, for_weight, None


def _forward(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _RootMeanSquare.apply(  # type: ignore[no-untyped-call]
        hidden_states, module.weight, module.variance_epsilon
    )
    return result


def _is_root_mean_square(module: nn.Module) -> bool:
    """Whether what `module` computes is this norm: its parts look like it, and a trial agrees."""
    parts = dict(module.named_parameters())
    if list(parts) != ["weight"] or not hasattr(module, "variance_epsilon"):
        return False
    weight = parts["weight"]
    if weight.dim() != 1:
        return False
    # Values of all sizes, so that another place for epsilon or for the rounding shows.
    trial = torch.linspace(-2, 3, 4 * len(weight), dtype=weight.dtype).view(4, -1)
    trial = trial * torch.tensor([[1e-3], [1e-2], [1.0], [1e2]], dtype=weight.dtype)
    with torch.no_grad():
        tolerance = 1e-2 if weight.dtype == torch.bfloat16 else 1e-5
        return torch.allclose(module(trial), _forward(module, trial), rtol=tolerance)


def use_fast_norm(model: nn.Module) -> int:
    """Give `model`, which is to train on a CPU, this norm where it has one; how many it has."""
    kinds: dict[type, type] = {}
    count = 0
    for module in model.modules():
        if not _is_root_mean_square(module):
            continue
        count += 1
        kind = type(module)
        if kind.forward is _forward:
            continue
        if kind not in kinds:
            kinds[kind] = type(kind.__name__, (kind,), {"forward": _forward})
        # Another class of the same name, not another module: hooks, names and weights stay.
        module.__class__ = kinds[kind]
    return count
