"""From training examples to tensors: tokenise once, bucket by length, pad to the longest.

Padding is always on the right and masked by length, never by token id. A decoder that is causal
cannot see what stands to the right of a token, so that it needs no mask at all.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tutelage.errors import StudentError
from tutelage.records import TrainingExample
from tutelage.student.model import ANSWER_CUE, Student
from tutelage.student.target import SEPARATOR

LABEL, RATIONALE = 0, 1
"""Numbers of the two segments of a target."""

_BUCKET_WINDOW = 32
"""Batches among which rows are sorted by length: little padding, and an order still random."""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of one row. `rationale` begins with the separator and ends with the end token;
    where it is empty, `label` ends with the end token."""

    uid: str
    source: list[int]
    label: list[int]
    rationale: list[int]
    truncated_source: bool
    truncated_target: bool

    @property
    def length(self) -> int:
        """Tokens in and out."""
        return len(self.source) + len(self.label) + len(self.rationale)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as tensors (B rows, S input positions, T decoder positions, N target tokens).

    input_ids:         [B, S]
    attention_mask:    [B, S] for an encoder; None for a causal model
    decoder_input_ids: [B, T] for an encoder-decoder; None for a causal model
    rows, columns:     [N] where the prediction of each target token is read off
    target_ids:        [N]
    segments:          [N], LABEL or RATIONALE
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    decoder_input_ids: torch.Tensor | None
    rows: torch.Tensor
    columns: torch.Tensor
    target_ids: torch.Tensor
    segments: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        if device.type == "cpu":
            return self
        moved = (getattr(self, name) for name in self.__slots__)
        return Batch(*(None if t is None else t.to(device, non_blocking=True) for t in moved))  # type: ignore[arg-type]

    @property
    def counts(self) -> tuple[int, int]:
        """Target tokens in the label and in the rationale segment."""
        rationale = int(self.segments.sum())
        return len(self.segments) - rationale, rationale


def encode_sources(
    student: Student, texts: Sequence[str], limit: int
) -> list[tuple[list[int], bool]]:
    """Input ids of at most `limit` tokens for each text, and whether it had to be cut.

    What is cut is the beginning, which is the longer field's (a premise): the field asked about
    comes last and stays whole.
    """
    before, after = student.affixes
    if student.architecture == "decoder-only":
        after = student.tokenizer(ANSWER_CUE, add_special_tokens=False).input_ids
    room = limit - len(before) - len(after)
    if room < 1:
        raise StudentError(f"max_source_tokens: got {limit}, expected at least {limit - room + 1}")
    return [
        ([*before, *tokens[-room:], *after], len(tokens) > room)
        for tokens in _token_ids(student, texts)
    ]


def _token_ids(student: Student, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, without special tokens, in one call: many times faster than one by one."""
    if not texts:
        return []
    ids: list[list[int]] = student.tokenizer(list(texts), add_special_tokens=False).input_ids
    return ids


def encode_label(student: Student, words: str) -> list[int]:
    """Ids of a label's words, the same wherever they are scored or learnt."""
    text = f" {words}" if student.architecture == "decoder-only" else words
    ids: list[int] = student.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def encode(
    student: Student,
    examples: Sequence[TrainingExample],
    *,
    max_source_tokens: int,
    max_rationale_tokens: int,
) -> list[EncodedExample]:
    """Tokenise each row once. A rationale that is too long loses its end, not its end token."""
    lead = "\n" if student.architecture == "decoder-only" else ""
    sources = encode_sources(student, [e.source for e in examples], max_source_tokens)
    labels = {words: encode_label(student, words) for words in {e.target.label for e in examples}}
    texts = [
        f"{lead}{SEPARATOR} {e.target.rationale}"
        for e in examples
        if e.target.rationale is not None
    ]
    rationales = iter(_token_ids(student, texts))
    encoded = []
    for example, (source, cut_source) in zip(examples, sources, strict=True):
        label = labels[example.target.label]
        rationale: list[int] = []
        cut_target = False
        if example.target.rationale is None:
            label = [*label, student.eos_id]
        else:
            ids = next(rationales)
            cut_target = len(ids) > max_rationale_tokens
            rationale = [*ids[:max_rationale_tokens], student.eos_id]
        encoded.append(
            EncodedExample(example.uid, source, label, rationale, cut_source, cut_target)
        )
    return encoded


def pad(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """[B, longest], filled up on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


def length_mask(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """[B, longest] of 1 where there is a token, 0 where there is padding."""
    lengths = torch.tensor([len(row) for row in rows])
    return (torch.arange(int(lengths.max())) < lengths[:, None]).long()


def collate(student: Student, examples: Sequence[EncodedExample]) -> Batch:
    """One batch, padded to its longest row."""
    rows: list[int] = []
    columns: list[int] = []
    segments: list[int] = []
    targets: list[int] = []
    inputs: list[list[int]] = []
    decoder: list[list[int]] = []
    causal = student.architecture == "decoder-only"
    for row, example in enumerate(examples):
        target = [*example.label, *example.rationale]
        first = len(example.source) - 1 if causal else 0
        rows.extend([row] * len(target))
        columns.extend(range(first, first + len(target)))
        targets.extend(target)
        segments.extend([LABEL] * len(example.label) + [RATIONALE] * len(example.rationale))
        # The last target token is predicted and never read.
        if causal:
            inputs.append([*example.source, *target[:-1]])
        else:
            inputs.append(example.source)
            decoder.append([student.decoder_start_id, *target[:-1]])
    return Batch(
        pad(inputs, student.pad_id),
        None if causal else length_mask(inputs),
        None if causal else pad(decoder, student.pad_id),
        torch.tensor(rows),
        torch.tensor(columns),
        torch.tensor(targets),
        torch.tensor(segments),
    )


def training_steps(
    examples: Sequence[EncodedExample],
    *,
    batch_size: int,
    tokens_per_pass: int,
    seed: int,
    epoch: int,
) -> list[list[list[EncodedExample]]]:
    """The optimiser steps of one epoch: each is one or more passes, each of one or more rows.

    The order depends on (seed, epoch) alone, so that a resumed run meets the same batches. A step
    holds `batch_size` rows of like length; a pass holds at most `tokens_per_pass` padded tokens
    (or one row), and the gradients of a step's passes add up.
    """
    order = list(range(len(examples)))
    shuffler = random.Random(f"{seed}/{epoch}")
    shuffler.shuffle(order)
    window = batch_size * _BUCKET_WINDOW
    steps: list[list[int]] = []
    for start in range(0, len(order), window):
        rows = sorted(order[start : start + window], key=lambda i: examples[i].length)
        steps.extend(rows[i : i + batch_size] for i in range(0, len(rows), batch_size))
    shuffler.shuffle(steps)
    return [
        [
            [examples[i] for i in part]
            for part in split_by_tokens([examples[i].length for i in step], tokens_per_pass, step)
        ]
        for step in steps
    ]


def split_by_tokens(
    lengths: Sequence[int], tokens_per_pass: int, items: Sequence[int] | None = None
) -> list[list[int]]:
    """Cut rows, in their order, into runs whose padded size stays within `tokens_per_pass`."""
    items = range(len(lengths)) if items is None else items
    parts: list[list[int]] = []
    longest = 0
    for item, length in zip(items, lengths, strict=True):
        longest = max(longest, length)
        if not parts or longest * (len(parts[-1]) + 1) > tokens_per_pass:
            parts.append([])
            longest = length
        parts[-1].append(item)
    return parts
