"""Outputs are the user's: links, pipes, permissions and folders are kept what they are."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tutelage.core.errors import RunFolderError, UsageError
from tutelage.core.rationale_file import RationaleFile
from tutelage.core.storage import read_jsonl, write_atomic, write_jsonl
from tutelage.core.types import Rationale


def rationales(path: Path) -> None:
    with RationaleFile(path) as file:
        file.keep(0, Rationale("1", "human", "Because.", "ok"))
        file.finish()


def test_a_link_stays_a_link_to_the_file_that_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(real)
    for write in (lambda: write_jsonl(link, [1]), lambda: rationales(link)):
        real.unlink(missing_ok=True)
        write()
        assert link.is_symlink() and real.is_file()
    assert next(iter(read_jsonl(real)))["text"] == "Because."
    assert {p.name for p in tmp_path.iterdir()} == {"there", "link.jsonl"}
    assert {p.name for p in real.parent.iterdir()} == {"real.jsonl"}


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_into(tmp_path: Path, linked: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    output = tmp_path / "link" if linked else pipe
    if linked:
        output.symlink_to(pipe)
    for write in (lambda: write_atomic(output, b"x\n"), lambda: rationales(output)):
        got: list[bytes] = []
        reader = threading.Thread(target=lambda got=got: got.append(pipe.read_bytes()))
        reader.start()
        write()
        reader.join(timeout=30)
        assert got and got[0].endswith(b"\n")
        assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_the_umask_gives_permissions_and_an_old_file_keeps_its_own(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomic(tmp_path / "private", b"x")
        rationales(tmp_path / "private.jsonl")
        os.umask(0o022)
        write_atomic(tmp_path / "shared", b"x")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"private": 0o600, "private.jsonl": 0o600, "shared": 0o644}
    (tmp_path / "shared").chmod(0o640)
    write_atomic(tmp_path / "shared", b"y")
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o640


def test_a_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory, expected the name of a file"):
        RationaleFile(tmp_path)
    with pytest.raises(RunFolderError, match="cannot be written"):
        write_atomic(tmp_path, b"x")


def test_a_file_of_something_else_is_not_replaced_by_rationales(tmp_path: Path) -> None:
    rows = tmp_path / "train.jsonl"
    for content in ('{"text": "a"}\n', "text,label\n", "[1]\n"):
        rows.write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match="is not a file of rationales: name another"):
            RationaleFile(rows)
        assert rows.read_text(encoding="utf-8") == content
    rows.write_text("", encoding="utf-8")
    rationales(rows)
    rationales(rows)
