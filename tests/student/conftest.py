"""Tiny students of both architectures with random weights: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, PretrainedConfig

from tutelage.student.model.scratch import new_model, train_tokenizer
from tutelage.student.model.student import Student

# transformers writes out every configuration that it reads, for a log that nobody sees: a fortieth
# of what small trainings take.
for _kind in (GenerationConfig, PretrainedConfig):
    _kind.__repr__ = object.__repr__

WORDS = [
    "Premise: the old man was born in 1950 in Oslo. Hypothesis: the man is from Norway.",
    "Premise: two dogs play on the beach. Hypothesis: animals are outside.",
    "entailment Rationale: Oslo lies in Norway, so the man is from there.",
    "neutral Rationale: nothing is said about it.",
    "contradiction Rationale: the two cannot both be true.",
    "Answer: a dog is an animal and a beach is outside",
] * 2


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(WORDS, folder)
    return folder


@pytest.fixture
def encoder_decoder(tokenizer_folder: Path) -> Student:
    model, tokenizer = new_model("t5-tiny", tokenizer_folder, seed=0, dropout=0.0)
    return Student(model, tokenizer, "encoder-decoder")


@pytest.fixture
def decoder_only(tokenizer_folder: Path) -> Student:
    """A Llama of two layers whose padding token is its end token, as in SmolLM2."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    tokenizer.pad_token = tokenizer.eos_token
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return Student(LlamaForCausalLM(config), tokenizer, "decoder-only")


@pytest.fixture(params=["encoder_decoder", "decoder_only"])
def student(request: pytest.FixtureRequest) -> Student:
    found: Student = request.getfixturevalue(request.param)
    return found
