"""Loading a student: a pretrained model from a hub or a folder, a GGUF file, or new weights.

Everything that follows sees a `Student` and need not know which it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from tutelage.config.training_settings import Fast
from tutelage.core.errors import StudentError
from tutelage.core.model_files import find_file, find_in_package
from tutelage.core.types import ObjectiveName
from tutelage.student.fast import parts as fast_parts

Architecture = Literal["encoder-decoder", "decoder-only"]


ANSWER_CUE = "\nAnswer:"
"""Ends a decoder-only student's prompt. An encoder-decoder needs none: it has a decoder."""

_OBJECTIVE = "tutelage_objective"

PROBE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05}
"""Largest difference of logits, as a share of the largest, at which two ways count as the same."""


@dataclass
class Student:
    """A model, its tokenizer, and the little that differs between the two architectures."""

    model: Any
    tokenizer: Any
    architecture: Architecture
    packs: bool | None = None
    """Whether several continuations of one source fit into one pass; see `packing.packs`."""
    fast: Fast = "auto"
    """Whether to use what is only about speed; see `student.fast`."""

    def uses(self, part: str) -> bool:
        """Whether this part of `student.fast` is used."""
        return self.fast == "auto" and part in fast_parts.PARTS

    @property
    def objective(self) -> ObjectiveName:
        """What it was trained to write; kept in the model's configuration, with the weights."""
        name: ObjectiveName = getattr(self.model.config, _OBJECTIVE, "label_then_rationale")
        return name

    @objective.setter
    def objective(self, name: ObjectiveName) -> None:
        setattr(self.model.config, _OBJECTIVE, name)

    @property
    def eos_id(self) -> int:
        """The token that ends a target."""
        return int(self.tokenizer.eos_token_id)

    @property
    def pad_id(self) -> int:
        """Fills rows up. Masks go by length, so that it may equal another token (SmolLM2's eos)."""
        pad = self.tokenizer.pad_token_id
        return self.eos_id if pad is None else int(pad)

    @property
    def decoder_start_id(self) -> int:
        """The token that an encoder-decoder's decoder starts from."""
        start = getattr(self.model.config, "decoder_start_token_id", None)
        return self.pad_id if start is None else int(start)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def parameters(self) -> int:
        """Trainable weights, shared ones counted once."""
        return sum(p.numel() for p in self.model.parameters())

    @cached_property
    def affixes(self) -> tuple[list[int], list[int]]:
        """Special tokens that the tokenizer puts before and after an input."""
        plain = self.tokenizer("a", add_special_tokens=False).input_ids
        whole = self.tokenizer("a").input_ids
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return whole[:start], whole[start + len(plain) :]
        return [], []

    def probe(self) -> dict[str, torch.Tensor]:
        """Inputs of two rows of four tokens, on which to try what the model does."""
        ids = torch.tensor([[self.eos_id, 5, 7, 11]] * 2, device=self.device)
        ids %= self.model.config.get_text_config().vocab_size
        if self.architecture == "encoder-decoder":
            return {"input_ids": ids, "decoder_input_ids": ids}
        return {"input_ids": ids}

    @contextmanager
    def head_reads(self, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[None]:
        """Inside, the output head sees the hidden states at (rows, columns) alone: [B, T, width]
        becomes [N, width] before it, and logits come out as [N, vocabulary]."""

        def narrow(head: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return (inputs[0][rows, columns], *inputs[1:])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(narrow)
        try:
            yield
        finally:
            handle.remove()

    @cached_property
    def head_is_positionwise(self) -> bool:
        """Whether the output head, and all that comes after it, treats each position by itself.

        True for what is usual, scaled or capped logits too. Found out by trying: a model may do
        anything it likes with its logits.
        """
        if self.model.get_output_embeddings() is None:
            return False
        inputs = self.probe()
        rows, columns = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 3])
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                whole = self.model(**inputs, use_cache=False).logits[rows, columns]
                with self.head_reads(rows, columns):
                    parts = self.model(**inputs, use_cache=False).logits
        except (IndexError, RuntimeError, TypeError, ValueError):
            return False
        finally:
            self.model.train(training)
        if parts.shape != whole.shape:
            return False
        tolerance = PROBE_TOLERANCE.get(self.model.dtype, 0.0)
        return bool((whole - parts).abs().max() < tolerance * whole.abs().max().clamp(min=1))

    @contextmanager
    def head_input(self, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[list[torch.Tensor]]:
        """Inside, the output head reads nothing; the list holds, after a forward pass, what it
        would have read at (rows, columns): [N, width]."""
        found: list[torch.Tensor] = []

        def keep(head: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            found.append(inputs[0][rows, columns])
            return (inputs[0][:0], *inputs[1:])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(keep)
        try:
            yield found
        finally:
            handle.remove()

    @cached_property
    def ends_with_head(self) -> bool:
        """Whether logits are what a plain linear head makes of its input, and nothing comes after.

        Found out by trying, as above: a model may scale or cap its logits.
        """
        head = self.model.get_output_embeddings()
        if type(head) is not torch.nn.Linear:
            return False
        inputs = self.probe()
        places = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 3])
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                whole = self.model(**inputs, use_cache=False).logits[places]
                with self.head_input(*places) as found:
                    self.model(**inputs, use_cache=False)
                parts = head(found[0])
        except (IndexError, RuntimeError, TypeError, ValueError):
            return False
        finally:
            self.model.train(training)
        tolerance = PROBE_TOLERANCE.get(self.model.dtype, 0.0)
        return bool((whole - parts).abs().max() < tolerance * whole.abs().max().clamp(min=1))

    def to(self, device: torch.device) -> Student:
        """The same student with its weights on `device`."""
        self.model.to(device)
        return self

    def save(self, folder: Path) -> None:
        """Weights (safetensors), configuration and tokenizer, as transformers reads them."""
        from transformers import logging

        logging.disable_progress_bar()
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_student(
    spec: str,
    *,
    tokenizer: Path | None = None,
    seed: int = 0,
    dropout: float | None = None,
) -> Student:
    """The student that `spec` names.

    spec:      `scratch:t5-tiny` (new weights; `tokenizer` names the folder of its tokenizer),
               `gguf:PATH`, `package:PACKAGE/FILE.gguf`, a local folder, or a hub name
    seed:      of new weights; pretrained ones do not depend on it
    dropout:   overrides the model's own rate where it has one

    Weights are fp32: lower precision is the trainer's business. Raises StudentError, or
    UsageError for a model file that is not there.
    """
    scheme, _, rest = spec.partition(":")
    if scheme == "scratch":
        return _scratch(rest, tokenizer, seed, dropout)
    return _pretrained(spec, dropout)


def _scratch(name: str, tokenizer: Path | None, seed: int, dropout: float | None) -> Student:
    from tutelage.student.model.scratch import new_model

    if tokenizer is None:
        raise StudentError(f"scratch:{name} needs a tokenizer trained on the training split")
    model, tokenizer_object = new_model(name, tokenizer, seed, dropout)
    return Student(model, tokenizer_object, "encoder-decoder")


def _locate(spec: str) -> tuple[str, dict[str, str]]:
    """What transformers calls the place of a pretrained model, and a GGUF file's name in it."""
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


def _pretrained(spec: str, dropout: float | None) -> Student:
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        logging,
    )

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    name, where = _locate(spec)
    config = _loading(spec, lambda: AutoConfig.from_pretrained(name, **where))
    tokenizer = _tokenizer(spec)
    seq2seq = bool(config.is_encoder_decoder)
    kind = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    if dropout is not None:
        config.update(_dropout_fields(config, dropout))
    with _no_bar():
        # With its configuration given, a GGUF file, which is slow to parse, is parsed once less.
        model = _loading(
            spec, lambda: kind.from_pretrained(name, config=config, dtype=torch.float32, **where)
        )
    # A dequantised GGUF model is an ordinary one from here on, and must be saved as one.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
        model.hf_quantizer = None
        model.is_quantized = False
    return Student(model, tokenizer, "encoder-decoder" if seq2seq else "decoder-only")


@contextmanager
def _no_bar() -> Iterator[None]:
    """Inside, transformers' reader of GGUF files shows no progress bar: it has no switch for it,
    and would draw between ours."""
    from transformers import modeling_gguf_pytorch_utils as reader

    shown = getattr(reader, "tqdm", None)
    reader.tqdm = lambda tensors, **_: tensors
    try:
        yield
    finally:
        reader.tqdm = shown


def _tokenizer(spec: str) -> Any:
    """A pretrained student's own."""
    from transformers import AutoTokenizer

    name, where = _locate(spec)
    tokenizer = _loading(spec, lambda: AutoTokenizer.from_pretrained(name, **where))
    if tokenizer.eos_token_id is None:
        raise StudentError(
            f"student {spec!r}: its tokenizer has no end token; choose another model"
        )
    return tokenizer


def _dropout_fields(config: Any, dropout: float) -> dict[str, float]:
    """Each rate that a model's configuration knows, whatever its makers call it: dropout_rate,
    attention_dropout, attn_pdrop, hidden_dropout_prob, embed_dropout, … Not that of a classifier's
    head, which no student has, nor of whole layers."""
    return {
        name: dropout
        for name, value in config.to_dict().items()
        if ("dropout" in name or name.endswith("pdrop"))
        and "classifier" not in name
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    }


def count_parameters(spec: str, tokenizer: Path | None = None) -> int:
    """Weights of the student that `spec` names, without loading any."""
    return sum(p.numel() for p in outline(spec, tokenizer).parameters())


def outline(spec: str, tokenizer: Path | None = None) -> Any:
    """The model that `spec` names, on the meta device: its layers and shapes, without weights."""
    scheme, _, rest = spec.partition(":")
    with torch.device("meta"):
        if scheme == "scratch":
            return _scratch(rest, tokenizer, 0, None).model
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

        name, where = _locate(spec)
        config = _loading(spec, lambda: AutoConfig.from_pretrained(name, **where))
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        return kind.from_config(config)


def load_outline(spec: str, tokenizer: Path | None = None) -> Student:
    """The student with its tokenizer and without weights: it can encode rows, and nothing else."""
    if spec.startswith("scratch:"):
        with torch.device("meta"):
            return load_student(spec, tokenizer=tokenizer)
    from transformers import logging

    logging.set_verbosity_error()
    model, words = outline(spec), _tokenizer(spec)
    seq2seq = bool(model.config.is_encoder_decoder)
    return Student(model, words, "encoder-decoder" if seq2seq else "decoder-only")
