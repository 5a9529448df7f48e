"""From training examples to tensors: tokenise once, bucket by length, pad to the longest.

Padding is always on the right and masked by length, never by token id. A decoder that is causal
cannot see what stands to the right of a token, so that it needs no mask for it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tutelage.core.types import Source, TrainingExample
from tutelage.student.encoding.packing import can_pack, pack
from tutelage.student.encoding.targets import (
    LABEL,
    LABEL_SEPARATOR,
    RATIONALE,
    Prompt,
    Writing,
    render_target,
)
from tutelage.student.encoding.truncation import EncodedSource, encode_sources, token_ids
from tutelage.student.model.student import ANSWER_CUE, Student

_BUCKET_WINDOW = 32
"""Batches among which rows are sorted by length: little padding, and an order still random."""

_PREFIXES: dict[Prompt, str] = {"answer": "predict: ", "explain": "explain: "}
"""Of an encoder-decoder's input where it learns two tasks (as in arXiv 2305.02301)."""

_CUES: dict[Prompt, str] = {"answer": ANSWER_CUE, "explain": "\nExplanation:"}
"""End a decoder-only student's prompt: at the end, so that both tasks share what they read."""


@dataclass(frozen=True, slots=True)
class Strand:
    """One thing to be written after one input, as token ids.

    segments: LABEL or RATIONALE for each id of `target`
    """

    source: list[int]
    target: list[int]
    segments: list[int]


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of one row: a strand for each task that its objective makes of it.

    shared:  how many tokens the strands' sources begin with in common
    packed:  whether the strands are read in one pass over what they share
    source_cut, source_cut_beyond: tokens of the input that were cut, as in `EncodedSource`
    target_cut: tokens of the rationale that were cut
    """

    uid: str
    strands: tuple[Strand, ...]
    shared: int
    packed: bool
    source_cut: int
    source_cut_beyond: int
    target_cut: int

    @property
    def length(self) -> int:
        """Tokens in and out."""
        total = sum(len(s.source) + len(s.target) for s in self.strands)
        return total - self.shared * (len(self.strands) - 1) if self.packed else total

    @property
    def counts(self) -> tuple[int, int]:
        """Target tokens in the label and in the rationale segment, in all strands."""
        rationale = sum(sum(s.segments) for s in self.strands)
        return self.target_length - rationale, rationale

    @property
    def target_length(self) -> int:
        """Tokens to be written, in all strands."""
        return sum(len(s.target) for s in self.strands)

    @property
    def source_length(self) -> int:
        """Tokens read, those that strands share in one pass once."""
        return self.length - self.target_length


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as tensors (B rows, S input positions, T decoder positions, N target tokens).

    A row is a strand, or all strands of an example that are packed.

    input_ids:         [B, S]
    attention_mask:    [B, S] for an encoder; else None
    owners:            [B, S] for packed rows, as in `Packed`; else None
    position_ids:      [B, S] for packed rows; else None
    decoder_input_ids: [B, T] for an encoder-decoder; None for a causal model
    rows, columns:     [N] where the prediction of each target token is read off
    target_ids:        [N]
    of_label, of_rationale: which of the N belong to each segment. As places, not as a mask: a GPU
                       would stop to count a mask's
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
                # From other memory a copy would wait for all that the GPU has still to do.
                tensor = tensor.pin_memory()
            return tensor.to(device, non_blocking=True)

        return Batch(*(moved(getattr(self, name)) for name in self.__slots__))  # type: ignore[arg-type]


def encode_prompts(
    student: Student, sources: Sequence[Source], prompt: Prompt, limit: int
) -> list[EncodedSource]:
    """Inputs of at most `limit` tokens by which `student` is asked for its answer, or for its
    explanation, about each source."""
    if student.architecture == "encoder-decoder" and student.objective == "multitask":
        sources = [source.prefixed(_PREFIXES[prompt]) for source in sources]
    return encode_sources(student, sources, limit, _CUES[prompt])


def encode_label(student: Student, words: str) -> list[int]:
    """Ids of a label's words, the same wherever they are scored or learnt."""
    text = f" {words}" if student.architecture == "decoder-only" else words
    ids: list[int] = student.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def encode_separator(student: Student) -> list[int]:
    """Ids of what stands between a rationale and the label after it."""
    text = f"\n{LABEL_SEPARATOR}" if student.architecture == "decoder-only" else LABEL_SEPARATOR
    ids: list[int] = student.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def encode(
    student: Student,
    examples: Sequence[TrainingExample],
    *,
    max_source_tokens: int,
    max_rationale_tokens: int,
) -> list[EncodedExample]:
    """Tokenise each row once, as the student's objective has it written. A rationale that is too
    long loses its end, not its end token."""
    written = [render_target(e.target, student.objective) for e in examples]
    prompts = sorted({w.prompt for writings in written for w in writings})
    texts = [e.source for e in examples]
    sources = {p: encode_prompts(student, texts, p, max_source_tokens) for p in prompts}
    pieces = _PieceIds(student, written)
    packed = len(prompts) > 1 and can_pack(student)
    encoded = []
    for row, (example, writings) in enumerate(zip(examples, written, strict=True)):
        strands = []
        read = [sources[writing.prompt][row] for writing in writings]
        target_cut = 0
        for source, writing in zip(read, writings, strict=True):
            target, segments, cut = pieces.of(writing, max_rationale_tokens)
            strands.append(Strand(source.ids, target, segments))
            target_cut += cut
        shared = _shared_start([s.source for s in strands])
        encoded.append(
            EncodedExample(
                example.uid,
                tuple(strands),
                shared,
                packed and len(strands) > 1,
                # The same text with another prompt: what is cut of it counts once.
                max(source.cut_tokens for source in read),
                max(source.cut_beyond for source in read),
                target_cut,
            )
        )
    return encoded


def _shared_start(sources: Sequence[Sequence[int]]) -> int:
    """How many tokens all of several sources begin with; nothing is shared by a single one."""
    if len(sources) < 2:
        return 0
    places = zip(*sources, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda place: len(set(place)) == 1, places))


class _PieceIds:
    """Ids of everything that is to be written, tokenised in one call."""

    def __init__(self, student: Student, written: Sequence[Sequence[Writing]]) -> None:
        self._student = student
        self._lines = student.architecture == "decoder-only"
        texts = {text: None for writings in written for w in writings for text in self._texts(w)}
        self._ids = dict(zip(texts, token_ids(student.tokenizer, list(texts)), strict=True))

    def _texts(self, writing: Writing) -> list[str]:
        """Pieces with the space or line break that a decoder-only student reads before them."""
        if not self._lines:
            return [piece.text for piece in writing.pieces]
        return [("\n" if p.separator else " ") + p.text for p in writing.pieces]

    def of(self, writing: Writing, limit: int) -> tuple[list[int], list[int], int]:
        """Ids, end token and all, their segments, and how many tokens beyond `limit` the rationale
        lost."""
        ids: list[int] = []
        segments: list[int] = []
        cut = 0
        for number, (piece, text) in enumerate(
            zip(writing.pieces, self._texts(writing), strict=True)
        ):
            tokens = self._ids[text]
            if number == writing.cut and len(tokens) > limit:
                tokens, cut = tokens[:limit], len(tokens) - limit
            ids.extend(tokens)
            segments.extend([piece.segment] * len(tokens))
        return [*ids, self._student.eos_id], [*segments, writing.end_segment], cut


def pad(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """[B, longest], filled up on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


def length_mask(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """[B, longest] of 1 where there is a token, 0 where there is padding."""
    lengths = torch.tensor([len(row) for row in rows])
    return (torch.arange(int(lengths.max())) < lengths[:, None]).long()


def collate(student: Student, examples: Sequence[EncodedExample]) -> Batch:
    """One batch, padded to its longest row. The last token of a target is predicted, never read."""
    if examples[0].packed or any(e.packed for e in examples):
        return _collate_packed(student, examples)
    strands = [strand for example in examples for strand in example.strands]
    causal = student.architecture == "decoder-only"
    inputs: list[list[int]] = []
    decoder: list[list[int]] = []
    targets = _Targets()
    for row, strand in enumerate(strands):
        if causal:
            inputs.append([*strand.source, *strand.target[:-1]])
            targets.add(row, [*range(len(strand.source) - 1, len(inputs[-1]))], strand)
        else:
            inputs.append(strand.source)
            decoder.append([student.decoder_start_id, *strand.target[:-1]])
            targets.add(row, [*range(len(strand.target))], strand)
    return targets.batch(
        pad(inputs, student.pad_id),
        attention_mask=None if causal else length_mask(inputs),
        decoder_input_ids=None if causal else pad(decoder, student.pad_id),
    )


def _collate_packed(student: Student, examples: Sequence[EncodedExample]) -> Batch:
    """A row an example: what its strands share once, then the rest of each as a branch."""
    rows = [
        (
            e.strands[0].source[: e.shared],
            [[*s.source[e.shared :], *s.target[:-1]] for s in e.strands],
        )
        for e in examples
    ]
    packed = pack(rows, student.pad_id)
    targets = _Targets()
    for row, example in enumerate(examples):
        for strand, start in zip(example.strands, packed.starts[row], strict=True):
            # Where the prompt ends: the cue is the beginning of the branch.
            last = start + len(strand.source) - example.shared - 1
            targets.add(row, [*range(last, last + len(strand.target))], strand)
    return targets.batch(packed.input_ids, owners=packed.owners, position_ids=packed.position_ids)


class _Targets:
    """The target tokens of a batch, and where each is read off."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._columns: list[int] = []
        self._ids: list[int] = []
        self._segments: list[int] = []

    def add(self, row: int, columns: Sequence[int], strand: Strand) -> None:
        """columns: one for each token of the strand's target."""
        self._rows.extend([row] * len(columns))
        self._columns.extend(columns)
        self._ids.extend(strand.target)
        self._segments.extend(strand.segments)

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
    lanes: int = 1,
) -> list[list[list[EncodedExample]]]:
    """The optimiser steps of one epoch: each is one or more passes, each of one or more rows.

    The order depends on (seed, epoch) alone, so that a resumed run meets the same batches. A step
    holds `batch_size` rows of like length; a pass holds at most `tokens_per_micro_batch` padded tokens
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
        make_passes([examples[i] for i in step], tokens_per_micro_batch, lanes) for step in steps
    ]


def make_passes(
    examples: Sequence[EncodedExample], tokens_per_micro_batch: int, lanes: int = 1
) -> list[list[EncodedExample]]:
    """The passes of one step: as few as `tokens_per_micro_batch` allows, of equally many rows each, and a
    multiple of `lanes`, as many as run at once.

    The rows of a step are of like length in all. Sorted by how much of it is input they are of like
    length in both parts, which an encoder-decoder pads apart.
    """
    rows = sorted(examples, key=lambda e: e.source_length - e.target_length)
    fewest = sum(row.length for row in rows) // tokens_per_micro_batch
    for count in range(max(-(-fewest // lanes), 1) * lanes, len(rows), lanes):
        bounds = [len(rows) * i // count for i in range(count + 1)]
        parts = [rows[start:end] for start, end in itertools.pairwise(bounds)]
        if all(_padded(part) <= tokens_per_micro_batch for part in parts):
            return parts
    return [[row] for row in rows]


def _padded(rows: Sequence[EncodedExample]) -> int:
    """Positions that `rows` take in one pass, at most."""
    return len(rows) * (max(r.source_length for r in rows) + max(r.target_length for r in rows))


def split_by_tokens(
    lengths: Sequence[int], tokens_per_micro_batch: int, items: Sequence[int] | None = None
) -> list[list[int]]:
    """Cut rows, in their order, into runs whose padded size stays within `tokens_per_micro_batch`."""
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
