"""Lets transformers parse a GGUF file once for each loading, and quickly.

It parses the whole file anew for the configuration, for the tokenizer and for the weights, and each
time most of it for the names of 50,000 tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def parsed_once() -> Iterator[None]:
    """Inside, each GGUF file is parsed once, and what was parsed is kept until the end."""
    import gguf
    import numpy as np

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

    # transformers takes the reader from the package each time.
    package: Any = gguf
    package.GGUFReader = read
    try:
        yield
    finally:
        package.GGUFReader = usual
