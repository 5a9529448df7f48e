"""Writes an exported student's rationales with CTranslate2. Free of torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.core.errors import MissingExtraError, StudentError
from tutelage.student.encoding.plain_tokenizer import PlainTokenizer
from tutelage.student.encoding.text_encoder import Architecture

RATIONALES = "rationales"
"""Folder of CTranslate2's files, in an export's folder."""

_ROWS = 16
"""Rows for which texts are written together."""


class RationaleEngine:
    """A model that CTranslate2 runs. It takes and gives token strings, which `tokens` checks.

    Raises MissingExtraError without CTranslate2, StudentError for files that cannot be read.
    """

    def __init__(self, folder: Path, tokenizer: PlainTokenizer, architecture: Architecture) -> None:
        try:
            import ctranslate2
        except ImportError as error:
            raise MissingExtraError("ctranslate2", "deliver", "this model's rationales") from error
        said = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(said) if said.isdigit() else 0
        self._tokenizer = tokenizer
        self._translates = architecture == "encoder-decoder"
        kind = ctranslate2.Translator if self._translates else ctranslate2.Generator
        try:
            self._model: Any = kind(str(folder / RATIONALES), device="cpu", intra_threads=threads)
        except (RuntimeError, ValueError) as error:
            line = " ".join(str(error).split())[:200]
            raise StudentError(f"{folder / RATIONALES}: cannot be loaded ({line})") from error

    def write(
        self, sources: Sequence[Sequence[int]], starts: Sequence[Sequence[int]], limit: int
    ) -> list[list[int]]:
        """Token ids that continue each source and the start of its target, greedily.

        limit: most tokens for a row. The end token is not returned.
        """
        found: list[list[int]] = []
        for first in range(0, len(sources), _ROWS):
            inputs = [self.tokens(ids) for ids in sources[first : first + _ROWS]]
            before = [self.tokens(ids) for ids in starts[first : first + _ROWS]]
            if self._translates:
                results = self._model.translate_batch(
                    inputs,
                    target_prefix=before,
                    beam_size=1,
                    max_input_length=0,
                    max_decoding_length=limit + max(map(len, before)),
                )
                texts = [
                    result.hypotheses[0][len(start) :][:limit]
                    for result, start in zip(results, before, strict=True)
                ]
            else:
                prompts = [[*one, *start] for one, start in zip(inputs, before, strict=True)]
                results = self._model.generate_batch(
                    prompts, beam_size=1, max_length=limit, include_prompt_in_result=False
                )
                texts = [result.sequences[0] for result in results]
            found += [self._ids(tokens) for tokens in texts]
        return found

    def log_probabilities(
        self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """log p of each token of each target, given its source and what stands before it."""
        inputs = [self.tokens(ids) for ids in sources]
        wanted = [self.tokens(ids) for ids in targets]
        if self._translates:
            results = self._model.score_batch(inputs, wanted, max_input_length=0)
            return [
                list(result.log_probs)[: len(ids)]
                for result, ids in zip(results, targets, strict=True)
            ]
        whole = [[*one, *target] for one, target in zip(inputs, wanted, strict=True)]
        results = self._model.score_batch(whole, max_input_length=0)
        # The first token of a sequence has no probability.
        return [
            list(result.log_probs)[len(source) - 1 :][: len(ids)]
            for result, source, ids in zip(results, inputs, targets, strict=True)
        ]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The strings of token ids. Raises StudentError where they do not lead back to the ids."""
        strings = self._tokenizer.tokens(ids)
        back = self._tokenizer.ids_of(strings)
        if back != list(ids):
            wrong = next(
                i for i, (one, other) in enumerate(zip(ids, back, strict=True)) if one != other
            )
            raise StudentError(
                f"token {ids[wrong]} is written {strings[wrong]!r}, which is token {back[wrong]}: "
                "CTranslate2 cannot name this tokenizer's tokens"
            )
        return strings

    def _ids(self, tokens: Sequence[str]) -> list[int]:
        ids = [i for i in self._tokenizer.ids_of(tokens) if i is not None]
        end = self._tokenizer.eos_token_id
        return ids[: ids.index(end)] if end in ids else ids
