"""What is distributed: the source archive has all that the tests need, the wheel all that the
package needs. `scripts/check_wheel.sh` installs both, which needs a network."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from documented import ROOT

CODE = """\
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""


def tracked() -> set[str]:
    """The project's files, as git lists them."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a clone: which files belong to the project is not known")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


def build(what: str, source: Path, output: Path) -> Path:
    """One file made by the build backend that pyproject.toml names, without a network."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("no setuptools: the environment of `make test` has it")
    done = subprocess.run(
        [sys.executable, "-c", CODE, f"build_{what}", str(output)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return output / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, unpacked."""
    folder = tmp_path_factory.mktemp("distribution")
    clone = folder / "clone"
    for name in tracked():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    with tarfile.open(build("sdist", clone, folder)) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


def test_the_source_archive_has_every_file_of_the_project(archive: Path) -> None:
    files = {str(path.relative_to(archive)) for path in archive.rglob("*") if path.is_file()}
    assert tracked() <= files, sorted(tracked() - files)
    made = {"PKG-INFO", "setup.cfg"}
    more = {f for f in files - tracked() - made if ".egg-info/" not in f}
    assert not more, sorted(more)


def test_the_wheel_has_every_file_of_the_package(archive: Path, tmp_path: Path) -> None:
    """It is built from the archive, as it would be by whoever has the archive alone."""
    with zipfile.ZipFile(build("wheel", archive, tmp_path)) as wheel:
        names = set(wheel.namelist())
    package = {name.removeprefix("src/") for name in tracked() if name.startswith("src/")}
    assert "tutelage/py.typed" in package
    assert package <= names, sorted(package - names)
    more = {name for name in names - package if ".dist-info/" not in name}
    assert not more, sorted(more)
