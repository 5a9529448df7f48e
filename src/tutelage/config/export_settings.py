"""The settings of `tutelage export`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tutelage.config.settings import Number, Settings

GgufPrecision = Literal["f32", "f16", "q8_0"]


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
    rationale_precision: Literal["f32", "int8"] = Field(
        "f32",
        description="Of CTranslate2's weights: `f32`, or `int8` (a quarter of the size). Where "
        "int8 does not pass the parity gate, f32 is exported.",
        examples=["int8"],
    )
    gguf: Literal["none", GgufPrecision] = Field(
        "none",
        description="Also writes a file for llama.cpp and Ollama, of a decoder-only student: "
        "`f32`, `f16`, or `q8_0` (8 bits: a quarter of the size). Where one does not pass "
        "the parity gate, the next larger one is written. Needs the extra `local`. Default: none.",
        examples=["q8_0"],
    )
    usd_per_hour: Number | None = Field(
        None,
        ge=0,
        description="What an hour of the machine costs, in US dollars: the card then says what "
        "1,000 predictions cost. Default: unknown.",
        examples=[0.1],
    )
    threshold: Number | None = Field(
        None,
        ge=0,
        le=1,
        description="Probability below which an answer is marked as not to be trusted. Default: "
        "none.",
        examples=[0.8],
    )
