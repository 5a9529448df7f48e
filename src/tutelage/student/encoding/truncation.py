"""Fits inputs into a student's window, and counts what is cut.

    Premise: Oslo lies in Norway and has many Hypothesis: Oslo is a city. ⏎ Answer:
             └─────── cut from its end ─────┘

The field that examples share (a premise), or the longest field if they share none, loses its end.
The names of the fields, the other fields and the cue stay whole. Only when nothing is left of that
field is the rest cut, also from its end, and this is counted separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.core.errors import StudentError
from tutelage.core.types import Source
from tutelage.student.encoding.text_encoder import ANSWER_CUE, TextEncoder


@dataclass(frozen=True, slots=True)
class EncodedSource:
    """One input, as token ids.

    ids:        token ids, special tokens and cue included
    cut_tokens: tokens that did not fit; the whole input has len(ids) + cut_tokens tokens
    cut_beyond: how many of these lie outside the field that is cut first
    """

    ids: list[int]
    cut_tokens: int = 0
    cut_beyond: int = 0

    @property
    def truncated(self) -> bool:
        """Whether anything was cut."""
        return self.cut_tokens > 0


def encode_sources(
    student: TextEncoder, sources: Sequence[Source], limit: int, cue: str | None = None
) -> list[EncodedSource]:
    """Each source in at most `limit` tokens, cue and special tokens included.

    cue: the end of a decoder-only student's prompt; None: `ANSWER_CUE`. Ignored for an
         encoder-decoder

    Raises StudentError if cue and special tokens alone fill `limit`.
    """
    before, after = student.affixes
    if student.architecture == "decoder-only":
        words = ANSWER_CUE if cue is None else cue
        after = student.tokenizer(words, add_special_tokens=False).input_ids if words else []
    room = limit - len(before) - len(after)
    if room < 1:
        raise StudentError(f"max_source_tokens: got {limit}, expected at least {limit - room + 1}")
    whole = token_ids(student.tokenizer, [source.text for source in sources])
    fitted = [EncodedSource(ids) for ids in whole]
    # Few rows are too long: only these are tokenised again, with the offsets of their tokens.
    long = [i for i, ids in enumerate(whole) if len(ids) > room]
    fit = _fit_by_offsets if student.tokenizer.is_fast else _fit_by_search
    for i, one in zip(long, fit(student.tokenizer, [sources[i] for i in long], room), strict=True):
        fitted[i] = one
    return [
        EncodedSource([*before, *one.ids, *after], one.cut_tokens, one.cut_beyond) for one in fitted
    ]


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text without special tokens. One call: many times faster than one per text."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False).input_ids
    return ids


def _fit_by_offsets(tokenizer: Any, sources: Sequence[Source], room: int) -> list[EncodedSource]:
    """Cut sources that are too long, by the offsets of their tokens in the text."""
    if not sources:
        return []
    texts = [source.text for source in sources]
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    fitted = []
    for source, ids, offsets in zip(
        sources, encoded.input_ids, encoded.offset_mapping, strict=True
    ):
        inside: list[int] = []
        outside: list[int] = []
        for i, (start, end) in enumerate(offsets):
            (inside if _lies_within(source, start, end) else outside).append(i)
        rest = _first(outside, room, offsets)
        kept = sorted(rest + _first(inside, room - len(outside), offsets))
        fitted.append(
            EncodedSource([ids[i] for i in kept], len(ids) - len(kept), len(outside) - len(rest))
        )
    return fitted


def _first(tokens: list[int], count: int, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The first `count` of these tokens, or fewer if that would split a character."""
    count = max(count, 0)
    while 0 < count < len(tokens) and offsets[tokens[count - 1]][1] > offsets[tokens[count]][0]:
        count -= 1
    return tokens[:count]


def _lies_within(source: Source, start: int, end: int) -> bool:
    """Whether the token of characters `start` to `end` contains text of the cut span only.

    Many tokenizers attach the space before a word to the word, so spaces at a token's ends do not
    count.
    """
    text, (first, last) = source.text, source.cut
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return first <= start and end <= last and start < last


def _fit_by_search(tokenizer: Any, sources: Sequence[Source], room: int) -> list[EncodedSource]:
    """The same for tokenizers without offsets: search for the most characters that fit."""
    return [_search(tokenizer, source, room) for source in sources]


def _search(tokenizer: Any, source: Source, room: int) -> EncodedSource:
    def ids_with(characters: int) -> list[int]:
        (ids,) = token_ids(tokenizer, [source.text[: first + characters] + source.text[last:]])
        return ids

    first, last = source.cut
    total, rest = len(ids_with(last - first)), ids_with(0)
    if len(rest) >= room:
        return EncodedSource(rest[:room], total - room, len(rest) - room)
    fits, too_many, kept = 0, last - first, rest
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        ids = ids_with(middle)
        if len(ids) <= room:
            fits, kept = middle, ids
        else:
            too_many = middle
    return EncodedSource(kept, total - len(kept))
