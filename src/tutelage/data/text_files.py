"""Text files as lines: compression, encoding, and errors that name the line."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from tutelage.core.errors import DataError

COMPRESSIONS: Mapping[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
"""Suffixes of compressed text files, and what opens them."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, the longer ones first: that of UTF-32 begins with that of UTF-16."""

_SAMPLE = 200_000
"""Bytes with characters beyond ASCII from which an encoding is named."""


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file to read it, decompressed."""
    opener = COMPRESSIONS.get(path.suffix.lower())
    opened: IO[bytes] = path.open("rb") if opener is None else opener(path, "rb")
    return opened


def text_lines(path: Path, encoding: str | None, *, newline: str) -> Iterator[str]:
    """Yield the lines of a text file, with their ends.

    encoding: None: that of its byte order mark, else UTF-8
    newline:  "\\n": only that ends a line; "": a carriage return ends one as well

    Raises DataError, with the line where it is known, for bytes that are not text in that encoding,
    and for a damaged compressed file.
    """
    try:
        with open_bytes(path) as file:
            chosen = encoding or _marked(file) or "utf-8"
            if chosen.lower().replace("_", "-") in ("utf-8", "utf8"):
                chosen = "utf-8-sig"
            with io.TextIOWrapper(file, chosen, newline=newline) as text:
                for number, line in enumerate(text, 1):
                    if "\0" in line:
                        raise DataError(_zero_byte(path), path=path, line=number)
                    yield line
    except UnicodeError as error:
        raise _undecodable(path, encoding, error) from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"is not a complete compressed file ({error})", path=path) from error


def _marked(file: IO[bytes]) -> str | None:
    """The encoding of a file's byte order mark. The file is at its beginning again."""
    head = file.read(4)
    file.seek(0)
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def _undecodable(path: Path, encoding: str | None, error: UnicodeError) -> DataError:
    if encoding is None and (unmarked := _unmarked_utf16(path)):
        return DataError(
            f"is not UTF-8: it looks like UTF-16 without its mark: say encoding: {unmarked}",
            path=path,
        )
    name = encoding or (error.encoding if isinstance(error, UnicodeDecodeError) else "utf-8")
    shown = "UTF-8" if name.lower().startswith("utf-8") else name
    line = byte = None
    with open_bytes(path) as file:
        for number, content in enumerate(file, 1):
            try:
                content.decode(name)
            except UnicodeDecodeError as found:
                line, byte = number, content[found.start]
                break
            except UnicodeError:
                break
    if line is None or byte is None or shown.lower().startswith(("utf-16", "utf-32")):
        message, line = f"is not {shown} text", None
    else:
        message = f"got byte 0x{byte:02x}, which is not {shown}"
    guess = None if encoding else name_encoding(path)
    way_out = f"it looks like {guess}: say encoding: {guess}, or save" if guess else "save"
    return DataError(f"{message}: {way_out} the file as UTF-8 text", path=path, line=line)


def _zero_byte(path: Path) -> str:
    """The message for a zero byte: a binary file, or UTF-16 without its mark."""
    message = "got a zero byte, expected a text file"
    name = _unmarked_utf16(path)
    if name is None:
        return message
    return f"{message}: it looks like UTF-16 without its mark: say encoding: {name}"


def _unmarked_utf16(path: Path) -> str | None:
    """Which UTF-16 a file is in, by the zero bytes in every other place of its beginning."""
    with open_bytes(path) as file:
        head = file.read(400)
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if head and head[offset::2].count(0) > 0.4 * len(head[offset::2]):
            return name
    return None


def name_encoding(path: Path) -> str | None:
    """The encoding that the file's bytes beyond ASCII look like; None where nothing fits, or the
    package `charset-normalizer` is not installed. Always a guess."""
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return None
    sample = b""
    with open_bytes(path) as file:
        for line in file:
            if not line.isascii():
                sample += line
            if len(sample) > _SAMPLE:
                break
    matches = from_bytes(sample)
    best = matches.best()
    if best is None:
        return None
    # Several encodings share most characters of western Europe; this one is the most frequent, so
    # it is named wherever it fits the language as well as the best one.
    for match in matches:
        fits = "cp1252" in (match.encoding, *match.could_be_from_charset)
        if fits and match.coherence >= best.coherence:
            return "cp1252"
    return str(best.encoding)
