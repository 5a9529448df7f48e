from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from tutelage.student.fast.norm import use_fast_norm
from tutelage.student.model.student import Student

FP32 = torch.float32


def _learnt(norm: Any, x: torch.Tensor, shares: torch.Tensor) -> list[torch.Tensor]:
    """What it makes of x, and the gradients of x and of its weight."""
    leaf = x.clone().requires_grad_()
    norm.weight.grad = None
    y = norm(leaf)
    y.backward(shares.to(y.dtype))
    return [tensor.detach().to(FP32) for tensor in (y, leaf.grad, norm.weight.grad)]


@pytest.mark.parametrize("kind", [T5LayerNorm, LlamaRMSNorm])
@pytest.mark.parametrize("dtype", [FP32, torch.bfloat16])
def test_the_fast_norm_is_the_models_own(kind: type[Any], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = kind(64)
    norm.weight.data = torch.linspace(0.5, 2, 64)
    x, shares = 3 * torch.randn(2, 9, 64), torch.randn(2, 9, 64)
    exact = _learnt(norm, x, shares)
    norm.to(dtype)
    own = _learnt(norm, x.to(dtype), shares)
    model = nn.Sequential(norm)
    assert use_fast_norm(model) == 1
    ours = _learnt(norm, x.to(dtype), shares)
    assert isinstance(norm, kind) and type(norm).__name__ == kind.__name__
    if dtype == FP32:
        for one, other in zip(ours, exact, strict=True):
            torch.testing.assert_close(one, other)
        return
    torch.testing.assert_close(ours[0], own[0], rtol=0.01, atol=0)
    for mine, theirs, true in zip(ours, own, exact, strict=True):
        assert (mine - true).norm() <= 1.05 * (theirs - true).norm()
        assert (mine - true).norm() < 0.005 * true.norm()


def test_a_frozen_norm_passes_its_gradient_on() -> None:
    norm = T5LayerNorm(8)
    norm.weight.requires_grad_(False)
    use_fast_norm(nn.Sequential(norm))
    x = torch.randn(3, 8, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad is not None and norm.weight.grad is None


class _Other(T5LayerNorm):  # type: ignore[misc]
    """Adds its epsilon elsewhere."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        mean = hidden_states.pow(2).mean(-1, keepdim=True)
        return self.weight * hidden_states / (mean.sqrt() + self.variance_epsilon)


def test_a_norm_that_computes_something_else_is_left_alone() -> None:
    model = nn.Sequential(_Other(8), nn.LayerNorm(8), nn.RMSNorm(8), nn.Linear(8, 8))
    kinds = [type(module) for module in model]
    assert use_fast_norm(model) == 0
    assert [type(module) for module in model] == kinds


def test_every_norm_of_a_student_is_replaced_and_its_copies_keep_it(student: Student) -> None:
    found = sum("Norm" in type(module).__name__ for module in student.model.modules())
    assert use_fast_norm(student.model) == found > 0
    double = copy.deepcopy(student.model)
    kinds = {type(module) for module in double.modules()}
    assert use_fast_norm(double) == found
    assert {type(module) for module in double.modules()} == kinds
