"""A GGUF file in llama.cpp's own server, in this process, asked for probabilities of tokens."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np

from tutelage.core.errors import MissingExtraError, StudentError
from tutelage.core.llama_cpp_server import start_server
from tutelage.evaluation.temperature import Floats

_SLOTS = 4
"""Rows that are computed at the same time."""

_STEP = 256
"""llama.cpp rounds a context up to a multiple of it."""

_FORCED = 10_000.0
"""Added to a token's logit, so that it is drawn. The server reports the probabilities of before."""


class LlamaServer:
    """llama.cpp over one file, inside a `with` block.

    context: tokens of the longest prompt with what follows it
    exact:   keys and values in f32, not in llama.cpp's usual f16

    Raises MissingExtraError without xllamacpp, StudentError for a file that it cannot load.
    """

    def __init__(self, file: Path, context: int, *, exact: bool) -> None:
        try:
            import xllamacpp as llama
        except ImportError as error:
            raise MissingExtraError("xllamacpp", "local", "--gguf") from error
        said = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(said) if said.isdigit() and int(said) else os.cpu_count() or 1
        params = llama.CommonParams()
        params.model.path = str(file)
        params.n_parallel = _SLOTS
        params.n_ctx = _SLOTS * -(-context // _STEP) * _STEP
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_threads_http = _SLOTS
        params.cache_ram_mib = 0
        params.warmup = False
        params.verbosity = -1
        if exact:
            params.cache_type_k = params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
            off = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
            params.flash_attn_type = off
        try:
            self._server = start_server(params)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise StudentError(f"llama.cpp cannot load the file ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server = None  # its destructor stops it

    def tokens(self, text: str, *, whole: bool = True) -> list[int]:
        """Token ids of a text. whole: with the special tokens that an input begins with."""
        address = urlsplit(self._server.listening_address)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        asked = {"content": text, "add_special": whole, "parse_special": True}
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/tokenize", json.dumps(asked).encode(), headers)
            return [int(i) for i in json.loads(connection.getresponse().read())["tokens"]]
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise StudentError(f"llama.cpp: /tokenize: {error!r}") from error
        finally:
            connection.close()

    def scores(self, prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> Floats:
        """log p(label | prompt), summed over the label's tokens: [prompts, labels]."""
        steps = sorted({(tuple(ids[:t]), ids[t]) for ids in labels for t in range(len(ids))})

        def of_row(prompt: Sequence[int]) -> list[float]:
            # One after the other, so that the server keeps what the row has computed.
            found = {step: self._log_probability([*prompt, *step[0]], step[1]) for step in steps}
            return [sum(found[tuple(ids[:t]), ids[t]] for t in range(len(ids))) for ids in labels]

        with ThreadPoolExecutor(_SLOTS) as pool:
            return np.array(list(pool.map(of_row, prompts)), dtype=np.float64)

    def text_after(self, prompt: str | Sequence[int], limit: int) -> str:
        """What it writes after a prompt, always the most probable token; `limit` tokens at most."""
        asked = {"prompt": prompt, "max_tokens": limit, "temperature": 0}
        return str(self._complete(asked)["text"])

    def _log_probability(self, prompt: Sequence[int], token: int) -> float:
        """log p(token | prompt)."""
        asked = {
            "prompt": list(prompt), "max_tokens": 1, "temperature": 0, "logprobs": 1,
            "logit_bias": [[token, _FORCED]], "cache_prompt": True,
        }  # fmt: skip
        (drawn,) = self._complete(asked)["logprobs"]["content"]
        if drawn["id"] != token:
            raise StudentError(f"llama.cpp drew token {drawn['id']} where {token} was forced")
        return float(drawn["logprob"])

    def _complete(self, asked: dict[str, Any]) -> Any:
        answer = self._server.handle_completions(asked)
        try:
            return answer["choices"][0]
        except (KeyError, IndexError, TypeError) as error:
            line = " ".join(str(answer).split())[:200]
            raise StudentError(f"llama.cpp gave no completion ({line})") from error
