"""From token ids to tensors: buckets of similar length, micro-batches, padding.

Padding is always on the right and masked by length, never by token id. A causal decoder does not
attend to what stands to the right of a token, so it needs no mask for padding.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tutelage.student.encoding.packing import pack
from tutelage.student.encoding.targets import LABEL, RATIONALE
from tutelage.student.encoding.tokenise import EncodedExample, TokenSequence
from tutelage.student.model.student import Student

_BUCKET_WINDOW = 32
"""Batches in a window within which rows are sorted by length: little padding, and an order that is
still random."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as tensors (B rows, S input positions, T decoder positions, N target tokens).

    A row is one sequence, or all sequences of a packed example.

    input_ids:         [B, S]
    attention_mask:    [B, S] for an encoder; else None
    owners:            [B, S] for packed rows, as in `Packed`; else None
    position_ids:      [B, S] for packed rows; else None
    decoder_input_ids: [B, T] for an encoder-decoder; else None
    rows, columns:     [N], the position whose logits predict each target token
    target_ids:        [N]
    of_label, of_rationale: which of the N belong to each segment. Indices, not a mask: with a
                       mask a GPU would have to wait for the count
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    owners: torch.Tensor | None
    position_ids: torch.Tensor | None
    decoder_input_ids: torch.Tensor | None
    rows: torch.Tensor
    columns: torch.Tensor
    target_ids: torch.Tensor
    of_label: torch.Tensor
    of_rationale: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        if device.type == "cpu":
            return self

        def moved(tensor: torch.Tensor | None) -> torch.Tensor | None:
            if tensor is None:
                return None
            if device.type == "cuda":
                # From unpinned memory a copy would wait until the GPU has finished its queue.
                tensor = tensor.pin_memory()
            return tensor.to(device, non_blocking=True)

        return Batch(*(moved(getattr(self, name)) for name in self.__slots__))  # type: ignore[arg-type]


def pad(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """[B, longest], padded on the right with `filler`."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


def length_mask(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """[B, longest]: 1 for tokens, 0 for padding."""
    lengths = torch.tensor([len(row) for row in rows])
    return (torch.arange(int(lengths.max())) < lengths[:, None]).long()


def collate(student: Student, examples: Sequence[EncodedExample]) -> Batch:
    """One batch, padded to its longest row. The last token of a target is predicted, but is not an
    input."""
    if examples[0].packed or any(e.packed for e in examples):
        return _collate_packed(student, examples)
    sequences = [sequence for example in examples for sequence in example.sequences]
    causal = student.architecture == "decoder-only"
    has_decoder = student.architecture == "encoder-decoder"
    inputs: list[list[int]] = []
    decoder: list[list[int]] = []
    targets = _Targets()
    for row, sequence in enumerate(sequences):
        if causal:
            inputs.append([*sequence.source, *sequence.target[:-1]])
            targets.add(row, [*range(len(sequence.source) - 1, len(inputs[-1]))], sequence)
        else:
            inputs.append(sequence.source)
            if has_decoder:
                decoder.append([student.decoder_start_id, *sequence.target[:-1]])
            targets.add(row, [*range(len(sequence.target))], sequence)
    return targets.batch(
        pad(inputs, student.pad_id),
        attention_mask=None if causal else length_mask(inputs),
        decoder_input_ids=pad(decoder, student.pad_id) if has_decoder else None,
    )


def _collate_packed(student: Student, examples: Sequence[EncodedExample]) -> Batch:
    """One row per example: the tokens that its sequences share, then the rest of each as a
    branch."""
    rows = [
        (
            e.sequences[0].source[: e.shared],
            [[*s.source[e.shared :], *s.target[:-1]] for s in e.sequences],
        )
        for e in examples
    ]
    packed = pack(rows, student.pad_id)
    targets = _Targets()
    for row, example in enumerate(examples):
        for sequence, start in zip(example.sequences, packed.starts[row], strict=True):
            # The prompt ends inside the branch, which starts with the cue.
            last = start + len(sequence.source) - example.shared - 1
            targets.add(row, [*range(last, last + len(sequence.target))], sequence)
    return targets.batch(packed.input_ids, owners=packed.owners, position_ids=packed.position_ids)


class _Targets:
    """The target tokens of a batch, and the position that predicts each of them."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._columns: list[int] = []
        self._ids: list[int] = []
        self._segments: list[int] = []

    def add(self, row: int, columns: Sequence[int], sequence: TokenSequence) -> None:
        """columns: one for each token of the sequence's target."""
        self._rows.extend([row] * len(columns))
        self._columns.extend(columns)
        self._ids.extend(sequence.target)
        self._segments.extend(sequence.segments)

    def batch(
        self,
        input_ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        owners: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
    ) -> Batch:
        """Inputs and targets together."""
        segments = torch.tensor(self._segments)
        return Batch(
            input_ids,
            attention_mask,
            owners,
            position_ids,
            decoder_input_ids,
            *(torch.tensor(values) for values in (self._rows, self._columns, self._ids)),
            *((segments == segment).nonzero()[:, 0] for segment in (LABEL, RATIONALE)),
        )


def training_steps(
    examples: Sequence[EncodedExample],
    *,
    batch_size: int,
    tokens_per_micro_batch: int,
    seed: int,
    epoch: int,
    concurrency: int = 1,
) -> list[list[list[EncodedExample]]]:
    """The optimiser steps of one epoch, each a list of micro-batches.

    The order depends only on (seed, epoch), so that a resumed training gets the same batches. A
    step holds `batch_size` rows of similar length. A micro-batch holds at most
    `tokens_per_micro_batch` padded tokens, or one row; the gradients of a step's micro-batches add
    up.

    concurrency: how many micro-batches run at once
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
        make_micro_batches([examples[i] for i in step], tokens_per_micro_batch, concurrency)
        for step in steps
    ]


def make_micro_batches(
    examples: Sequence[EncodedExample], tokens_per_micro_batch: int, concurrency: int = 1
) -> list[list[EncodedExample]]:
    """Split a step into as few micro-batches as `tokens_per_micro_batch` allows.

    All have the same number of rows (give or take one), and their number is a multiple of
    `concurrency` unless there are fewer rows. The rows of a step have similar total lengths. Sorted
    by the input's share of it they have similar lengths in input and target, which an
    encoder-decoder pads separately.
    """
    rows = sorted(examples, key=lambda e: e.source_length - e.target_length)
    fewest = sum(row.length for row in rows) // tokens_per_micro_batch
    first = max(-(-fewest // concurrency), 1) * concurrency
    for count in range(first, len(rows), concurrency):
        bounds = [len(rows) * i // count for i in range(count + 1)]
        parts = [rows[start:end] for start, end in itertools.pairwise(bounds)]
        if all(_padded_tokens(part) <= tokens_per_micro_batch for part in parts):
            return parts
    return [[row] for row in rows]


def _padded_tokens(rows: Sequence[EncodedExample]) -> int:
    """Positions of a micro-batch of these rows, at most."""
    return len(rows) * (max(r.source_length for r in rows) + max(r.target_length for r in rows))


def split_by_tokens(
    lengths: Sequence[int], tokens_per_micro_batch: int, items: Sequence[int] | None = None
) -> list[list[int]]:
    """Split rows, in their order, into micro-batches of at most `tokens_per_micro_batch` padded
    tokens, or one row.

    items: what stands for each row in the result; None: its index
    """
    items = range(len(lengths)) if items is None else items
    parts: list[list[int]] = []
    longest = 0
    for item, length in zip(items, lengths, strict=True):
        longest = max(longest, length)
        if not parts or longest * (len(parts[-1]) + 1) > tokens_per_micro_batch:
            parts.append([])
            longest = length
        parts[-1].append(item)
    return parts
