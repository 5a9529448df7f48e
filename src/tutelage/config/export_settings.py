"""The settings of `tutelage export`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tutelage.config.settings import Number, Settings


class ExportSettings(Settings):
    """How a trained student is exported."""

    engine: Literal["auto", "openvino", "transformers"] = Field(
        "auto",
        description="What computes labels: `openvino` (one graph for all labels, without torch), "
        "`transformers` (the checkpoint itself), or `auto`: `openvino` where it knows the student.",
        examples=["openvino"],
    )
    precision: Literal["f32", "int8", "bf16"] = Field(
        "f32",
        description="Of the graph: `f32`, `int8` (weights in 8 bits: a quarter of the size), or "
        "`bf16` (faster, where the processor computes it). Where another one than f32 does not "
        "pass the parity gate, f32 is exported.",
        examples=["int8"],
    )
    rationales: Literal["auto", "ctranslate2", "transformers", "none"] = Field(
        "auto",
        description="What writes rationales: `ctranslate2`, `transformers` (the checkpoint "
        "itself), `none`, or `auto`: `ctranslate2` where it computes what the student computes.",
        examples=["none"],
    )
    threshold: Number | None = Field(
        None,
        ge=0,
        le=1,
        description="Probability below which an answer is marked as not to be trusted. Default: "
        "none.",
        examples=[0.8],
    )
