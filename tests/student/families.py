"""Tiny models of many families with random weights, made from transformers' configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

_DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
}
_HEADS = {**_DECODER, "head_dim": 8}
_BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 512,
    "init_std": 0.2,
    "decoder_start_token_id": 1,
    "dropout": 0.0,
}
_T5 = {
    "d_model": 32,
    "d_ff": 48,
    "d_kv": 8,
    "num_heads": 4,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "initializer_factor": 1.0,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.0,
}
_BERT = {**_DECODER, "is_decoder": False}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


@dataclass(frozen=True)
class Family:
    """A family of models: how to make a tiny one.

    config:  name of the configuration's class in transformers
    values:  of the configuration
    model:   name of the model's class; None: the one for writing text
    bytes:   whether it comes with ByT5's tokenizer
    example: a model of the family on the hub
    """

    name: str
    config: str
    values: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    bytes: bool = False
    example: str = ""


STUDENTS = [
    Family("T5", "T5Config", _T5, example="google-t5/t5-small"),
    Family(
        "T5 v1.1 (untied)",
        "T5Config",
        {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        example="google/t5-v1_1-small",
    ),
    Family("mT5", "MT5Config", _T5, example="google/mt5-small"),
    Family("ByT5", "T5Config", {**_T5, "vocab_size": 384}, bytes=True, example="google/byt5-small"),
    Family("UMT5", "UMT5Config", _T5, example="google/umt5-small"),
    Family(
        "LongT5", "LongT5Config", {**_T5, "local_radius": 8}, example="google/long-t5-local-base"
    ),
    Family("BART", "BartConfig", _BART, example="facebook/bart-base"),
    Family("mBART", "MBartConfig", _BART, example="facebook/mbart-large-50"),
    Family("M2M100", "M2M100Config", _BART, example="facebook/m2m100_418M"),
    Family("Pegasus", "PegasusConfig", _BART, example="google/pegasus-xsum"),
    Family("Marian", "MarianConfig", _BART, example="Helsinki-NLP/opus-mt-en-de"),
    Family("BlenderBot", "BlenderbotConfig", _BART, example="facebook/blenderbot-400M-distill"),
    Family(
        "LED",
        "LEDConfig",
        {
            **_BART,
            "attention_window": 16,
            "max_encoder_position_embeddings": 512,
            "max_decoder_position_embeddings": 512,
        },
        example="allenai/led-base-16384",
    ),
    Family(
        "T5Gemma",
        "T5GemmaConfig",
        {"both": {**_HEADS, "sliding_window": 16}},
        example="google/t5gemma-s-s-ul2",
    ),
    Family(
        "Switch",
        "SwitchTransformersConfig",
        {
            **_T5,
            "num_experts": 4,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1,
            "expert_capacity": 8,
        },
        example="google/switch-base-8",
    ),
    Family(
        "NLLB-MoE",
        "NllbMoeConfig",
        {
            **_BART,
            "num_experts": 4,
            "encoder_sparse_step": 2,
            "decoder_sparse_step": 2,
            "expert_capacity": 64,
        },
        example="facebook/nllb-moe-54b",
    ),
    Family(
        "GPT-2",
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.2},
        example="openai-community/gpt2",
    ),
    Family("GPT-NeoX (Pythia)", "GPTNeoXConfig", _DECODER, example="EleutherAI/pythia-160m"),
    Family(
        "GPT-Neo",
        "GPTNeoConfig",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 16,
            "max_position_embeddings": 512,
            "initializer_range": 0.2,
        },
        example="EleutherAI/gpt-neo-125m",
    ),
    Family(
        "GPT-J",
        "GPTJConfig",
        {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 512,
            "rotary_dim": 4,
            "initializer_range": 0.2,
        },
        example="EleutherAI/gpt-j-6b",
    ),
    Family(
        "OPT",
        "OPTConfig",
        {
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "word_embed_proj_dim": 32,
            "init_std": 0.2,
            "dropout": 0.0,
        },
        example="facebook/opt-125m",
    ),
    Family(
        "BLOOM",
        "BloomConfig",
        {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2},
        example="bigscience/bloom-560m",
    ),
    Family(
        "Falcon",
        "FalconConfig",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "initializer_range": 0.2,
        },
        example="tiiuae/falcon-rw-1b",
    ),
    Family("Llama", "LlamaConfig", _DECODER, example="HuggingFaceTB/SmolLM2-135M"),
    Family(
        "Llama 4",
        "Llama4TextConfig",
        {
            **_HEADS,
            "intermediate_size_mlp": 48,
            "attention_chunk_size": 16,
            "num_local_experts": 2,
            "layer_types": ["chunked_attention", "full_attention"],
            "no_rope_layers": [1, 0],
        },
        example="meta-llama/Llama-4-Scout-17B-16E",
    ),
    Family(
        "Mistral",
        "MistralConfig",
        {**_DECODER, "sliding_window": 16},
        example="mistralai/Mistral-7B-v0.1",
    ),
    Family(
        "Mixtral",
        "MixtralConfig",
        {**_DECODER, "sliding_window": 16, "num_local_experts": 4},
        example="mistralai/Mixtral-8x7B-v0.1",
    ),
    Family("Qwen 2", "Qwen2Config", _DECODER, example="Qwen/Qwen2.5-0.5B"),
    Family("Qwen 3", "Qwen3Config", _HEADS, example="Qwen/Qwen3-0.6B"),
    Family("Qwen 3 MoE", "Qwen3MoeConfig", {**_HEADS, **_EXPERTS}, example="Qwen/Qwen3-30B-A3B"),
    Family("Gemma", "GemmaConfig", _HEADS, example="google/gemma-2b"),
    Family(
        "Gemma 2", "Gemma2Config", {**_HEADS, "sliding_window": 16}, example="google/gemma-2-2b"
    ),
    Family(
        "Gemma 3",
        "Gemma3TextConfig",
        {**_HEADS, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
        example="google/gemma-3-270m",
    ),
    Family("Phi", "PhiConfig", _DECODER, example="microsoft/phi-2"),
    Family(
        "Phi-3",
        "Phi3Config",
        {**_DECODER, "sliding_window": 16, "pad_token_id": 0},
        example="microsoft/Phi-3-mini-4k-instruct",
    ),
    Family(
        "SmolLM3",
        "SmolLM3Config",
        {**_DECODER, "pad_token_id": 0},
        example="HuggingFaceTB/SmolLM3-3B",
    ),
    Family(
        "gpt-oss",
        "GptOssConfig",
        {**_HEADS, "sliding_window": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
        example="openai/gpt-oss-20b",
    ),
    Family("OLMo 2", "Olmo2Config", _DECODER, example="allenai/OLMo-2-0425-1B"),
    Family("StableLM", "StableLmConfig", _DECODER, example="stabilityai/stablelm-2-1_6b"),
    Family(
        "Starcoder 2",
        "Starcoder2Config",
        {**_DECODER, "sliding_window": 16},
        example="bigcode/starcoder2-3b",
    ),
    Family("Granite", "GraniteConfig", _DECODER, example="ibm-granite/granite-3.1-2b-base"),
    Family(
        "Mamba",
        "MambaConfig",
        {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.2},
        example="state-spaces/mamba-130m-hf",
    ),
    Family(
        "ModernBERT decoder",
        "ModernBertDecoderConfig",
        {
            **_DECODER,
            "local_attention": 16,
            "global_attn_every_n_layers": 2,
            "cls_token_id": 1,
            "pad_token_id": 0,
        },
        example="jhu-clsp/ettin-decoder-150m",
    ),
    Family(
        "RWKV",
        "RwkvConfig",
        {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
        example="RWKV/rwkv-4-169m-pile",
    ),
]
"""Families that can be students."""

REFUSED = [
    Family("BERT", "BertConfig", _BERT, "BertForMaskedLM", example="google-bert/bert-base-uncased"),
    Family(
        "RoBERTa", "RobertaConfig", _BERT, "RobertaForMaskedLM", example="FacebookAI/roberta-base"
    ),
    Family(
        "ELECTRA",
        "ElectraConfig",
        {**_BERT, "embedding_size": 32},
        "ElectraForMaskedLM",
        example="google/electra-small-discriminator",
    ),
    Family(
        "DeBERTa",
        "DebertaV2Config",
        _BERT,
        "DebertaV2ForMaskedLM",
        example="microsoft/deberta-v3-small",
    ),
    Family(
        "ModernBERT",
        "ModernBertConfig",
        {**_DECODER, "pad_token_id": 0},
        "ModernBertForMaskedLM",
        example="answerdotai/ModernBERT-base",
    ),
    Family(
        "XLNet",
        "XLNetConfig",
        {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
        "XLNetLMHeadModel",
        example="xlnet/xlnet-base-cased",
    ),
]
"""Families that cannot."""


def make_model(family: Family, vocabulary: int, **changes: Any) -> Any:
    """A tiny model of the family with random weights, the same ones each time."""
    import transformers

    values = {
        "vocab_size": vocabulary,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
        **family.values,
        **changes,
    }
    both = values.pop("both", None)
    if both is not None:
        module = {
            **both,
            "vocab_size": vocabulary,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 1,
        }
        values = {
            "encoder": dict(module),
            "decoder": dict(module),
            "vocab_size": vocabulary,
            **changes,
        }
    config = getattr(transformers, family.config)(**values)
    torch.manual_seed(1)
    if family.model is not None:
        return getattr(transformers, family.model)(config)
    kind = (
        transformers.AutoModelForSeq2SeqLM
        if config.is_encoder_decoder
        else transformers.AutoModelForCausalLM
    )
    model = kind.from_config(config)
    if values.get("tie_word_embeddings") is False:
        # Of T5 transformers ties the two whatever its configuration says, unless they differ.
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(0.3 * torch.randn(head.weight.shape))
    return model


def make_folder(family: Family, folder: Path, tokenizer_folder: Path, **changes: Any) -> Path:
    """Such a model with a tokenizer, as on a hub."""
    import transformers

    tokenizer: Any
    if family.bytes:
        tokenizer = transformers.ByT5Tokenizer(extra_ids=0)
    else:
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    model = make_model(family, len(tokenizer), **changes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if {**family.values, **changes}.get("tie_word_embeddings") is False:
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        # As on a hub; transformers itself would write that they are tied (T5).
        path.write_text(json.dumps(config | {"tie_word_embeddings": False}), encoding="utf-8")
    return folder


def named(name: str) -> Family:
    """The family of that name."""
    return next(f for f in (*STUDENTS, *REFUSED) if f.name == name)
