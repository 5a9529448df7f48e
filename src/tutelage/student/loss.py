"""The weighted loss over a target's two segments, and the forward pass that it reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from tutelage.student.collate import LABEL, RATIONALE, Batch
from tutelage.student.model import Student


@dataclass(frozen=True, slots=True)
class SegmentLoss:
    """Sums of cross-entropy over the tokens of each segment (nats), not yet divided."""

    label: torch.Tensor
    rationale: torch.Tensor

    def weighted(self, weights: tuple[float, float], counts: tuple[int, int]) -> torch.Tensor:
        """L = r₀ · Σ CE(label) / |label| + r₁ · Σ CE(rationale) / |rationale|.

        weights: (r₀, r₁)
        counts:  target tokens of each segment in the whole optimiser step, which may be several
                 passes: their losses then add up to the loss of the step. A segment that the step
                 does not hold contributes nothing.

        Source: arXiv 2409.12599; the normalisation over the step is ours.
        """
        return weights[0] * self.label / max(counts[0], 1) + weights[1] * self.rationale / max(
            counts[1], 1
        )


def target_logits(student: Student, batch: Batch) -> torch.Tensor:
    """Logits [N, vocabulary] (fp32) of every target token of the batch, and of no other.

    The output head is by far the widest layer of a small model: what it reads is narrowed to the
    target positions before it runs, where the model lets us (`Student.head_is_positionwise`).
    """
    inputs: dict[str, torch.Tensor | None] = {"input_ids": batch.input_ids}
    if student.architecture == "encoder-decoder":
        inputs |= {
            "attention_mask": batch.attention_mask,
            "decoder_input_ids": batch.decoder_input_ids,
        }
    if student.head_is_positionwise:
        with student.head_reads(batch.rows, batch.columns):
            logits = student.model(**inputs, use_cache=False).logits
    else:
        logits = student.model(**inputs, use_cache=False).logits[batch.rows, batch.columns]
    result: torch.Tensor = logits.float()
    return result


def segment_loss(logits: torch.Tensor, batch: Batch) -> SegmentLoss:
    """Cross-entropy summed by segment. logits: [N, vocabulary], fp32."""
    token_loss = functional.cross_entropy(logits, batch.target_ids, reduction="none")
    return SegmentLoss(
        token_loss[batch.segments == LABEL].sum(), token_loss[batch.segments == RATIONALE].sum()
    )
