"""How a student is trained.

Free of torch, so that a recipe can be read without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from tutelage.core.errors import UsageError
from tutelage.core.types import ObjectiveName

Schedule = Literal["linear", "constant"]
Fast = Literal["auto", "off"]
TrackerName = Literal["tensorboard", "wandb", "trackio"]

COMPILED_ADAPTERS = "compile: true with lora: leave one of them out"
"""Each reading of dev merges adapters and parts them again, and each time layers were compiled
anew."""


def objective_named(name: str) -> ObjectiveName:
    """The objective of this name; raises UsageError where there is none."""
    known: tuple[ObjectiveName, ...] = get_args(ObjectiveName)
    for objective in known:
        if objective == name:
            return objective
    raise UsageError(f"--objective: got {name!r}, expected one of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Small matrices that are trained beside frozen weights (see `adapters`).

    rank:           of the change to a weight matrix
    alpha:          the change is multiplied by alpha / rank
    dropout:        of what the small matrices read
    target_modules: names of linear layers, or ends of them (q_proj); None: all but the output head
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] | None = None


class InferenceLimits(TypedDict):
    """What bounds a reading of rows by a student; see `TrainSettings`."""

    max_source_tokens: int
    max_rationale_tokens: int
    tokens_per_micro_batch: int


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to train. Everything here, and nothing else, decides a run's outcome besides its data.

    objective:            what is written, and in which order (see `target`)
    label_weight:         w in (r₀, r₁) = (w, 1 − w); 1 trains on the label alone
    epochs, max_steps:    whichever ends first (max_steps counts optimiser steps)
    evaluate_every:       optimiser steps between readings of dev; None: once an epoch
    patience:             readings without a better dev accuracy before training stops
    warmup_steps:         steps of linear warm-up before the schedule begins
    tokens_per_micro_batch: padded tokens a forward pass holds at most: bounds memory, not the result
    precision:            "auto", "fp32" or "bf16" (see `precision.choose_precision`)
    fast:                 "auto" or "off": whether to use what is only about speed (`student.fast`);
                          part of the outcome, since it changes rounding and dropout's draws
    compile:              torch.compile each layer: pays on runs of many minutes
    lora:                 train adapters beside frozen weights; None: train all weights
    max_*_tokens:         where a source or a rationale is cut
    threads:              CPU threads, each with passes of its own (see `lanes`), which share
                          tokens_per_micro_batch; part of the outcome, since sums depend on it
    """

    objective: ObjectiveName = "label_then_rationale"
    learning_rate: float = 6e-4
    label_weight: float = 0.5
    epochs: int = 5
    max_steps: int | None = None
    batch_size: int = 64
    warmup_steps: int = 100
    schedule: Schedule = "linear"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    evaluate_every: int | None = None
    patience: int = 8
    dropout: float | None = None
    precision: str = "auto"
    fast: Fast = "auto"
    compile: bool = False
    lora: LoraSettings | None = None
    max_source_tokens: int = 512
    max_rationale_tokens: int = 256
    tokens_per_micro_batch: int = 8192
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.compile and self.lora is not None:
            raise UsageError(COMPILED_ADAPTERS)

    @property
    def inference_limits(self) -> InferenceLimits:
        """Those of its students: they read as they learnt."""
        return InferenceLimits(
            max_source_tokens=self.max_source_tokens,
            max_rationale_tokens=self.max_rationale_tokens,
            tokens_per_micro_batch=self.tokens_per_micro_batch,
        )
