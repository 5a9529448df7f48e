"""The file of predictions: JSON lines, CSV or Parquet, written in parts that survive a kill.

Rows are collected as JSON lines next to the output and moved, or converted, to their place when all
are there. A chunk is written whole; of an interrupted one nothing is kept on resuming.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from tutelage.core.errors import DataError, MissingExtraError, RunFolderError, UsageError
from tutelage.core.storage import digest, encode_json, read_json, write_json
from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.deliver.escalation import EscalatedPrediction

STANDARD = "-"
"""Standard input, or output."""

FORMATS = (".jsonl", ".csv", ".parquet")

Record = Prediction | DataError
"""A row of the output: a prediction, or why the row cannot be read."""

_FIELDS = tuple(field.name for field in dataclasses.fields(Prediction))
_ALL_FIELDS = tuple(field.name for field in dataclasses.fields(EscalatedPrediction))
_ESCALATED = _ALL_FIELDS[len(_FIELDS) :]
"""Further columns, where a teacher answers what the student is not sure of."""

_JSON = json.JSONEncoder(ensure_ascii=False)

_MARK = b'{"chunk_end": {'
"""How the line after each chunk of a part begins."""

_BATCH = 10_000
"""Rows of a Parquet file that are written at once."""


class Output:
    """Where predictions go. The constructor refuses what cannot be written, before any work.

    escalated: whether the records are EscalatedPrediction, with who answered

    Raises UsageError for a folder, an unknown suffix, or a file that is there already.
    """

    def __init__(
        self,
        path: Path,
        *,
        resume: bool = False,
        overwrite: bool = False,
        escalated: bool = False,
    ) -> None:
        self.path = path
        self.more = _ESCALATED if escalated else ()
        self.resume = resume
        self.standard = str(path) == STANDARD
        # A link leads to the file that is meant; a pipe or device is written into.
        self.place = path if self.standard else path.resolve()
        self.special = self.standard or (self.place.exists() and not self.place.is_file())
        if self.standard:
            if resume:
                raise UsageError("--resume needs a file as output, not standard output")
            return
        if self.place.is_dir():
            raise UsageError(f"{path}: is a directory, expected the name of a file to write")
        if not self.place.parent.is_dir():
            raise UsageError(f"{path}: no folder {str(self.place.parent)!r}: make it first")
        self.suffix = path.suffix.lower()
        if self.suffix not in FORMATS and not self.special:
            raise UsageError(
                f"{path}: cannot write {self.suffix or 'a file without suffix'!r}, expected one of "
                f"{', '.join(FORMATS)}"
            )
        if self.suffix == ".parquet":
            try:
                import pyarrow.parquet  # noqa: F401
            except ImportError as error:
                raise MissingExtraError("pyarrow", "train", f"writing {path.name}") from error
        if self.place.is_file() and not (overwrite or (resume and self.part.exists())):
            raise UsageError(f"{path}: exists already: name another file, or add --overwrite")

    @property
    def part(self) -> Path:
        """The file of what is done so far."""
        return self.place.with_name(f".{self.place.name}.part")

    @property
    def origin(self) -> Path:
        """The file that says what the part is of."""
        return self.place.with_name(f".{self.place.name}.part.json")

    def is_file(self, path: Path) -> bool:
        """Whether the output is the regular file at `path`, by whatever name."""
        return path.is_file() and self.place.is_file() and self.place.samefile(path)

    @contextmanager
    def open(self, task: Task, origin: Any) -> Iterator[Sink]:
        """Open the output.

        origin: everything that decides the content; a part of another origin is not continued
        """
        if self.special:
            stream: IO[bytes] = sys.stdout.buffer if self.standard else self.place.open("wb")
            try:
                yield Sink(self, task, stream, {})
            finally:
                stream.flush()
                if not self.standard:
                    stream.close()
            return
        try:
            with self._alone():
                self._begin(digest(origin))
                end, so_far = _last_chunk(self.part)
                with self.part.open("ab") as file:
                    file.truncate(end)
                    yield Sink(self, task, file, so_far)
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: cannot be written ({error.strerror or error}): free disk space, "
                "then run the same command with --resume"
            ) from error

    def _begin(self, key: str) -> None:
        """Say what the part is of. Raises UsageError where it is of something else."""
        if not self.resume:
            self.part.unlink(missing_ok=True)
        elif self.part.exists() and (not self.origin.exists() or read_json(self.origin) != key):
            raise UsageError(
                f"{self.path}: what was written so far is of another model, input or option: "
                "leave --resume out to begin again"
            )
        write_json(self.origin, key)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the output's lock. Raises UsageError where another process does."""
        lock = FileLock(self.place.with_name(f".{self.place.name}.lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise UsageError(
                f"{self.path}: another process is writing it: wait for it, or name another file "
                "with --output"
            ) from error
        try:
            yield
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


class Sink:
    """An opened output.

    so_far: what an interrupted call said with the last chunk that it wrote; empty where there is
            none
    """

    def __init__(
        self, output: Output, task: Task, file: IO[bytes], so_far: Mapping[str, Any]
    ) -> None:
        self._output, self._task, self._file = output, task, file
        self.so_far = so_far
        self._csv_header = True

    def write(self, records: Sequence[Record], so_far: Mapping[str, Any]) -> None:
        """Write one chunk, and what to know of all rows up to its end."""
        if self._output.special:
            self._file.write(b"".join(self._encoded(record) for record in records))
        else:
            lines = [_line(_values(record)) for record in records]
            self._file.write(b"".join([*lines, _line({"chunk_end": so_far})]))
        self._file.flush()

    def _encoded(self, record: Record) -> bytes:
        if self._output.standard or self._output.suffix != ".csv":
            return _line(_values(record))
        more = self._output.more
        rows = [_cells(_values(record), self._task, more)]
        if self._csv_header:
            rows.insert(0, _columns(self._task, more))
            self._csv_header = False
        return _csv(rows)

    def finish(self) -> None:
        """Put the complete output in its place."""
        output = self._output
        if output.special:
            return
        os.fsync(self._file.fileno())
        ready = output.place.with_name(f".{output.place.name}.ready")
        writer = {".jsonl": _to_jsonl, ".csv": _to_csv, ".parquet": _to_parquet}[output.suffix]
        writer(output.part, ready, self._task, output.more)
        if output.place.exists():
            ready.chmod(output.place.stat().st_mode & 0o777)
        ready.replace(output.place)
        output.part.unlink(missing_ok=True)
        output.origin.unlink(missing_ok=True)


def _values(record: Record) -> dict[str, Any]:
    """A record as JSON: a prediction with all its fields, or what is wrong with the row."""
    if isinstance(record, DataError):
        return {"error": str(record)}
    names = _ALL_FIELDS if isinstance(record, EscalatedPrediction) else _FIELDS
    values = {name: getattr(record, name) for name in names}
    return values | ({} if record.gold else {"gold": None})


def _line(values: Any) -> bytes:
    return encode_json(_JSON.encode(values) + "\n")


def _last_chunk(part: Path) -> tuple[int, Mapping[str, Any]]:
    """Where the last complete chunk of a part ends, in bytes, and what was said with it."""
    end, mark = 0, b"{}"
    if part.exists():
        position = 0
        with part.open("rb") as file:
            for line in file:
                position += len(line)
                if line.startswith(_MARK) and line.endswith(b"\n"):
                    end, mark = position, line
    return end, json.loads(mark).get("chunk_end", {})


def _rows(part: Path) -> Iterator[dict[str, Any]]:
    with part.open(encoding="utf-8") as file:
        for line in file:
            values = json.loads(line)
            if "chunk_end" not in values:
                yield values


def _to_jsonl(part: Path, ready: Path, task: Task, more: Sequence[str]) -> None:
    with part.open("rb") as lines, ready.open("wb") as file:
        file.writelines(line for line in lines if not line.startswith(_MARK))


def _columns(task: Task, more: Sequence[str]) -> list[str]:
    return [
        "uid", "label", *(f"p({label})" for label in task.labels), "gold", "truncated",
        "rationale", *more, "error",
    ]  # fmt: skip


def _cells(values: dict[str, Any], task: Task, more: Sequence[str]) -> list[Any]:
    """The cells of a row, in the order of `_columns`."""
    if "error" in values:
        return [None] * (len(_columns(task, more)) - 1) + [values["error"]]
    probabilities = [values["probabilities"][label] for label in task.labels]
    return [
        values["uid"], values["label"], *probabilities, values["gold"], values["truncated"],
        values["rationale"], *(values[name] for name in more), None,
    ]  # fmt: skip


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return encode_json(text.getvalue())


def _to_csv(part: Path, ready: Path, task: Task, more: Sequence[str]) -> None:
    with ready.open("wb") as file:
        file.write(_csv([_columns(task, more)]))
        file.writelines(_csv([_cells(values, task, more)]) for values in _rows(part))


def _to_parquet(part: Path, ready: Path, task: Task, more: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = _columns(task, more)
    kinds = {"truncated": pa.bool_(), "teacher_cost_usd": pa.float64()} | {
        f"p({label})": pa.float64() for label in task.labels
    }
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    with pq.ParquetWriter(ready, schema) as writer:
        batch: list[list[Any]] = []
        for values in _rows(part):
            batch.append(_cells(values, task, more))
            if len(batch) == _BATCH:
                writer.write_table(_table(batch, schema))
                batch = []
        writer.write_table(_table(batch, schema))


def _table(rows: list[list[Any]], schema: Any) -> Any:
    import pyarrow as pa

    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    return pa.table([list(column) for column in columns], schema=schema)
