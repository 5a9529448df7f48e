"""A student's tokenizer as llama.cpp expects it in a GGUF file.

llama.cpp splits a text into words by rules that it knows by name, and then merges bytes. Which
name a tokenizer has is read from its own description of these rules, and whatever has another
description is refused. `gguf_parity` compares the token ids that come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.core.errors import StudentError
from tutelage.core.storage import read_json

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_NAMES: dict[tuple[str, ...], str] = {
    ("bytes of words",): "gpt-2",
    ("digits", "bytes of words"): "smollm",
    (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}", "bytes"): "qwen2",
    (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}", "bytes"): (
        "llama-bpe"
    ),
}
"""llama.cpp's name of a pre-tokenizer, by the steps of the pre-tokenizer."""

_WHOLE_WORDS_FIRST = {"llama-bpe"}
"""Names for which llama.cpp takes a word that is a token as it is, without merging."""

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Types of tokens in a GGUF file."""


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer.

    pre:     llama.cpp's name of its pre-tokenizer
    tokens, types: of each id
    merges:  pairs of tokens, the first merged first
    eos_id:  the token that ends a text
    bos_id:  the token that an input begins with; None: none
    composes: whether the tokenizer brings a text into composed characters (NFC) first, which
              llama.cpp leaves to whoever sends it
    """

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    eos_id: int
    bos_id: int | None
    composes: bool


def read_vocabulary(file: Path, *, size: int, eos_id: int, before: Sequence[int]) -> Vocabulary:
    """The vocabulary of a tokenizer.json.

    size:   tokens that the model has embeddings for
    before: special tokens before an input

    Raises StudentError for a tokenizer that llama.cpp does not have.
    """
    described = read_json(file)
    model = described.get("model") or {}
    if len(before) > 1:
        raise _refusal(f"it puts {len(before)} special tokens before an input, llama.cpp one")
    pre = _name_of(described, model)
    tokens = [f"[PAD{i}]" for i in range(size)]
    types = [UNUSED] * size
    beyond = [i for i in model["vocab"].values() if i >= size]
    if beyond:
        raise _refusal(f"token {min(beyond)} has no embedding: the model has {size:,}")
    for token, i in model["vocab"].items():
        tokens[i], types[i] = token, NORMAL
    for added in described.get("added_tokens") or ():
        # Padding that was added to the tokenizer alone is never an input.
        if (i := int(added["id"])) < size:
            tokens[i] = added["content"]
            types[i] = CONTROL if added.get("special") else USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    composes = described.get("normalizer") is not None  # NFC: any other was refused
    return Vocabulary(pre, tokens, types, merges, eos_id, before[0] if before else None, composes)


def _name_of(described: dict[str, Any], model: dict[str, Any]) -> str:
    """llama.cpp's name of the pre-tokenizer. Raises StudentError for another tokenizer."""
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = "BPE with byte fallback" if model.get("type") == "BPE" else model.get("type")
        raise _refusal(f"it is {kind}, and byte-level BPE is expected")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(key):
            raise _refusal(f"its BPE has {key}, which llama.cpp's has not")
    normalizer = (described.get("normalizer") or {}).get("type")
    if normalizer not in (None, "NFC"):
        raise _refusal(f"it changes texts first ({normalizer}), which llama.cpp does not")
    steps = tuple(_steps(described.get("pre_tokenizer")))
    name = _NAMES.get(steps)
    if name is None or bool(model.get("ignore_merges")) != (name in _WHOLE_WORDS_FIRST):
        shown = ", ".join(steps) or "nothing"
        raise _refusal(
            f"it splits words by {shown[:120]}, which is none of {', '.join(_NAMES.values())}"
        )
    return name


def _steps(step: dict[str, Any] | None) -> list[str]:
    """The steps of a pre-tokenizer, each in a word or as its regular expression."""
    if step is None:
        return []
    kind = step.get("type")
    if kind == "Sequence":
        return [name for one in step["pretokenizers"] for name in _steps(one)]
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return ["bytes of words" if step.get("use_regex", True) else "bytes"]
    if kind == "Digits" and step.get("individual_digits"):
        return ["digits"]
    if kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        return [str((step.get("pattern") or {}).get("Regex"))]
    return [str(kind)]


def _refusal(why: str) -> StudentError:
    return StudentError(f"gguf: llama.cpp does not have this student's tokenizer: {why}")
