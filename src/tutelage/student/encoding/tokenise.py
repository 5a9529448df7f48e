"""From training examples to token ids: each text is tokenised once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tutelage.core.types import TrainingExample
from tutelage.student.encoding.packing import can_pack
from tutelage.student.encoding.prompts import encode_prompts
from tutelage.student.encoding.targets import LABEL, RenderedTarget, render_target
from tutelage.student.encoding.truncation import token_ids
from tutelage.student.model.student import Student


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One input and the target that follows it, as token ids.

    segments: LABEL or RATIONALE for each id of `target`
    """

    source: list[int]
    target: list[int]
    segments: list[int]


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of one row: a sequence for each task of its objective.

    shared:            number of tokens that the sequences' sources have in common at their start
    packed:            whether the sequences share one row, with the common tokens computed once
    source_cut:        tokens of the input that were cut
    source_cut_beyond: how many of these lie outside the field that is cut first
    target_cut:        tokens of the rationale that were cut
    source_length:     input tokens; common ones count once in a packed row
    target_length:     target tokens, over all sequences
    """

    uid: str
    sequences: tuple[TokenSequence, ...]
    shared: int
    packed: bool
    source_cut: int
    source_cut_beyond: int
    target_cut: int
    source_length: int = field(init=False, compare=False)
    target_length: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # Counted once: each epoch sorts all rows by length, and each step its own twice.
        repeated = self.shared * (len(self.sequences) - 1) if self.packed else 0
        source = sum(len(s.source) for s in self.sequences) - repeated
        object.__setattr__(self, "source_length", source)
        object.__setattr__(self, "target_length", sum(len(s.target) for s in self.sequences))

    @property
    def length(self) -> int:
        """Tokens of inputs and targets; common ones count once in a packed row."""
        return self.source_length + self.target_length

    @property
    def counts(self) -> tuple[int, int]:
        """Target tokens in the label and in the rationale segment, over all sequences."""
        rationale = sum(sum(s.segments) for s in self.sequences)
        return self.target_length - rationale, rationale


def encode_examples(
    student: Student,
    examples: Sequence[TrainingExample],
    *,
    max_source_tokens: int,
    max_rationale_tokens: int,
) -> list[EncodedExample]:
    """Token ids of each row, for the student's objective.

    A rationale that is too long loses its end, but not the end token.
    """
    if student.architecture == "classifier":
        return _encode_for_classifier(student, examples, max_source_tokens)
    rendered = [render_target(e.target, student.objective) for e in examples]
    prompts = sorted({target.prompt for targets in rendered for target in targets})
    texts = [e.source for e in examples]
    sources = {p: encode_prompts(student, texts, p, max_source_tokens) for p in prompts}
    encoder = _TargetEncoder(student, rendered)
    encoded = []
    for row, (example, targets) in enumerate(zip(examples, rendered, strict=True)):
        sequences = []
        inputs = [sources[target.prompt][row] for target in targets]
        target_cut = 0
        for source, target in zip(inputs, targets, strict=True):
            ids, segments, cut = encoder.encode(target, max_rationale_tokens)
            sequences.append(TokenSequence(source.ids, ids, segments))
            target_cut += cut
        shared = _common_start([s.source for s in sequences])
        encoded.append(
            EncodedExample(
                example.uid,
                tuple(sequences),
                shared,
                len(sequences) > 1,
                # The same text with different prompts: what is cut of it counts once.
                max(source.cut_tokens for source in inputs),
                max(source.cut_beyond for source in inputs),
                target_cut,
            )
        )
    pairs = [(e.shared, s) for e in encoded for s in e.sequences]
    longest = max((len(s.source) + len(s.target) for _, s in pairs), default=0)
    branch = max((len(s.source) - shared + len(s.target) for shared, s in pairs), default=0)
    if len(prompts) > 1 and not can_pack(student, longest, branch):
        return [replace(e, packed=False) for e in encoded]
    return encoded


def _encode_for_classifier(
    student: Student, examples: Sequence[TrainingExample], limit: int
) -> list[EncodedExample]:
    """Rows whose target is the label's class alone: neither words nor an end token."""
    sources = encode_prompts(student, [e.source for e in examples], "answer", limit)
    place = {words: number for number, words in enumerate(student.classes)}
    return [
        EncodedExample(
            example.uid,
            (TokenSequence(source.ids, [place[example.target.label]], [LABEL]),),
            0,
            False,
            source.cut_tokens,
            source.cut_beyond,
            0,
        )
        for example, source in zip(examples, sources, strict=True)
    ]


def _common_start(sources: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all sources have in common at their start; 0 for a single source."""
    if len(sources) < 2:
        return 0
    places = zip(*sources, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda place: len(set(place)) == 1, places))


class _TargetEncoder:
    """Token ids of all targets, tokenised in one call."""

    def __init__(self, student: Student, rendered: Sequence[Sequence[RenderedTarget]]) -> None:
        self._has_lines = student.architecture == "decoder-only"
        self._end = student.eos_id
        texts = {
            text: None for targets in rendered for target in targets for text in self._texts(target)
        }
        self._ids = dict(zip(texts, token_ids(student.tokenizer, list(texts)), strict=True))

    def _texts(self, target: RenderedTarget) -> list[str]:
        """The parts' texts, for a decoder-only student with the space or line break before them."""
        if not self._has_lines:
            return [part.text for part in target.parts]
        return [("\n" if part.separator else " ") + part.text for part in target.parts]

    def encode(self, target: RenderedTarget, limit: int) -> tuple[list[int], list[int], int]:
        """Ids with the end token, their segments, and how many tokens of the rationale were cut.

        limit: tokens that the rationale may have
        """
        ids: list[int] = []
        segments: list[int] = []
        cut = 0
        for number, (part, text) in enumerate(zip(target.parts, self._texts(target), strict=True)):
            tokens = self._ids[text]
            if number == target.truncatable and len(tokens) > limit:
                tokens, cut = tokens[:limit], len(tokens) - limit
            ids.extend(tokens)
            segments.extend([part.segment] * len(tokens))
        return [*ids, self._end], [*segments, target.end_segment], cut
