"""Tiny students of several families with random weights, as checkpoints that can be exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.core.checkpoint_record import CheckpointRecord, write_record
from tutelage.core.storage import read_json, write_json
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.deliver.exporter import Export
from tutelage.student.model.loading import load_student
from tutelage.student.model.scratch import train_tokenizer

TASK = Task(
    "rooms",
    ("note", "claim"),
    ("true", "false", "open"),
    verbalizers={"true": "surely true", "false": "surely false", "open": "not said"},
    context="note",
)
WORDS = ("the", "red", "door", "is", "near", "a", "window", "and", "lamp", "stands", "cold")
LIMIT = 24


def rows(count: int, start: int = 0) -> list[Example]:
    """Rows of several lengths, a few of them longer than the limit."""
    found = []
    for i in range(start, start + count):
        note = " ".join(WORDS[(i * 7 + k * k) % len(WORDS)] for k in range(3 + i % 23))
        claim = " ".join(WORDS[(i * 3 + k) % len(WORDS)] for k in range(2 + i % 3))
        found.append(Example(f"r{i}", {"note": note, "claim": claim}, TASK.labels[i % 3]))
    return found


ROWS = rows(40)


@dataclass
class Made:
    """A checkpoint and its export."""

    checkpoint: Path
    export: Export


def tokenizer(folder: Path) -> Any:
    """A fast tokenizer of a few words, saved in `folder`."""
    from transformers import PreTrainedTokenizerFast

    texts = [TASK.source(e.fields).text for e in rows(60)]
    texts += ["surely true surely false not said Rationale: Label: Answer: Explanation:"] * 9
    train_tokenizer(texts, folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _model(family: str, size: int) -> Any:
    import transformers as hf

    special = {"pad_token_id": 0, "eos_token_id": 1}
    if family in ("t5", "t5-v1.1", "mt5"):
        gated = family != "t5"
        kind = hf.MT5Config if family == "mt5" else hf.T5Config
        config = kind(
            vocab_size=size, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
            feed_forward_proj="gated-gelu" if gated else "relu",
            tie_word_embeddings=not gated, decoder_start_token_id=0, **special,
        )  # fmt: skip
        return (
            hf.MT5ForConditionalGeneration if family == "mt5" else hf.T5ForConditionalGeneration
        )(config)
    if family == "bart":
        return hf.BartForConditionalGeneration(
            hf.BartConfig(
                vocab_size=size,
                d_model=32,
                encoder_layers=2,
                decoder_layers=2,
                encoder_attention_heads=4,
                decoder_attention_heads=4,
                encoder_ffn_dim=48,
                decoder_ffn_dim=48,
                max_position_embeddings=128,
                bos_token_id=1,
                decoder_start_token_id=1,
                forced_eos_token_id=None,
                **special,
            )
        )
    if family in ("llama", "qwen2"):
        config, kind = (
            (hf.LlamaConfig, hf.LlamaForCausalLM)
            if family == "llama"
            else (hf.Qwen2Config, hf.Qwen2ForCausalLM)
        )
        return kind(
            config(
                vocab_size=size,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                **special,
            )
        )
    return hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=size,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=128,
            bos_token_id=1,
            **special,
        )
    )


def checkpoint(
    folder: Path, family: str, objective: str = "label_then_rationale", words: Any = None
) -> Path:
    """A checkpoint of a family whose random weights make its probabilities differ.

    words: its tokenizer; None: a new one
    """
    words = tokenizer(folder / "tokenizer") if words is None else words
    torch.manual_seed(3)
    model = _model(family, len(words))
    if family in ("t5-v1.1", "mt5"):
        # transformers ties the two whatever the configuration says, unless they differ.
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.clone())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.35)
    start = folder / "start"
    model.save_pretrained(start)
    words.save_pretrained(start)
    if family in ("t5-v1.1", "mt5"):
        config = read_json(start / "config.json")
        write_json(start / "config.json", config | {"tie_word_embeddings": False})
    student = load_student(str(start))
    student.objective = objective  # type: ignore[assignment]
    student.precision = "fp32"
    saved = folder / "model"
    student.save(saved)
    write_record(
        saved,
        CheckpointRecord(
            task=TASK,
            objective=objective,  # type: ignore[arg-type]
            max_source_tokens=LIMIT,
            max_rationale_tokens=8,
            tokens_per_micro_batch=400,
            precision="fp32",
            fast="auto",
            threads=1,
            settings={},
            data_sha256={},
            versions={},
        ),
    )
    return saved
