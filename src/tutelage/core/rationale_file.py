"""Write a file of rationales in row order while they arrive in any order, and read it."""

from __future__ import annotations

import array
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tutelage.core.errors import DataError, RunFolderError, UsageError
from tutelage.core.storage import atomic_file, encode_json, read_jsonl, refuse_folder
from tutelage.core.types import Rationale, Usage

_JSON = json.JSONEncoder(ensure_ascii=False)


class RationaleFile:
    """Collects rationales in a temporary file as they arrive, then writes them in row order.

    output: the final file; the temporary one is in the same folder

    Raises UsageError for a folder, and for a file with other content than rationales, before
    anything is paid for.
    """

    def __init__(self, output: Path) -> None:
        refuse_folder(output)
        _refuse_other_content(output)
        self._output = output
        self._places = array.array("q")
        self._end = 0
        # Of a pipe or a device the folder is not ours to write in.
        plain = output.is_file() or not output.exists()
        folder = output.resolve().parent if plain else None
        with self._writing():
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            # Unnamed where the system allows it, so that a killed process leaves nothing behind.
            self._file = tempfile.TemporaryFile(  # noqa: SIM115  closed in __exit__
                "w+b", buffering=1 << 20, dir=folder
            )

    def __enter__(self) -> RationaleFile:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what is left in the buffer is of no use to anyone
            self._file.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._not_written(error) from error

    def _not_written(self, error: OSError) -> RunFolderError:
        return RunFolderError(
            f"{self._output}: cannot be written ({error.strerror or error}): free disk space "
            "or correct the permissions, then run the same command again; the answers so far "
            "are kept in the ledger"
        )

    def keep(self, index: int, rationale: Rationale) -> None:
        """Store the rationale of row `index`."""
        usage = rationale.usage
        record = {
            "uid": rationale.uid,
            "strategy": rationale.strategy,
            "text": rationale.text,
            "status": rationale.status,
            "label": rationale.label,
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "cached_tokens": usage.cached_tokens,
            },
            "cost_usd": rationale.cost_usd,
            "detail": rationale.detail,
            "reasoning": rationale.reasoning,
        }
        line = encode_json(_JSON.encode(record)) + b"\n"
        while len(self._places) <= index:
            self._places.append(-1)
        self._places[index] = self._end
        try:
            self._end += self._file.write(line)
        except OSError as error:
            raise self._not_written(error) from error

    def finish(self) -> None:
        """Write the output, in row order.

        Raises RuntimeError, and writes nothing, where a row before the last one has no rationale;
        RunFolderError where the disk is full or not writable.
        """
        with self._writing():
            self._finish()

    def _finish(self) -> None:
        if -1 in self._places:
            raise RuntimeError(f"{self._output}: row {self._places.index(-1)} has no rationale")
        self._file.flush()
        with (
            atomic_file(self._output) as ordered,
            # A small buffer, so that lines out of order waste little of what is read.
            os.fdopen(os.dup(self._file.fileno()), "rb") as lines,
        ):
            at = lines.seek(0)
            for place in self._places:
                if place != at:
                    lines.seek(place)
                line = lines.readline()
                at = place + len(line)
                ordered.write(line)


def _refuse_other_content(output: Path) -> None:
    """Refuse to replace a file that is not one of rationales: a user's rows, for example."""
    if not output.is_file():
        return
    with output.open("rb") as file:
        first = file.readline()
    try:
        known = not first.strip() or {"uid", "strategy", "status"} <= set(json.loads(first))
    except (ValueError, TypeError):
        known = False
    if not known:
        raise UsageError(
            f"{output}: exists, and is not a file of rationales: name another file for them"
        )


def read_rationales(path: Path) -> list[Rationale]:
    """Read the rationales that `annotate` wrote to `path`. Raises DataError."""
    try:
        return [
            Rationale(**{**record, "usage": Usage(**(record.get("usage") or {}))})
            for record in read_jsonl(path)
        ]
    except FileNotFoundError as error:
        raise DataError("no such file: `tutelage annotate` writes one", path=path) from error
    except TypeError as error:
        raise DataError(
            "is not a file of rationales: expected one that `tutelage annotate` wrote", path=path
        ) from error
