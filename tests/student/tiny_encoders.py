"""Tiny encoders of random weights with a tokenizer of a few words, and a task that they can learn.

A row is good or bad by one of its words.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tutelage.core.task import Task
from tutelage.core.types import Example

TASK = Task("reviews", ("text",), ("good", "bad"))

_MARKS = {"good": ["fine", "great"], "bad": ["poor", "dull"]}
_OTHERS = ["a", "the", "film", "was", "and", "plot", "actor", "scene"]
_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def reviews(count: int, seed: int) -> list[Example]:
    """`count` rows."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        label = draw.choice(TASK.labels)
        words = [draw.choice(_OTHERS) for _ in range(draw.randint(3, 8))]
        words.insert(draw.randrange(len(words)), draw.choice(_MARKS[label]))
        rows.append(Example(f"{seed}-{number}", {"text": " ".join(words)}, label))
    return rows


def make_encoder(folder: Path, kind: str, *, positions: int = 64, width: int = 32) -> str:
    """An encoder of this kind (Bert, ModernBert, …) that fills gaps; returns its folder."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = [*_SPECIAL.values(), "Text", ":", *_OTHERS, *(w for m in _MARKS.values() for w in m)]
    vocabulary = {word: place for place, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names: Any = {f"{name}_token": token for name, token in _SPECIAL.items()}
    transformers.PreTrainedTokenizerFast(tokenizer_object=core, **names).save_pretrained(folder)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=positions,
        pad_token_id=0,
        bos_token_id=2,
        cls_token_id=2,
        eos_token_id=3,
        sep_token_id=3,
    )
    torch.manual_seed(0)
    getattr(transformers, f"{kind}ForMaskedLM")(config).save_pretrained(folder)
    return str(folder)
