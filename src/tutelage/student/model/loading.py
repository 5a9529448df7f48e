"""Loads a student: a pretrained model from a hub or a folder, a GGUF file, or new weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from tutelage.config.training_settings import Fast
from tutelage.core.errors import StudentError
from tutelage.core.model_files import find_file, find_in_package
from tutelage.student.encoding.text_encoder import Architecture
from tutelage.student.model.causality import check_causal
from tutelage.student.model.classifier import (
    classifier_config,
    is_classifier,
    load_classifier,
)
from tutelage.student.model.gguf_files import parsed_once
from tutelage.student.model.scratch import new_model
from tutelage.student.model.student import Student
from tutelage.student.model.weights import (
    check_complete,
    check_finite,
    describe_unexpected,
    load_config,
    load_weights,
    loading,
    model_class,
    read_config,
)


def load_student(
    spec: str,
    *,
    tokenizer: Path | None = None,
    seed: int = 0,
    dropout: float | None = None,
    fast: Fast = "auto",
    labels: Sequence[str] | None = None,
) -> Student:
    """Load the student that `spec` names, with fp32 weights.

    spec:      `scratch:t5-tiny` (new weights; `tokenizer` names the folder of its tokenizer),
               `gguf:PATH`, `package:PACKAGE/FILE.gguf`, a local folder, or a hub name
    seed:      of new weights; pretrained ones do not depend on it
    dropout:   replaces the model's own dropout rates
    labels:    of a classifier, with a new head; None: a student that writes text, or a checkpoint
               of a classifier that was trained here
    fast:      `off`: training, scoring and generation call nothing of `student.fast`

    Code in a folder is never run, and only what transformers and torch read without running
    anything is read. Raises StudentError for a model that lacks weights, that is quantised, or
    whose tokens see those after them; UsageError for a missing model file.
    """
    scheme, _, rest = spec.partition(":")
    if scheme == "scratch":
        student = _scratch(rest, tokenizer, seed, dropout)
    else:
        with _parsing(spec):
            student = _pretrained(spec, dropout, labels, seed)
    student.fast = fast
    return student


def load_meta_student(spec: str, tokenizer: Path | None = None) -> Student:
    """The student with its tokenizer and without weights: it can encode rows, and nothing else."""
    if spec.startswith("scratch:"):
        with torch.device("meta"):
            return load_student(spec, tokenizer=tokenizer)
    from transformers import logging

    logging.set_verbosity_error()
    with _parsing(spec):
        model, own_tokenizer = meta_model(spec), _tokenizer(spec)
    _check_end_token(spec, own_tokenizer)
    return Student(model, own_tokenizer, _architecture(model.config))


def meta_model(spec: str, tokenizer: Path | None = None, classifier: bool = False) -> Any:
    """The model that `spec` names, on torch's meta device: layers and shapes without weights.

    classifier: with a head that chooses a label, in place of one that writes
    """
    scheme, _, rest = spec.partition(":")
    with torch.device("meta"):
        if classifier:
            from transformers import AutoModelForSequenceClassification as kind

            own = classifier_config(spec, ["a", "b"])
            return loading(spec, lambda: kind.from_config(own, trust_remote_code=False))
        if scheme == "scratch":
            return _scratch(rest, tokenizer, 0, None).model
        config = load_config(spec, *_locate(spec))
        return loading(
            spec, lambda: model_class(config).from_config(config, trust_remote_code=False)
        )


def count_parameters(spec: str, tokenizer: Path | None = None, classifier: bool = False) -> int:
    """Number of weights of the student that `spec` names. Loads none."""
    with _parsing(spec):
        return sum(p.numel() for p in meta_model(spec, tokenizer, classifier).parameters())


def _scratch(name: str, tokenizer: Path | None, seed: int, dropout: float | None) -> Student:
    if tokenizer is None:
        raise StudentError(f"scratch:{name} needs a tokenizer trained on the training split")
    model, loaded = new_model(name, tokenizer, seed, dropout)
    return Student(model, loaded, "encoder-decoder")


def _pretrained(
    spec: str, dropout: float | None, labels: Sequence[str] | None, seed: int
) -> Student:
    from transformers import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    name, options = _locate(spec)
    # A GGUF file holds no classifier, and takes seconds to read.
    classifies = labels is not None or (
        "gguf_file" not in options and is_classifier(read_config(spec, name, options))
    )
    if classifies:
        config = classifier_config(spec, labels or ())
    else:
        config = load_config(spec, name, options)
    tokenizer = _tokenizer(spec)
    if dropout is not None:
        config.update(_dropout_fields(config, dropout))
    if classifies:
        return load_classifier(spec, config, tokenizer, seed)
    model, missing, unexpected = load_weights(spec, name, config, options)
    student = Student(model, tokenizer, _architecture(config))
    check_finite(spec, model)
    # First the kind of model: what an encoder lacks for writing text is not the fault to name.
    check_causal(spec, student)
    _check_end_token(spec, tokenizer)
    check_complete(spec, missing, unexpected)
    student.notes = describe_unexpected(unexpected)
    return student


def _architecture(config: Any) -> Architecture:
    return "encoder-decoder" if config.is_encoder_decoder else "decoder-only"


def _locate(spec: str) -> tuple[str, dict[str, str]]:
    """The name or folder that transformers loads from, and there the name of a GGUF file."""
    scheme, _, rest = spec.partition(":")
    if scheme not in ("gguf", "package"):
        return spec, {}
    path = find_file(rest) if scheme == "gguf" else find_in_package(rest)
    return str(path.parent), {"gguf_file": path.name}


def _parsing(spec: str) -> AbstractContextManager[None]:
    """Inside, a GGUF file that `spec` names is parsed once."""
    return parsed_once() if "gguf_file" in _locate(spec)[1] else nullcontext()


_WORDS = "Oslo lies in Norway"
"""Text that any tokenizer with a vocabulary can tokenise."""


def _tokenizer(spec: str) -> Any:
    """The tokenizer of a pretrained student.

    Raises StudentError where its files are missing: transformers then makes one that knows no
    words.
    """
    from transformers import AutoTokenizer

    name, options = _locate(spec)
    tokenizer = loading(
        spec, lambda: AutoTokenizer.from_pretrained(name, trust_remote_code=False, **options)
    )
    ids = loading(spec, lambda: tokenizer(_WORDS, add_special_tokens=False).input_ids)
    # Without a vocabulary all letters are unknown; what stands for spaces may be known.
    letters = tokenizer.decode(
        [i for i in ids if i not in tokenizer.all_special_ids], skip_special_tokens=True
    )
    # A word-level one of few words may know none of these.
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    words = [letters, *(token for token in tokenizer.get_vocab() if token not in special)]
    if not any(letter.isalnum() for word in words for letter in word):
        raise StudentError(
            f"student {spec!r}: its tokenizer knows no words ({len(tokenizer)} tokens): the files "
            "of the tokenizer (tokenizer.json, or a vocabulary) are missing: put them next to the "
            "weights"
        )
    return tokenizer


def _check_end_token(spec: str, tokenizer: Any) -> None:
    """Raise StudentError where no token can end a text."""
    if tokenizer.eos_token_id is None:
        raise StudentError(
            f"student {spec!r}: its tokenizer has no end token; choose another model"
        )


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
