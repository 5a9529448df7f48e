"""Lets transformers parse a GGUF file once for each loading, and quickly.

It parses the whole file anew for the configuration, for the tokenizer and for the weights, and each
time most of it for the names of 50,000 tokens. For the weights it makes the table of all their
names anew for each module of the model, some 400 times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any


@contextmanager
def parsed_once() -> Iterator[None]:
    """Inside, each GGUF file is parsed once, and what was parsed is kept until the end."""
    import gguf
    import numpy as np
    from transformers import modeling_gguf_pytorch_utils as transformers_reader

    usual = gguf.GGUFReader
    if not isinstance(usual, type):  # this block is inside another one
        yield
        return
    parsed: dict[Path, Any] = {}

    class Plain(usual):  # type: ignore[misc, valid-type]
        """Slices an ordinary array: a slice of a mapped one takes several times as long."""

        @property
        def data(self) -> Any:
            """The file's bytes, mapped."""
            return self._data

        @data.setter
        def data(self, mapped: Any) -> None:
            self._data = np.asarray(mapped)

    def read(path: str | Path, *options: Any) -> Any:
        place = Path(path).resolve()
        if place not in parsed:
            parsed[place] = Plain(path, *options)
        return parsed[place]

    value_of = transformers_reader._gguf_parse_value
    values: dict[tuple[int, str], Any] = {}

    def once(part: Any, kinds: Any) -> Any:
        # The file's parts stay in memory with its reader, so that each keeps its id.
        key = (id(part), str(kinds))
        if key not in values:
            values[key] = value_of(part, kinds)
        return values[key]

    # transformers takes the reader and the table of names from the package each time.
    package: Any = gguf
    module: Any = transformers_reader
    names = package.get_tensor_name_map
    package.GGUFReader = read
    package.get_tensor_name_map = cache(names)
    module._gguf_parse_value = once
    try:
        yield
    finally:
        package.GGUFReader = usual
        package.get_tensor_name_map = names
        module._gguf_parse_value = value_of
