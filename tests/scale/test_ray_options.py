"""`--engine ray` of the commands, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_server import ScriptedServer
from small_rows import rows
from typer.testing import CliRunner
from worker_threads import Threads

from tutelage.cli.main import app
from tutelage.config.scale_settings import ScaleSettings
from tutelage.core.errors import MissingExtraError, UsageError
from tutelage.core.interruption import sigterm_as_ctrl_c
from tutelage.core.storage import write_jsonl
from tutelage.scale.annotate_on_ray import asks_on_ray
from tutelage.scale.background import Background
from tutelage.scale.predict_on_ray import scores_on_ray


def command(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words), env={"OPENAI_API_KEY": "x"}, catch_exceptions=False)
    return done.exit_code, done.output


def annotate(data: Path, output: str, server: ScriptedServer, *more: str) -> tuple[int, str]:
    return command(
        *("annotate", str(data), "--task", "nli", "--teacher", "openai:m"),
        *("--base-url", server.base_url, "--output", output, "--ledger", output + ".sqlite", *more),
    )


def test_the_command_writes_the_same_file(tmp_path: Path, threads: Threads) -> None:
    data = tmp_path / "rows.jsonl"
    write_jsonl(data, [{"uid": r.uid, **r.fields, "label": r.label} for r in rows(60)])
    shared = tmp_path / "shared"
    with ScriptedServer() as server:
        local, ray = str(tmp_path / "local.jsonl"), str(tmp_path / "ray.jsonl")
        assert annotate(data, local, server)[0] == 0
        code, said = annotate(
            data, ray, server, "--engine", "ray", "--workers", "3", "--shared-folder", str(shared)
        )
    assert code == 0 and "60 ok; 60 requests, 0 answers from the ledger" in said
    assert Path(local).read_bytes() == Path(ray).read_bytes()
    (folder,) = shared.iterdir()
    assert [path.name for path in folder.iterdir()] == ["answers"]
    assert not list((folder / "answers").iterdir())
    assert json.loads(Path(ray).read_text(encoding="utf-8").splitlines()[0])["uid"] == "r0"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "2"], "one process makes all requests"),
        (["--shared-folder", "x"], "is for workers of a cluster"),
        (["--engine", "spark"], "--engine"),
        (["--workers", "0", "--engine", "ray"], "--workers"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path: Path, words: list[str], said: str) -> None:
    data = tmp_path / "rows.jsonl"
    write_jsonl(data, [{"uid": r.uid, **r.fields, "label": r.label} for r in rows(3)])
    with ScriptedServer() as server:
        with pytest.raises(UsageError, match=said):
            annotate(data, str(tmp_path / "out.jsonl"), server, *words)
        assert server.counts.requests == 0


def test_without_ray_nothing_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == "ray" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    settings = ScaleSettings(engine="ray")
    for begin in (lambda: asks_on_ray(settings), lambda: scores_on_ray(settings, tmp_path / "o")):
        with pytest.raises(MissingExtraError, match=r"tutelage\[scale\]"):
            begin()
    with pytest.raises(UsageError, match="rows_per_block is for workers"):
        ScaleSettings(rows_per_block=5)


def test_a_wait_that_ctrl_c_interrupts_can_go_on() -> None:
    goes_on = threading.Event()

    def results() -> Iterator[int]:
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        yield 1
        goes_on.wait(30)
        yield 2

    work = Background()
    work.begin(results)
    with sigterm_as_ctrl_c(), pytest.raises(KeyboardInterrupt):
        work.wait()
    assert work.is_alive
    goes_on.set()
    work.wait()
    assert not work.is_alive
