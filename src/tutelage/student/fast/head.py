"""The output head and its cross-entropy as one operation.

The head is by far the widest layer of a small model. Its logits are therefore stored once, in
memory that the next micro-batch uses again. docs/performance.md has the gain.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch.nn import functional

_CHUNK_BYTES = {"cpu": 8 << 20}
_CHUNK_BYTES_ELSEWHERE = 512 << 20
"""Bytes of fp32 logits that are processed at once: on a CPU what a cache holds, elsewhere enough to
keep kernels long."""

_thread = threading.local()
"""`logits`: memory for the logits of this thread's next micro-batch. It is so large that the C
library would return it to the kernel, and each micro-batch would wait for the kernel to clear the
same pages again."""


class _HeadAndLoss(torch.autograd.Function):
    """Cross-entropy of linear(hidden, weight, bias), with one [N, vocabulary] tensor in all.

    The usual operations keep the logits, their fp32 copy, their log-softmax and the gradients of
    all three. Here d loss_n / d logits_n overwrites the logits, chunk by chunk. The gradient of
    the loss with respect to loss_n then scales narrow rows: those of `hidden` and of its gradient.
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
        chunk_bytes = _CHUNK_BYTES.get(hidden.device.type, _CHUNK_BYTES_ELSEWHERE)
        rows = max(1, chunk_bytes // (4 * weight.shape[0]))
        for start in range(0, len(targets), rows):
            chunk = logits[start : start + rows]
            at = targets[start : start + rows, None]
            losses[start : start + rows] = _losses(chunk, at, gradient=needed)
        if needed:
            ctx.logits, ctx.weight = logits, weight
            ctx.save_for_backward(hidden)
        else:
            _keep_for_next(logits)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (hidden,) = ctx.saved_tensors
        if ctx.logits is None:
            raise RuntimeError("token_losses: its gradient can be taken once")
        for_logits, weight, ctx.logits = ctx.logits, ctx.weight, None
        scale = gradients[0][:, None]
        needs_hidden, needs_weight, needs_bias, _ = ctx.needs_input_grad
        for_hidden = for_weight = for_bias = None
        if needs_hidden:
            for_hidden = ((for_logits @ weight).float() * scale).to(hidden.dtype)
        if needs_weight:
            for_weight = for_logits.t() @ (hidden.float() * scale).to(hidden.dtype)
        if needs_bias:
            for_bias = for_logits.t() @ scale[:, 0].to(for_logits.dtype)
        _keep_for_next(for_logits)
        return for_hidden, for_weight, for_bias, None


def _logits(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """linear(hidden, weight, bias); on a CPU in memory that an earlier micro-batch left."""
    if hidden.device.type != "cpu":  # torch itself keeps a GPU's memory
        return functional.linear(hidden, weight, bias)
    kept: torch.Tensor | None = _thread.__dict__.pop("logits", None)
    size = len(hidden) * len(weight)
    if kept is None or kept.dtype != hidden.dtype or kept.numel() < size:
        kept = hidden.new_empty(size)
    logits = kept[:size].view(len(hidden), len(weight))
    if bias is None:
        torch.mm(hidden, weight.t(), out=logits)
    else:
        torch.addmm(bias, hidden, weight.t(), out=logits)
    return logits


def _keep_for_next(logits: torch.Tensor) -> None:
    """Keep the memory of `logits` for this thread's next micro-batch."""
    if logits.device.type == "cpu":
        whole = logits.untyped_storage()
        _thread.logits = torch.empty(0, dtype=logits.dtype).set_(whole)


def free_logits_memory() -> None:
    """Free the memory that this thread keeps for logits."""
    _thread.__dict__.pop("logits", None)


def _losses(logits: torch.Tensor, at: torch.Tensor, *, gradient: bool) -> torch.Tensor:
    """Cross-entropy of each row: [n], fp32. logits: [n, vocabulary]; at: [n, 1], the targets.

    gradient: overwrite the logits with d loss / d logits: softmax, less one at the target
    """
    if not gradient or logits.device.type != "cpu":
        scores = torch.log_softmax(logits, -1, dtype=torch.float32)
        losses = -scores.gather(1, at)[:, 0]
        if gradient:
            scores.exp_().scatter_add_(1, at, scores.new_full(at.shape, -1.0))
            logits.copy_(scores)
        return losses
    probabilities = torch.softmax(logits, -1, dtype=torch.float32)
    chosen = probabilities.gather(1, at)
    losses = -chosen.log()[:, 0]
    if not bool(losses.isfinite().all()):  # a probability too small for fp32
        losses = -torch.log_softmax(logits, -1, dtype=torch.float32).gather(1, at)[:, 0]
    probabilities.scatter_(1, at, chosen - 1)
    logits.copy_(probabilities)
    return losses


def token_losses(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
) -> torch.Tensor:
    """Cross-entropy of each target under a linear head (nats, fp32): [N].

    hidden: [N, width]; weight: [vocabulary, width]; bias: [vocabulary] or None; targets: [N]. The
    gradient of the logits is rounded to `hidden`'s type, as it is if the logits have that type.
    The gradient can be taken once.
    """
    losses: torch.Tensor = _HeadAndLoss.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return losses
