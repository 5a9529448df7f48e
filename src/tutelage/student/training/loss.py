"""The weighted loss over a target's two segments, and the forward pass that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from tutelage.student.encoding.batching import Batch
from tutelage.student.encoding.packing import branch_mask
from tutelage.student.model.student import Student


@dataclass(frozen=True, slots=True)
class SegmentLoss:
    """Sums of cross-entropy over the tokens of each segment (nats), not yet divided."""

    label: torch.Tensor
    rationale: torch.Tensor

    def weighted(self, weights: tuple[float, float], counts: tuple[int, int]) -> torch.Tensor:
        """L = r₀ · Σ CE(label) / |label| + r₁ · Σ CE(rationale) / |rationale|.

        weights: (r₀, r₁)
        counts:  target tokens of each segment in the whole optimiser step. A step may consist of
                 several micro-batches; their losses then add up to the loss of the step. A segment
                 without tokens contributes nothing.

        Source: arXiv 2409.12599; the normalisation over the step is ours.
        """
        return weights[0] * self.label / max(counts[0], 1) + weights[1] * self.rationale / max(
            counts[1], 1
        )


def batch_loss(student: Student, batch: Batch) -> SegmentLoss:
    """The forward pass and its loss."""
    return segment_loss(target_logits(student, batch), batch)


def _inputs(student: Student, batch: Batch) -> dict[str, Any]:
    names = ("input_ids", "attention_mask", "position_ids", "decoder_input_ids")
    inputs: dict[str, Any] = {
        name: getattr(batch, name) for name in names if getattr(batch, name) is not None
    }
    if batch.owners is not None and batch.position_ids is not None:
        inputs["attention_mask"] = branch_mask(student, batch.owners, batch.position_ids)
    return inputs


def target_logits(student: Student, batch: Batch) -> torch.Tensor:
    """Logits [N, vocabulary] (fp32) of the batch's target tokens only.

    The output head is by far the widest layer of a small model. It therefore runs at the target
    positions only, if the model allows it (`Student.head_can_be_narrowed`).
    """
    inputs = _inputs(student, batch)
    if student.architecture == "classifier":  # one target for each row: [B, labels]
        classes: torch.Tensor = student.model(**inputs).logits[batch.rows].float()
        return classes
    if student.head_can_be_narrowed:
        with student.narrowed_head(batch.rows, batch.columns):
            logits = student.model(**inputs, use_cache=False).logits
    else:
        logits = student.model(**inputs, use_cache=False).logits[batch.rows, batch.columns]
    result: torch.Tensor = logits.float()
    return result


def segment_loss(logits: torch.Tensor, batch: Batch) -> SegmentLoss:
    """Cross-entropy summed over each segment. logits: [N, vocabulary], fp32."""
    losses = functional.cross_entropy(logits, batch.target_ids, reduction="none")
    return SegmentLoss(losses[batch.of_label].sum(), losses[batch.of_rationale].sum())
