"""Loads a student: a pretrained model from a hub or a folder, a GGUF file, or new weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tutelage.config.training_settings import Fast
from tutelage.core.errors import StudentError
from tutelage.core.model_files import find_file, find_in_package
from tutelage.student.model.scratch import new_model
from tutelage.student.model.student import Architecture, Student


def load_student(
    spec: str,
    *,
    tokenizer: Path | None = None,
    seed: int = 0,
    dropout: float | None = None,
    fast: Fast = "auto",
) -> Student:
    """Load the student that `spec` names, with fp32 weights.

    spec:      `scratch:t5-tiny` (new weights; `tokenizer` names the folder of its tokenizer),
               `gguf:PATH`, `package:PACKAGE/FILE.gguf`, a local folder, or a hub name
    seed:      of new weights; pretrained ones do not depend on it
    dropout:   replaces the model's own dropout rates
    fast:      `off`: training, scoring and generation call nothing of `student.fast`

    Raises StudentError, or UsageError for a missing model file.
    """
    scheme, _, rest = spec.partition(":")
    if scheme == "scratch":
        student = _scratch(rest, tokenizer, seed, dropout)
    else:
        student = _pretrained(spec, dropout)
    student.fast = fast
    return student


def load_meta_student(spec: str, tokenizer: Path | None = None) -> Student:
    """The student with its tokenizer and without weights: it can encode rows, and nothing else."""
    if spec.startswith("scratch:"):
        with torch.device("meta"):
            return load_student(spec, tokenizer=tokenizer)
    from transformers import logging

    logging.set_verbosity_error()
    model, own_tokenizer = meta_model(spec), _tokenizer(spec)
    return Student(model, own_tokenizer, _architecture(model.config))


def meta_model(spec: str, tokenizer: Path | None = None) -> Any:
    """The model that `spec` names, on torch's meta device: layers and shapes without weights."""
    scheme, _, rest = spec.partition(":")
    with torch.device("meta"):
        if scheme == "scratch":
            return _scratch(rest, tokenizer, 0, None).model
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

        name, options = _locate(spec)
        config = _loading(spec, lambda: AutoConfig.from_pretrained(name, **options))
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        return kind.from_config(config)


def count_parameters(spec: str, tokenizer: Path | None = None) -> int:
    """Number of weights of the student that `spec` names. Loads none."""
    return sum(p.numel() for p in meta_model(spec, tokenizer).parameters())


def _scratch(name: str, tokenizer: Path | None, seed: int, dropout: float | None) -> Student:
    if tokenizer is None:
        raise StudentError(f"scratch:{name} needs a tokenizer trained on the training split")
    model, loaded = new_model(name, tokenizer, seed, dropout)
    return Student(model, loaded, "encoder-decoder")


def _pretrained(spec: str, dropout: float | None) -> Student:
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        logging,
    )

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    name, options = _locate(spec)
    config = _loading(spec, lambda: AutoConfig.from_pretrained(name, **options))
    tokenizer = _tokenizer(spec)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    if dropout is not None:
        config.update(_dropout_fields(config, dropout))
    with _no_progress_bar():
        # Given its configuration, a GGUF file, which is slow to parse, is parsed once less.
        model = _loading(
            spec, lambda: kind.from_pretrained(name, config=config, dtype=torch.float32, **options)
        )
    # From here on a dequantised GGUF model is an ordinary one, and must be saved as one.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
        model.hf_quantizer = None
        model.is_quantized = False
    return Student(model, tokenizer, _architecture(config))


def _architecture(config: Any) -> Architecture:
    return "encoder-decoder" if config.is_encoder_decoder else "decoder-only"


def _locate(spec: str) -> tuple[str, dict[str, str]]:
    """The name or folder that transformers loads from, and there the name of a GGUF file."""
    scheme, _, rest = spec.partition(":")
    if scheme not in ("gguf", "package"):
        return spec, {}
    path = find_file(rest) if scheme == "gguf" else find_in_package(rest)
    return str(path.parent), {"gguf_file": path.name}


def _loading(spec: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StudentError(
            f"student {spec!r} cannot be loaded: {reason[:300]} "
            "(expected a hub name, a folder, gguf:PATH, package:PACKAGE/FILE or scratch:t5-tiny)"
        ) from error


def _tokenizer(spec: str) -> Any:
    """The tokenizer of a pretrained student."""
    from transformers import AutoTokenizer

    name, options = _locate(spec)
    tokenizer = _loading(spec, lambda: AutoTokenizer.from_pretrained(name, **options))
    if tokenizer.eos_token_id is None:
        raise StudentError(
            f"student {spec!r}: its tokenizer has no end token; choose another model"
        )
    return tokenizer


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Inside, transformers' GGUF reader shows no progress bar: it has no switch for it, and would
    draw between ours."""
    from transformers import modeling_gguf_pytorch_utils as reader

    shown = getattr(reader, "tqdm", None)
    reader.tqdm = lambda tensors, **_: tensors
    try:
        yield
    finally:
        reader.tqdm = shown


def _dropout_fields(config: Any, dropout: float) -> dict[str, float]:
    """Each dropout rate in a model's configuration, set to `dropout`.

    The names differ: dropout_rate, attention_dropout, attn_pdrop, hidden_dropout_prob,
    embed_dropout, … Left out are the rate of a classifier's head, which no student has, and
    layer dropout, which drops whole layers.
    """
    return {
        name: dropout
        for name, value in config.to_dict().items()
        if ("dropout" in name or name.endswith("pdrop"))
        and "classifier" not in name
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    }
