"""A batch of Anthropic or Gemini is continued after a kill at any step, and paid once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from batch_worker import killed, run
from native_server import NativeServer

from tutelage.config.teacher_settings import PriceOverride
from tutelage.teacher.ledger.charges import charged, lost
from tutelage.teacher.ledger.store import Ledger

COUNT = 2
STEPS = {"anthropic": 18, "gemini": 18}
"""Steps (transactions, calls of the server) of a whole run of one batch; a test counts them."""


KILLS = [
    (scheme, step)
    for parity, (scheme, last) in enumerate(STEPS.items())
    for step in range(1, last + 1)
    if step % 2 == parity or step in (3, 4, 5, 6)
]
"""Every step, by turns with one of the two; with both around the fourth, which creates the
batch."""


def teacher(scheme: str) -> dict[str, Any]:
    price = PriceOverride(input=1, output=4, cached_input=0.1)
    return {"model": f"{scheme}:m", "max_tokens": 20, "price": price}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "the-secret-key")


def run_killed(folder: Path, server: NativeServer, step: int) -> tuple[int, str]:
    """Run in a fork, which has everything imported, and which dies after `step` steps; its exit
    code, and what it wrote at its end."""
    result = folder / "result"
    process = multiprocessing.get_context("fork").Process(
        target=killed,
        args=(folder / "ledger.sqlite", server.base_url, COUNT, step, result),
        kwargs=teacher(server.scheme),
    )
    process.start()
    process.join(150)
    text = result.read_text(encoding="utf-8") if result.exists() else ""
    assert process.exitcode is not None
    return process.exitcode, text


@pytest.mark.parametrize(("scheme", "step"), KILLS)
def test_the_next_call_continues_after_a_kill_at_any_step(
    scheme: str, step: int, tmp_path: Path
) -> None:
    with NativeServer(scheme) as server:
        code, text = run_killed(tmp_path, server, step)
        assert code == -9, text
        run(tmp_path / "ledger.sqlite", server.base_url, COUNT, **teacher(scheme))
        assert server.calls["create"] == 1 and server.answered == 0
        assert len(server.asked) == COUNT and set(server.asked.values()) == {1}
        billed = server.billed_pico
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert len(ledger) == COUNT
        assert charged(ledger, "run") == billed > 0
        assert lost(ledger, "run") == (0, 0)


@pytest.mark.parametrize("scheme", STEPS)
def test_the_number_of_steps_above_is_complete(scheme: str, tmp_path: Path) -> None:
    with NativeServer(scheme) as server:
        assert run_killed(tmp_path, server, 0) == (0, str(STEPS[scheme]))
