"""A student: a model, its tokenizer, and what differs between the two architectures.

All other modules take a `Student` and need not know where the model came from (`load`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tutelage.config.training_settings import Fast
from tutelage.core.storage import read_json, write_json
from tutelage.core.types import ObjectiveName
from tutelage.student.encoding.text_encoder import Architecture, find_affixes
from tutelage.student.fast import parts as fast_parts

_OBJECTIVE = "tutelage_objective"
"""Name under which the model's configuration keeps the objective."""

_PRECISION = "tutelage_precision"
"""Name under which the model's configuration keeps the precision that it was trained in."""

PROBE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05}
"""Two ways of computing logits agree if no difference is larger than this share of the largest."""

Inputs = dict[str, torch.Tensor]
"""Arguments of a model's forward pass."""


@dataclass
class Student:
    """A model, its tokenizer, and what differs between the two architectures."""

    model: Any
    tokenizer: Any
    architecture: Architecture
    can_pack: bool | None = None
    """Whether packed rows give the same results as separate ones; None: not tried yet (see
    `encoding.packing.can_pack`)."""
    packed_mask: str = "plain"
    """Which attention mask packed rows get; one of the forms of `encoding.packing`."""
    packing_tried: tuple[float, float] = (0, 0)
    """Positions of the longest row, and of the longest branch, that packing was tried out with."""
    ways: dict[str, tuple[str, int]] = field(default_factory=dict)
    """For each thing that can be computed in several ways, the way that was found to agree with
    the plain model, and the tokens of the longest row that it was tried out with."""
    room: dict[str, int] = field(default_factory=dict)
    """Longest sequence that encoder and decoder were found to take; see `model.room`."""
    fast: Fast = "auto"
    """Whether to use `student.fast`, which is only about speed."""
    notes: list[str] = field(default_factory=list)
    """What was noticed when it was loaded, one line each."""

    def uses(self, part: str) -> bool:
        """Whether this student uses a part of `student.fast` on its device."""
        return self.fast == "auto" and part in fast_parts.PARTS and self.device.type == "cpu"

    @property
    def objective(self) -> ObjectiveName:
        """What it was trained to write. Kept in the model's configuration, next to the weights."""
        name: ObjectiveName = getattr(self.model.config, _OBJECTIVE, "label_then_rationale")
        return name

    @objective.setter
    def objective(self, name: ObjectiveName) -> None:
        setattr(self.model.config, _OBJECTIVE, name)

    @property
    def precision(self) -> str | None:
        """The precision that it was trained in; None if it was not trained here. Kept in the
        model's configuration, so that what is loaded computes what was evaluated."""
        name: str | None = getattr(self.model.config, _PRECISION, None)
        return name

    @precision.setter
    def precision(self, name: str) -> None:
        setattr(self.model.config, _PRECISION, name)

    @property
    def eos_id(self) -> int:
        """The token that ends a target; of a classifier, one that may stand anywhere."""
        known = self.tokenizer
        ends = (known.eos_token_id, known.sep_token_id, known.pad_token_id, 0)
        return int(next(one for one in ends if one is not None))

    @property
    def pad_id(self) -> int:
        """The padding token. Masks go by length, so that it may equal another (SmolLM2's: eos).

        One that was added to the tokenizer alone, without a row among the embeddings, is not used.
        """
        pad = self.tokenizer.pad_token_id
        return self.eos_id if pad is None or pad >= self.embedded_tokens else int(pad)

    @cached_property
    def embedded_tokens(self) -> int:
        """Number of tokens that the model has embeddings for."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def classes(self) -> list[str]:
        """The labels of a classifier, in the words of the task and the order of its outputs."""
        named: dict[int, str] = self.model.config.id2label
        return [named[place] for place in range(len(named))]

    @property
    def decoder_start_id(self) -> int:
        """The token that an encoder-decoder's decoder starts from, in training, in scoring and in
        generation: the one that its configuration names, else the one with which the model itself
        shifts labels to the right, else the padding token."""
        start = getattr(self.model.config, "decoder_start_token_id", None)
        return self._shifted_start if start is None else int(start)

    @cached_property
    def _shifted_start(self) -> int:
        shift = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
        try:
            return int(shift(labels=torch.tensor([[self.eos_id]], device=self.device))[0, 0])  # type: ignore[misc]
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return self.pad_id  # it has no such function, or names no token either

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def parameter_count(self) -> int:
        """Number of weights; shared ones count once."""
        return sum(p.numel() for p in self.model.parameters())

    @cached_property
    def affixes(self) -> tuple[list[int], list[int]]:
        """Special tokens that the tokenizer adds before and after an input."""
        return find_affixes(self.tokenizer)

    def any_tokens(self, count: int, seed: int = 0) -> list[int]:
        """`count` token ids to try the model out with, none of them special; the same each time."""
        special = {*self.tokenizer.all_special_ids, self.pad_id, self.eos_id}
        size = min(self.embedded_tokens, len(self.tokenizer))
        draw = random.Random(seed)
        usable = [i for i in (draw.randrange(size) for _ in range(4 * count)) if i not in special]
        return (usable * count or [self.eos_id] * count)[:count]

    def probe_inputs(self) -> Inputs:
        """Two rows of four tokens, for trying out what the model does."""
        ids = torch.tensor([[self.eos_id, 5, 7, 11]] * 2, device=self.device)
        ids %= self.embedded_tokens
        if self.architecture == "encoder-decoder":
            return {"input_ids": ids, "decoder_input_ids": ids}
        return {"input_ids": ids}

    @property
    def uncached(self) -> dict[str, bool]:
        """The argument with which a forward pass keeps nothing for a next one; a classifier has
        none."""
        return {} if self.architecture == "classifier" else {"use_cache": False}

    @contextmanager
    def narrowed_head(self, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[None]:
        """Inside, the output head runs at the positions (rows, columns) alone.

        Its input [B, T, width] becomes [N, width], and logits come out as [N, vocabulary].
        """

        def narrow(head: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return (inputs[0][rows, columns], *inputs[1:])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(narrow)
        try:
            yield
        finally:
            handle.remove()

    @cached_property
    def head_can_be_narrowed(self) -> bool:
        """Whether the output head, and all that follows it, treats each position by itself.

        True for most models, including those that scale or cap their logits. Tried out on
        `probe_inputs`, because a model's code may do anything with its logits.
        """
        if self.architecture == "classifier" or self.model.get_output_embeddings() is None:
            return False

        inputs = self.probe_inputs()
        rows, columns = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 3])
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                expected = self.model(**inputs, use_cache=False).logits[rows, columns]
                with self.narrowed_head(rows, columns):
                    found = self.model(**inputs, use_cache=False).logits
        except Exception:  # noqa: BLE001  the head is then used as it is
            return False
        finally:
            self.model.train(training)
        if found.shape != expected.shape:
            return False
        tolerance = PROBE_TOLERANCE.get(self.model.dtype, 0.0)
        largest = expected.abs().max().clamp(min=1)
        return bool((expected - found).abs().max() < tolerance * largest)

    def to(self, device: torch.device) -> Student:
        """The same student, its weights moved to `device`."""
        self.model.to(device)
        return self

    def save(self, folder: Path) -> None:
        """Save weights (safetensors), configuration and tokenizer in transformers' format."""
        from transformers import logging

        logging.disable_progress_bar()
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if getattr(self.model.config, "scale_decoder_outputs", None) is False:
            # transformers reads from this key, which it does not write, whether a T5 scales its
            # outputs (those of v1.1 do not).
            path = folder / "config.json"
            write_json(path, read_json(path) | {"tie_word_embeddings": False})
