"""A tokenizer from its tokenizer.json alone, through `tokenizers`, without transformers.

It answers the calls that this package makes of transformers' tokenizers, with the same ids, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tutelage.core.errors import StudentError

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class Encoding:
    """Token ids, and the characters of each token where they were asked for: of one text, or a
    list for each of several."""

    input_ids: Any
    offset_mapping: Any = None


@dataclass(frozen=True)
class PlainTokenizer:
    """The tokenizer of a folder.

    path:   of its tokenizer.json
    eos_token_id, unk_token_id: as the trained student's tokenizer named them
    """

    path: Path
    eos_token_id: int
    unk_token_id: int | None
    is_fast: bool = True

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        if not self.path.is_file():
            raise StudentError(f"{self.path}: is missing: export the model again")
        try:
            loaded = Tokenizer.from_file(str(self.path))
        except Exception as error:
            # `tokenizers` raises Exception itself.
            raise StudentError(
                f"{self.path}: is not a tokenizer that can be read ({error}): export the model "
                "again"
            ) from error
        # What the file says of padding and cutting is transformers' state, not the student's.
        loaded.no_padding()
        loaded.no_truncation()
        return loaded

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def __call__(
        self,
        text: str | Sequence[str],
        add_special_tokens: bool = True,
        return_offsets_mapping: bool = False,
    ) -> Encoding:
        """Token ids of one text or of several."""
        if isinstance(text, str):
            one = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
            return Encoding(one.ids, one.offsets if return_offsets_mapping else None)
        found = self._tokenizer.encode_batch(list(text), add_special_tokens=add_special_tokens)
        offsets = [one.offsets for one in found] if return_offsets_mapping else None
        return Encoding([one.ids for one in found], offsets)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The strings of token ids, for engines that take strings."""
        return [str(self._tokenizer.id_to_token(i)) for i in ids]

    def ids_of(self, tokens: Sequence[str]) -> list[int | None]:
        """The ids of token strings; None for one that is not in the vocabulary."""
        return [self._tokenizer.token_to_id(token) for token in tokens]
