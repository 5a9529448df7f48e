"""Files of a run: atomic writes, JSON lines, the manifest.

A file is either its old self or its new self, never half of either: it is written beside its
place and moved there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tutelage.core.errors import RunFolderError

_HALF = re.compile("[\ud800-\udfff]")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` so that a reader, or a crash, never sees a part of it.

    Raises RunFolderError where the disk is full or may not be written; the old file then stays.
    """
    try:
        _replace(path, content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise RunFolderError(
            f"{path}: cannot be written ({error.strerror or error}): make room, or see who may "
            "write there, then start the same again"
        ) from error


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def as_json(value: Any) -> Any:
    """Dataclasses, settings, mappings, paths and tuples as what `json` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    if hasattr(value, "model_dump"):  # settings, which are pydantic's
        return value.model_dump(mode="json")
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, value: Any) -> None:
    """One JSON document, indented, keys in the order given."""
    write_atomic(path, encode_json(json.dumps(as_json(value), indent=2, ensure_ascii=False) + "\n"))


def write_jsonl(path: Path, records: Iterable[Any]) -> None:
    """One JSON value a line."""
    lines = (json.dumps(as_json(r), ensure_ascii=False) + "\n" for r in records)
    write_atomic(path, encode_json("".join(lines)))


def encode_json(text: str) -> bytes:
    """JSON as UTF-8. Half of a surrogate pair, which UTF-8 cannot hold, becomes the escape that
    JSON has for it, so that it is read as what it was."""
    return text.encode("utf-8", "backslashreplace")


def half_character(text: str) -> str | None:
    """What to say of a text that holds half of a surrogate pair, which JSON can spell and UTF-8
    cannot; None for any other. No tokenizer takes it."""
    half = _HALF.search(text)
    if half is None:
        return None
    before = text[max(half.start() - 20, 0) : half.start()]
    return (
        f"got {half.group()!r}, half of a character (a surrogate without its other half), after "
        f"{before!r}: correct the text"
    )


def read_json(path: Path) -> Any:
    """The document at `path`; a damaged one is a RunFolderError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunFolderError(
            f"{path}: cannot be read ({error}): delete it and run again"
        ) from error


def read_jsonl(path: Path) -> Iterator[Any]:
    """The values at `path`, line by line."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise RunFolderError(
                    f"{path}:{number}: is no JSON ({error}): delete the file and run again"
                ) from error


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: equal values, equal digests, on any machine.

    Takes what `as_json` takes, with text for keys.
    """
    text = json.dumps(
        value, default=_plain, sort_keys=True, ensure_ascii=True, separators=(",", ":")
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """One level of `as_json`: the encoder, which is many times faster, does the rest."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is no JSON")


@contextmanager
def translate_write_errors(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Inside, whatever a library raises because `path` cannot be written becomes a RunFolderError.

    temporary: what is written first, in place of `path`; removed after any error
    """
    from safetensors import SafetensorError

    try:
        yield
    except BaseException as error:
        if temporary is not None:
            remove(temporary)
        # torch raises RuntimeError; tokenizers raises Exception itself.
        write_errors = (OSError, RuntimeError, SafetensorError)
        if isinstance(error, write_errors) or type(error) is Exception:
            raise RunFolderError(
                f"{path}: cannot be written ({_reason(error)}): free disk space, then run the same "
                "command again; it continues from its last checkpoint"
            ) from error
        raise


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200]


def remove(path: Path) -> None:
    """Remove a file, or a folder with its contents, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
