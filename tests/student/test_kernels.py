from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from tutelage.student import kernels
from tutelage.student.kernels import token_losses, use_fast_dropout
from tutelage.student.model import Student


def _gradients(
    loss: Callable[..., torch.Tensor], inputs: list[torch.Tensor]
) -> list[torch.Tensor | None]:
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    value = loss(*leaves)
    # A share of its own for each token, as segments have.
    (value * torch.linspace(0.1, 2.0, len(value))).sum().backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("room", [4 * 50, 4 * 50 * 3, 1 << 30])
@pytest.mark.parametrize("biased", [False, True])
def test_head_and_loss_in_one_are_head_and_loss(
    monkeypatch: pytest.MonkeyPatch, room: int, biased: bool
) -> None:
    monkeypatch.setitem(kernels._CHUNK_BYTES, "cpu", room)
    torch.manual_seed(0)
    inputs = [torch.randn(7, 16), torch.randn(50, 16), torch.randn(50)][: 3 if biased else 2]
    targets = torch.tensor([0, 49, 3, 3, 20, 1, 7])

    def ours(hidden: torch.Tensor, weight: torch.Tensor, *bias: torch.Tensor) -> torch.Tensor:
        return token_losses(hidden, weight, *(bias or (None,)), targets)

    def plain(hidden: torch.Tensor, weight: torch.Tensor, *bias: torch.Tensor) -> torch.Tensor:
        logits = functional.linear(hidden, weight, *bias)
        return functional.cross_entropy(logits, targets, reduction="none")

    for one, other in zip(_gradients(ours, inputs), _gradients(plain, inputs), strict=True):
        torch.testing.assert_close(one, other)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    token_losses(hidden, weight, None, torch.tensor([1, 2, 3])).sum().backward()
    assert weight.grad is None
    assert hidden.grad is not None and bool(hidden.grad.any())


def test_bf16_loses_no_more_than_rounding_the_gradient_of_the_logits() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(40, 32), torch.randn(300, 32) / 4
    targets = torch.randint(300, (40,))
    exact = _gradients(lambda h, w: token_losses(h, w, None, targets), [hidden, weight])
    rounded = _gradients(
        lambda h, w: token_losses(h, w, None, targets), [hidden.bfloat16(), weight.bfloat16()]
    )
    assert rounded[0] is not None and rounded[0].dtype == torch.float32
    for one, other in zip(exact, rounded, strict=True):
        assert one is not None and other is not None
        assert (one - other.float()).norm() < 0.02 * one.norm()


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_scales_the_rest(rate: float, dtype: torch.dtype) -> None:
    layer = kernels._Dropout(rate)
    values = torch.ones(501, 333, dtype=dtype, requires_grad=True)
    torch.manual_seed(1)
    found = layer(values)
    found.sum().backward()
    kept = torch.tensor(1 / (1 - rate), dtype=dtype)
    tolerance = 0.0 if dtype == torch.bfloat16 else 1e-6
    assert bool(((found == 0) | ((found - kept).abs() <= tolerance)).all())
    dropped = (found == 0).double()
    sigma = (rate * (1 - rate) / dropped.numel()) ** 0.5
    assert abs(dropped.mean().item() - rate) < 4 * sigma
    # No pattern along either dimension, which a misread word would leave.
    for places in (dropped[:-1] * dropped[1:], dropped[:, :-1] * dropped[:, 1:]):
        assert abs(places.mean().item() - rate**2) < 5 * rate / places.numel() ** 0.5
    assert values.grad is not None and torch.equal(values.grad == 0, found == 0)
    torch.manual_seed(1)
    assert torch.equal(layer(values), found)
    assert not torch.equal(layer(values), found)
    assert layer.eval()(values) is values


def test_a_t5_that_drops_nothing_computes_the_same(encoder_decoder: Student) -> None:
    model = encoder_decoder.model.train()
    model.set_attn_implementation("eager")
    ids = torch.tensor([[5, 9, 12, 40, 1], [7, 8, 1, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": ids}

    def run() -> list[torch.Tensor]:
        model.zero_grad()
        output = model(**inputs)
        output.loss.backward()
        return [output.logits.detach(), *(p.grad.clone() for p in model.parameters())]

    before = run()
    use_fast_dropout(model)
    assert model.encoder.config._attn_implementation == kernels._EAGER
    for one, other in zip(before, run(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_t5_drops_in_its_attention_too(encoder_decoder: Student) -> None:
    model = encoder_decoder.model.train()
    use_fast_dropout(model)
    attention = model.encoder.block[0].layer[0].SelfAttention
    states = torch.randn(2, 6, model.config.d_model)
    attention.dropout = 0.5
    one, other = attention(states)[0], attention(states)[0]
    assert not torch.equal(one, other)
    model.eval()
    assert torch.equal(attention(states)[0], attention(states)[0])
