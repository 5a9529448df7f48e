"""Starts llama.cpp's server in this process, so that it can be stopped at any time after."""

from __future__ import annotations

from typing import Any


def start_server(params: Any) -> Any:
    """The server of these `xllamacpp.CommonParams`. Its destructor stops it.

    The constructor returns before the server's loop runs, and a destructor that comes before the
    loop waits for it without end (xllamacpp 2026.10). So one token is asked for first: its answer
    comes out of the loop.

    Raises ImportError without xllamacpp, and what its constructor raises: RuntimeError, ValueError
    or MemoryError where the model cannot be loaded.
    """
    import xllamacpp

    server = xllamacpp.Server(params)
    server.handle_completions({"prompt": [1], "max_tokens": 1})
    return server
