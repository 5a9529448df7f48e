"""What a training reports when it ends. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of one training; `done.json` stores it.

    dev_accuracy:       on dev, of the checkpoint that was kept, between 0 and 1; where the training
                        has another metric, that. None where there is no checkpoint, because the
                        training diverged before its first evaluation
    best_step:          optimiser step at which that checkpoint was taken; 0 where there is none
    steps:              optimiser steps that were run
    evaluations:        evaluations on dev
    stopped_early:      whether patience ran out before the last step
    truncated_sources:  rows whose input was cut
    truncated_targets:  rows whose rationale was cut
    source_tokens_cut:  tokens cut from inputs
    target_tokens_cut:  tokens cut from rationales
    sources_cut_beyond: rows whose input lost more than the field that is cut first
    seconds:            time of training and evaluation, without interruptions
    diverged_at:        the first step whose loss or gradients were not finite, or the step after
                        which the scores on dev were not; the training ended there. None where it
                        did not diverge
    """

    dev_accuracy: float | None
    best_step: int
    steps: int
    evaluations: int
    stopped_early: bool
    truncated_sources: int
    truncated_targets: int
    source_tokens_cut: int
    target_tokens_cut: int
    sources_cut_beyond: int
    seconds: float
    diverged_at: int | None = None

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint."""
        return self.best_step > 0
