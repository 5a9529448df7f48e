"""The settings of a student: which model, and how it is trained.

Does not import torch, so that recipes load without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, TypedDict

from pydantic import Field, model_validator

from tutelage.config.settings import Integer, Number, Seed, Settings, Text
from tutelage.core.types import ObjectiveName

Schedule = Literal["linear", "constant"]
Precision = Literal["auto", "fp32", "bf16"]
Fast = Literal["auto", "off"]
TrackerName = Literal["tensorboard", "wandb", "trackio"]


class LoraSettings(Settings):
    """LoRA: small trained matrices next to frozen weights (arXiv 2106.09685)."""

    rank: Integer = Field(
        8, ge=1, description="Rank of the change to each weight matrix.", examples=[16]
    )
    alpha: Number = Field(
        16.0, gt=0, description="The change is multiplied by alpha / rank.", examples=[32]
    )
    dropout: Number = Field(
        0.0, ge=0, lt=1, description="Dropout of the small matrices' input.", examples=[0.05]
    )
    target_modules: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        description="Names of linear layers, or ends of names. Default: all but the output head.",
        examples=[["q_proj", "v_proj"]],
    )


class InferenceLimits(TypedDict):
    """Limits on the lengths of inputs, rationales and micro-batches; see `TrainingOptions`."""

    max_source_tokens: int
    max_rationale_tokens: int
    tokens_per_micro_batch: int


class TrainingOptions(Settings):
    """How a student is trained: settings of a recipe's `student:` and of a single training."""

    epochs: Integer = Field(5, ge=1, description="Epochs of training, at most.", examples=[10])
    max_steps: Integer | None = Field(
        None, ge=1, description="Optimiser steps, at most. Default: no limit.", examples=[2000]
    )
    batch_size: Integer = Field(
        64, ge=1, description="Rows per optimiser step, over all processes.", examples=[32]
    )
    warmup_steps: Integer = Field(
        100,
        ge=0,
        description="Optimiser steps of linear warm-up, at most half of the training.",
        examples=[50],
    )
    schedule: Schedule = Field(
        "linear",
        description="Learning rate after warm-up: falls to 0 (`linear`) or stays (`constant`).",
        examples=["constant"],
    )
    weight_decay: Number = Field(0.0, ge=0, description="AdamW's weight decay.", examples=[0.01])
    max_grad_norm: Number = Field(
        1.0, gt=0, description="Gradients are clipped to this norm.", examples=[0.5]
    )
    evaluate_every: Integer | None = Field(
        None,
        ge=1,
        description="Optimiser steps between evaluations on dev. Default: once an epoch.",
        examples=[132],
    )
    patience: Integer = Field(
        8,
        ge=1,
        description="Evaluations on dev without a better one before training stops.",
        examples=[3],
    )
    dropout: Number | None = Field(
        None, ge=0, lt=1, description="Dropout rate. Default: the model's own.", examples=[0.1]
    )
    precision: Precision = Field(
        "auto",
        description="`fp32`, `bf16` (bf16 weights with an fp32 copy for the optimiser), or `auto`: "
        "bf16 where the hardware supports it and the model is not tiny.",
        examples=["bf16"],
    )
    fast: Fast = Field(
        "auto",
        description="`auto` uses code of our own that only makes CPUs faster, `off` leaves the "
        "model's modules as transformers made them. Results agree up to rounding and the random "
        "numbers of dropout.",
        examples=["off"],
    )
    compile: bool = Field(
        False,
        description="Compile each layer with torch.compile, which pays off in long trainings.",
        examples=[True],
    )
    lora: LoraSettings | None = Field(
        None,
        description="Train LoRA adapters, merged in the checkpoint. `{}` takes the defaults. "
        "Default: train all weights.",
        examples=[{"rank": 8, "alpha": 16}],
    )
    max_source_tokens: Integer = Field(
        512, ge=8, description="Longest input, in tokens; the rest is cut.", examples=[256]
    )
    max_rationale_tokens: Integer = Field(
        256, ge=1, description="Longest rationale, in tokens; the rest is cut.", examples=[128]
    )
    tokens_per_micro_batch: Integer = Field(
        8192,
        ge=64,
        description="Padded tokens in a forward pass, at most. Bounds memory, not the result.",
        examples=[4096],
    )
    threads: Integer = Field(
        1,
        ge=1,
        description="CPU threads of a training. Results depend on it, through the order of sums.",
        examples=[2],
    )

    @model_validator(mode="after")
    def _compatible(self) -> Self:
        if self.compile and self.lora is not None:
            # Each evaluation merges and separates the adapters, so layers would be recompiled
            # each time.
            raise ValueError("compile: true does not work with lora: remove one of them")
        return self

    @property
    def inference_limits(self) -> InferenceLimits:
        """The limits for inference, which are those of the training."""
        return InferenceLimits(
            max_source_tokens=self.max_source_tokens,
            max_rationale_tokens=self.max_rationale_tokens,
            tokens_per_micro_batch=self.tokens_per_micro_batch,
        )


class TrainSettings(TrainingOptions):
    """All settings of one training; with the data they determine its result."""

    objective: ObjectiveName = Field(
        "label_then_rationale",
        description="What the student learns to write: `label`, `label_then_rationale`, "
        "`rationale_then_label`, or `multitask` (label and rationale as two tasks).",
        examples=["multitask"],
    )
    learning_rate: Number = Field(
        6e-4, gt=0, description="AdamW's learning rate after warm-up.", examples=[1.2e-3]
    )
    label_weight: Number = Field(
        0.5,
        ge=0,
        le=1,
        description="w in the loss w · label + (1 − w) · rationale.",
        examples=[0.25],
    )
    seed: Seed = Field(
        0, description="Seed of new weights, the order of rows and dropout.", examples=[1]
    )


@dataclass(frozen=True, slots=True)
class Config:
    """One configuration of the search: the learning rate, and w in the loss weights (w, 1 − w)."""

    learning_rate: float
    label_weight: float

    @property
    def name(self) -> str:
        """The name of the configuration's folder."""
        return f"lr-{_shortest(self.learning_rate)}_w-{_shortest(self.label_weight)}"


def _shortest(value: float) -> str:
    """Six significant digits where they are enough: two values never have one name."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


class StudentSettings(TrainingOptions):
    """Which student, and how it is trained: the section `student` of a recipe."""

    model: Text = Field(
        "google-t5/t5-small",
        description="The student: a hub name or a folder (encoder-decoder or decoder-only), "
        "`gguf:PATH`, `package:PACKAGE/FILE.gguf`, or `scratch:t5-tiny` for new weights.",
        examples=["google-t5/t5-small"],
    )
    tracking: tuple[TrackerName, ...] = Field(
        (),
        description="Experiment trackers that receive each training's log: `tensorboard`, `wandb`, "
        "`trackio`. They do not affect results.",
        examples=[["tensorboard"]],
    )

    def training(self, config: Config, seed: int, objective: ObjectiveName) -> TrainSettings:
        """The settings of one training: one configuration, seed and objective."""
        shared = {name: getattr(self, name) for name in TrainingOptions.model_fields}
        return TrainSettings(
            **shared,
            objective=objective,
            learning_rate=config.learning_rate,
            label_weight=config.label_weight,
            seed=seed,
        )
