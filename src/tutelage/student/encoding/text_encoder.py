"""What encoding needs of a student: a tokenizer, and how its prompts end. Free of torch.

A trained student (`student.model.student.Student`) is a TextEncoder, and so is an exported model,
which has no weights that torch could load. Both call the same functions of this package.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

from tutelage.core.types import ObjectiveName

Architecture = Literal["encoder-decoder", "decoder-only", "classifier"]
"""What it computes labels with. A classifier writes nothing: its one target is the label's place
among its classes."""

ANSWER_CUE = "\nAnswer:"
"""End of a decoder-only student's prompt. An encoder-decoder needs none: it has a decoder."""


class TextEncoder(Protocol):
    """A tokenizer with all that decides how a student's inputs and labels become token ids."""

    @property
    def tokenizer(self) -> Any:
        """Called as transformers' tokenizers are; see `plain_tokenizer` for what is called."""

    @property
    def architecture(self) -> Architecture:
        """Whether a prompt ends with a cue."""

    @property
    def objective(self) -> ObjectiveName:
        """What it was trained to write."""

    @property
    def classes(self) -> list[str]:
        """A classifier's classes, each the words of its label."""

    @property
    def affixes(self) -> tuple[list[int], list[int]]:
        """Special tokens before and after an input; see `find_affixes`."""


def find_affixes(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Special tokens that a tokenizer adds before and after an input."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    whole = tokenizer("a").input_ids
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []
