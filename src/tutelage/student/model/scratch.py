"""Creates tiny students and their tokenizers, for data that no pretrained model has seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from tutelage.core.errors import StudentError
from tutelage.core.storage import digest, read_json, translate_write_errors, write_json
from tutelage.core.types import TrainingExample
from tutelage.student.encoding.targets import render_target

VOCABULARY = 8192
"""Largest vocabulary of a new tokenizer. Small data needs far fewer entries, and gets no more."""

_SHAPES: dict[str, dict[str, int]] = {
    "t5-tiny": {
        "d_model": 64,
        "d_ff": 128,
        "d_kv": 8,
        "num_heads": 8,
        "num_layers": 2,
        "num_decoder_layers": 1,
    },
}


def tokenizer_for(rows: Iterable[TrainingExample], folder: Path) -> Path:
    """Train a tokenizer on the sources and targets of `rows`, unless `folder` already holds it.

    Returns `folder`.
    """
    rows = list(rows)
    texts = [row.source.text for row in rows] + [
        render_target(row.target, "label_then_rationale")[0].text for row in rows
    ]
    texts = list(dict.fromkeys(texts))
    key, marker = digest(texts), folder / "key.json"
    if not (marker.exists() and read_json(marker) == key):
        with translate_write_errors(folder):
            train_tokenizer(texts, folder)
        write_json(marker, key)
    return folder


def train_tokenizer(texts: Sequence[str], folder: Path) -> None:
    """Train a byte-pair tokenizer on `texts` and save it in `folder`.

    Words are split at spaces, and punctuation marks are tokens of their own. Unseen characters
    become bytes, so that nothing is unknown.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Split(Regex(r"[.,;:!?()\"'%/-]"), behavior="isolated"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer = _with_plain_bytes(tokenizer, special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def _with_plain_bytes(tokenizer: Any, special: Sequence[str]) -> Any:
    """The same tokenizer with only `special` as special tokens. The trainer accepts the byte tokens
    as special tokens only, and decoding would leave these out."""
    from tokenizers import Tokenizer

    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [t for t in document["added_tokens"] if t["content"] in special]
    return Tokenizer.from_str(json.dumps(document))


def new_model(name: str, tokenizer: Path, seed: int, dropout: float | None) -> tuple[Any, Any]:
    """A T5 of the named shape with random weights, and the tokenizer in the folder `tokenizer`.

    Raises StudentError for an unknown shape.
    """
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    if name not in _SHAPES:
        raise StudentError(f"scratch:{name} is unknown: expected one of {sorted(_SHAPES)}")
    loaded = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    config = T5Config(
        **_SHAPES[name],
        vocab_size=len(loaded),
        pad_token_id=loaded.pad_token_id,
        eos_token_id=loaded.eos_token_id,
        decoder_start_token_id=loaded.pad_token_id,
        dropout_rate=0.0 if dropout is None else dropout,
        feed_forward_proj="gated-gelu",
    )
    # The same function as the default, in one kernel instead of eight.
    config.dense_act_fn = "gelu_pytorch_tanh"
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(config)
    return model, loaded
