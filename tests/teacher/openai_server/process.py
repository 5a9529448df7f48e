"""A server in a process of its own, which survives when its clients are killed."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Self


class ServerProcess:
    """`with ServerProcess(delay_s=0.05) as server: server.base_url, server.stats()`.

    plain: the fast stub instead; the settings are then those of stub.StubOptions
    final: the counts when it ended
    """

    def __init__(self, *, plain: bool = False, **settings: Any) -> None:
        self._arguments = ["stub"] if plain else []
        self._arguments.append(json.dumps(settings))
        self.final: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # signals to the test's process group do not reach it
        )
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()
        if not self.base_url:
            raise RuntimeError(f"the server ended with {self._process.wait()}")
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def stats(self, *, prompts: bool = False) -> dict[str, Any]:
        """Its current counts."""
        address = self.base_url.removesuffix("/v1") + "/stats" + ("?prompts=1" if prompts else "")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address) as answer:
            return dict(json.load(answer))

    def change(self, **settings: Any) -> None:
        """Change options from now on (not those of the stub)."""
        address = self.base_url.removesuffix("/v1") + "/options"
        data = json.dumps(settings).encode()
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, data).close()

    def __exit__(self, *_: object) -> None:
        output, _errors = self._process.communicate(timeout=30)
        self.final = json.loads(output)
