"""Read and write a run's files: atomic writes, JSON and JSON lines, digests.

A file is written under a temporary name in the same folder and then renamed, so a reader sees
either the old content or the new, never a part. What the user names is kept what it is: a link
stays a link to the file that is written, and a pipe or a device is written into.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import IO, Any

from tutelage.core.errors import RunFolderError, UsageError

_HALF = re.compile("[\ud800-\udfff]")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` completely or not at all, even if the process crashes.

    Raises RunFolderError where the disk is full or not writable; the old file is then kept.
    """
    try:
        with atomic_file(path) as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise RunFolderError(
            f"{path}: cannot be written ({error.strerror or error}): free disk space or correct "
            "the permissions, then run the same command again"
        ) from error


def refuse_folder(path: Path) -> None:
    """Raise UsageError for an output that is a folder. For calls before anything is paid for."""
    if path.is_dir():
        raise UsageError(f"{path}: is a directory, expected the name of a file to write")


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into, which takes the place of `path` at the end, or never after an error.

    A link leads to the file that is written, and a pipe or a device is written into. A new file has
    the permissions that the umask gives, an old one keeps its own. Raises OSError.
    """
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat().st_mode if path.exists() else None
    if before is not None and not stat.S_ISREG(before):
        with path.open("wb") as special:
            yield special
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # Opened with the usual bits, so that the umask decides, as for any program's files.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            temporary.chmod(stat.S_IMODE(before))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def as_json(value: Any) -> Any:
    """Convert dataclasses, settings, mappings, paths and tuples to values that `json` takes."""
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
    """Write one JSON document, indented, with keys in the order given."""
    write_atomic(path, encode_json(json.dumps(as_json(value), indent=2, ensure_ascii=False) + "\n"))


def write_jsonl(path: Path, records: Iterable[Any]) -> None:
    """Write one JSON value per line."""
    lines = (json.dumps(as_json(r), ensure_ascii=False) + "\n" for r in records)
    write_atomic(path, encode_json("".join(lines)))


def encode_json(text: str) -> bytes:
    """Encode JSON as UTF-8.

    Half of a surrogate pair, which UTF-8 cannot represent, is written as a JSON escape, so that it
    reads back unchanged.
    """
    return text.encode("utf-8", "backslashreplace")


def half_character(text: str) -> str | None:
    """The error message for a text with half of a surrogate pair; None for any other text.

    JSON can represent such a half, UTF-8 cannot, and no tokenizer accepts it.
    """
    half = _HALF.search(text)
    if half is None:
        return None
    before = text[max(half.start() - 20, 0) : half.start()]
    return (
        f"got {half.group()!r}, half of a character (a surrogate without its other half), after "
        f"{before!r}: correct the text"
    )


def read_json(path: Path) -> Any:
    """Read the JSON document at `path`. Raises RunFolderError where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunFolderError(
            f"{path}: cannot be read ({error}): delete it and run again"
        ) from error


def read_jsonl(path: Path) -> Iterator[Any]:
    """Yield the values at `path`, line by line. Raises RunFolderError for a damaged line."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise RunFolderError(
                    f"{path}:{number}: is not valid JSON ({error}): delete the file and run again"
                ) from error


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: equal values have equal digests on any machine.

    value: as for `as_json`, with text as keys
    """
    return hashlib.sha256(_ENCODER.encode(value).encode()).hexdigest()


def digest_of_rows(rows: Iterable[Any]) -> str:
    """What `digest(list(rows))` returns, of dataclasses, without the whole text in memory."""
    found = hashlib.sha256(b"[")
    pending = iter(rows)
    first = 1  # no comma before the first row
    while piece := list(itertools.islice(pending, _PIECE)):
        # Rows of one kind are converted by column: millions of them pass through here.
        texts = [_rows_text(kind, list(group)) for kind, group in itertools.groupby(piece, type)]
        found.update("".join(texts)[first:].encode())
        first = 0
    found.update(b"]")
    return found.hexdigest()


_PIECE = 500
"""Rows whose text is in memory at a time."""


def _rows_text(kind: type, rows: list[Any]) -> str:
    """The canonical texts of these rows, all dataclasses of this kind, a comma before each."""
    names = sorted(field.name for field in dataclasses.fields(kind))
    parts: list[Iterable[str]] = []
    fixed = ","
    for part in _object_parts(names, [list(map(attrgetter(name), rows)) for name in names]):
        if isinstance(part, str):
            fixed += part
        else:
            parts += [itertools.repeat(fixed), part]
            fixed = ""
    parts.append(itertools.repeat(fixed, len(rows)))
    # Not strict: what is repeated has no end.
    return "".join(itertools.chain.from_iterable(zip(*parts)))  # noqa: B905


def _object_parts(names: list[str], columns: list[list[Any]]) -> Iterator[str | Iterable[str]]:
    """The parts of the texts of some objects, in order: what all have in common, and for what
    varies the text of each. names: sorted keys; columns: the values of each."""
    before = "{"
    for name, column in zip(names, columns, strict=True):
        yield f"{before}{_quoted(name)}:"
        yield from _column_parts(column)
        before = ","
    yield "}" if names else "{}"


def _column_parts(column: list[Any]) -> Iterable[str | Iterable[str]]:
    """As `_object_parts`, of the values of a column."""
    kinds = set(map(type, column))
    if kinds == {str}:
        return (map(_quoted, column),)
    if kinds == {type(None)}:
        return ("null",)
    if kinds == {tuple} and not any(column):
        return ("[]",)
    if kinds == {dict}:
        if not any(column):
            return ("{}",)
        keys = {frozenset(names) for names in set(map(tuple, column))}
        if len(keys) == 1 and all(type(key) is str for key in column[0]):
            names = sorted(column[0])
            return _object_parts(names, [list(map(itemgetter(name), column)) for name in names])
    return (map(_canonical, column),)


def _canonical(value: Any) -> str:
    """The text that an encoder of sorted keys makes; at once for what rows usually hold."""
    if value is None:
        return "null"
    if type(value) is str:
        return _quoted(value)
    if value == ():
        return "[]"
    if value == {}:
        return "{}"
    if type(value) is dict:
        try:
            return (
                "{" + ",".join([f"{_quoted(k)}:{_quoted(value[k])}" for k in sorted(value)]) + "}"
            )
        except TypeError:
            pass  # not of texts alone
    return _ENCODER.encode(value)


def _plain(value: Any) -> Any:
    """One level of `as_json`; the encoder does the rest, many times faster."""
    kind: type = type(value)
    names = _field_names(kind)
    if names is not None:
        return {name: getattr(value, name) for name in names}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} cannot be converted to JSON")


_ENCODER = json.JSONEncoder(
    default=_plain, sort_keys=True, ensure_ascii=True, separators=(",", ":")
)
_quoted = json.encoder.encode_basestring_ascii


@functools.cache
def _field_names(kind: type) -> tuple[str, ...] | None:
    """Names of a dataclass's fields; None for any other class."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(f.name for f in dataclasses.fields(kind))


@contextmanager
def translate_write_errors(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Raise RunFolderError for whatever a library raises because `path` cannot be written.

    temporary: the file that is written first, in place of `path`; removed after any error
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
    """Remove a file, or a folder with its contents, if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
