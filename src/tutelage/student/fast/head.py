"""An output head and the cross-entropy after it, as one operation.

The head is by far the widest layer of a small model, so that what it makes is kept once, in memory
that one pass leaves to the next. docs/performance.md has what that is worth.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch.nn import functional

_CHUNK_BYTES = {"cpu": 8 << 20}
_CHUNK_BYTES_ELSEWHERE = 512 << 20
"""fp32 logits that are worked on at once: on a CPU what a cache holds, elsewhere what keeps kernels
long."""

_room = threading.local()
"""`logits`: memory in which this thread's next pass may put its logits. The C library would give
back what is so large, and every pass would wait for the kernel to clear the same pages again."""


class _HeadAndLoss(torch.autograd.Function):
    """Cross-entropy of linear(hidden, weight, bias), with one [N, vocabulary] tensor in all.

    The usual way keeps the logits, their fp32 copy, their log-softmax and the gradients of all
    three. Here the logits' place takes, chunk by chunk, their gradient d loss_n / d logits_n. A
    token's share in the loss then scales narrow rows: those of `hidden` and of its gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        logits = _logits(hidden, weight, bias)
        needed = any(ctx.needs_input_grad)
        losses = torch.empty(len(targets), device=hidden.device)
        room = _CHUNK_BYTES.get(hidden.device.type, _CHUNK_BYTES_ELSEWHERE)
        rows = max(1, room // (4 * weight.shape[0]))
        for start in range(0, len(targets), rows):
            chunk = logits[start : start + rows]
            at = targets[start : start + rows, None]
            losses[start : start + rows] = _losses(chunk, at, gradient=needed)
        if needed:
            ctx.logits, ctx.weight = logits, weight
            ctx.save_for_backward(hidden)
        else:
            _leave(logits)
        return losses

    @staticmethod
    def backward(ctx: Any, *shares: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (hidden,) = ctx.saved_tensors
        if ctx.logits is None:
            raise RuntimeError("token_losses: its gradient can be taken once")
        gradient, weight, ctx.logits = ctx.logits, ctx.weight, None
        share = shares[0][:, None]
        needs_hidden, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        for_hidden = for_weight = for_bias = None
        if needs_hidden:
            for_hidden = ((gradient @ weight).float() * share).to(hidden.dtype)
        if needs_weight:
            scaled = (hidden.float() * share).to(hidden.dtype)
            for_weight = gradient.t() @ scaled
        if needs_bias:
            for_bias = gradient.t() @ share[:, 0].to(gradient.dtype)
        _leave(gradient)
        return for_hidden, for_weight, for_bias, None


def _logits(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """linear(hidden, weight, bias), on a CPU in the memory that an earlier pass left."""
    if hidden.device.type != "cpu":  # a GPU's memory is kept by torch
        return functional.linear(hidden, weight, bias)
    left: torch.Tensor | None = _room.__dict__.pop("logits", None)
    size = len(hidden) * len(weight)
    if left is None or left.dtype != hidden.dtype or left.numel() < size:
        left = hidden.new_empty(size)
    logits = left[:size].view(len(hidden), len(weight))
    if bias is None:
        torch.mm(hidden, weight.t(), out=logits)
    else:
        torch.addmm(bias, hidden, weight.t(), out=logits)
    return logits


def _leave(logits: torch.Tensor) -> None:
    """Leave the memory of `logits` to this thread's next pass."""
    if logits.device.type == "cpu":
        whole = logits.untyped_storage()
        _room.logits = torch.empty(0, dtype=logits.dtype).set_(whole)


def forget_logits() -> None:
    """Give back the memory that this thread's passes left to one another."""
    _room.__dict__.pop("logits", None)


def _losses(logits: torch.Tensor, at: torch.Tensor, *, gradient: bool) -> torch.Tensor:
    """Cross-entropy of each row: [n], fp32. logits: [n, vocabulary]; at: [n, 1], the targets.

    gradient: the logits are overwritten with d loss / d logits, softmax less one at the target
    """
    if not gradient or logits.device.type != "cpu":
        scores = torch.log_softmax(logits, -1, dtype=torch.float32)
        losses = -scores.gather(1, at)[:, 0]
        if gradient:
            scores.exp_().scatter_add_(1, at, scores.new_full(at.shape, -1.0))
            logits.copy_(scores)
        return losses
    shares = torch.softmax(logits, -1, dtype=torch.float32)
    share = shares.gather(1, at)
    losses = -share.log()[:, 0]
    if not bool(losses.isfinite().all()):  # a probability that fp32 does not hold
        losses = -torch.log_softmax(logits, -1, dtype=torch.float32).gather(1, at)[:, 0]
    shares.scatter_(1, at, share - 1)
    logits.copy_(shares)
    return losses


def token_losses(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
) -> torch.Tensor:
    """Cross-entropy of each target (nats, fp32): [N].

    hidden: [N, width]; weight: [vocabulary, width]; bias: [vocabulary] or None; targets: [N]. The
    gradient of the logits is rounded to `hidden`'s type, as it is where logits have that type. It
    can be taken once.
    """
    losses: torch.Tensor = _HeadAndLoss.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return losses
