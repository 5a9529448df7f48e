from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from tutelage.student.fast import head as head_module
from tutelage.student.fast.head import free_logits_memory, token_losses


def _gradients(
    loss: Callable[..., torch.Tensor], inputs: list[torch.Tensor]
) -> list[torch.Tensor | None]:
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    value = loss(*leaves)
    # Each token has its own weight, as in the weighted loss.
    (value * torch.linspace(0.1, 2.0, len(value))).sum().backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("room", [4 * 50, 4 * 50 * 3, 1 << 30])
@pytest.mark.parametrize("biased", [False, True])
def test_head_and_loss_as_one_operation_give_the_same(
    monkeypatch: pytest.MonkeyPatch, room: int, biased: bool
) -> None:
    monkeypatch.setitem(head_module._CHUNK_BYTES, "cpu", room)
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


def test_bf16_only_rounds_the_gradient_of_the_logits() -> None:
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


def test_a_micro_batch_uses_the_memory_of_the_one_before() -> None:
    free_logits_memory()
    weight = torch.randn(50, 16, requires_grad=True)

    def learn(rows: int) -> int:
        losses = token_losses(torch.randn(rows, 16), weight, None, torch.arange(rows))
        assert "logits" not in vars(head_module._thread)  # it is in use
        losses.sum().backward()
        return head_module._thread.logits.data_ptr()

    first = learn(9)
    assert learn(4) == first
    assert head_module._thread.logits.numel() == 9 * 50
    free_logits_memory()
    assert not vars(head_module._thread)


def test_two_forward_passes_before_a_backward_pass_do_not_share_memory() -> None:
    torch.manual_seed(0)
    weight = torch.randn(50, 16)
    inputs = [torch.randn(7, 16), torch.randn(7, 16)]
    targets = [torch.randint(50, (7,)), torch.randint(50, (7,))]

    def together(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        leaves = [one, other]
        parts = [token_losses(h, weight, None, t) for h, t in zip(leaves, targets, strict=True)]
        return torch.cat(parts)

    def plain(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [
                functional.cross_entropy(h @ weight.t(), t, reduction="none")
                for h, t in zip((one, other), targets, strict=True)
            ]
        )

    for found, expected in zip(
        _gradients(together, inputs), _gradients(plain, inputs), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_a_gradient_can_be_taken_once() -> None:
    hidden = torch.randn(3, 4, requires_grad=True)
    loss = token_losses(hidden, torch.randn(5, 4), None, torch.tensor([1, 2, 3])).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be taken once"):
        loss.backward()


def test_a_target_of_tiny_probability_has_a_finite_loss() -> None:
    hidden = torch.tensor([[200.0, 0.0]], requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    loss = token_losses(hidden, weight, None, torch.tensor([1]))
    assert loss.item() == pytest.approx(400.0)
    loss.sum().backward()
    assert hidden.grad is not None and hidden.grad.tolist() == [[2.0, 0.0]]
