"""Predict the rows of a file with a trained student: streaming, in order, resumable."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError
from tutelage.core.model_files import file_sha256
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.data.load import load_examples, open_source, parse_spec
from tutelage.data.row_parser import RowParser
from tutelage.deliver.output import STANDARD, Output, Record
from tutelage.deliver.scoring_pool import scored
from tutelage.deliver.trained import Student, in_chunks
from tutelage.evaluation.statistics import wilson_interval

CHUNK = 4096
"""Rows that are predicted together. Memory holds one chunk. Rows are sorted by length within it, so
that it decides which rows share a batch: it is never changed by an option."""


@dataclass(slots=True)
class Counts:
    """What was predicted.

    model:      the checkpoint
    rows:       of the input
    unreadable: of them; their reason is in the output
    labelled:   rows with a label of their own
    right:      of them, predicted rightly
    first:      the first reason of an unreadable row
    """

    model: Path
    rows: int = 0
    unreadable: int = 0
    labelled: int = 0
    right: int = 0
    first: str = ""

    @property
    def accuracy(self) -> float | None:
        """The share of labelled rows that were predicted rightly; None where there are none."""
        return self.right / self.labelled if self.labelled else None

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Wilson's 95% interval of the accuracy, over rows taken as independent."""
        return wilson_interval(self.right, self.labelled) if self.labelled else None

    def add(self, record: Record) -> None:
        """Count one row of the output."""
        self.rows += 1
        if isinstance(record, DataError):
            self.unreadable += 1
            self.first = self.first or str(record)
        elif record.gold:
            self.labelled += 1
            self.right += record.label == record.gold


def write_predictions(
    model: Path,
    data: str,
    *,
    layout: LayoutSettings | None = None,
    changes: LayoutSettings | None = None,
    explained: bool = False,
    output: Path = Path("predictions.jsonl"),
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> Counts:
    """Predict and write the rows of `data` with a checkpoint or the model that a run recommends.

    data:        a data spec, or `-` for standard input
    layout:     how the file is read; None: as the run read its own
    changes:     what is read otherwise than by `layout`: the settings that are given in it, of the
                 columns those that it names
    explained:   also let the student write its rationales
    output:      a `.jsonl`, `.csv` or `.parquet` file, or `-` for standard output. Every row of
                 the input has a row there, in the same order; one that cannot be read has the
                 reason.
    resume:      continue what an interrupted call has written
    overwrite:   replace a file that is there
    workers:     processes that predict; their number changes nothing in the output
    on_progress: called with the number of rows done

    Raises StudentError where `model` is not a checkpoint, UsageError for an output that is there
    already.
    """
    written = Output(output, resume=resume, overwrite=overwrite)
    student = Student.find(model)
    if workers == 1:
        student.prepare()
    with contextlib.ExitStack() as stack:
        spec = stack.enter_context(_spooled()) if data == STANDARD else data
        settings = _changed(student.layout if layout is None else layout, changes)
        record = student.record
        origin = [
            [record.weights_sha256, data, settings.model_dump(mode="json"), explained],
            None if written.special else _content(spec),
        ]
        counts = Counts(student.folder)
        sink = stack.enter_context(written.open(record.task, origin))
        for found in sink.done():
            counts.add(found)
        ids = None if changes is None else changes.columns.get("uid")
        chunks = _after(_rows(spec, record.task, settings, ids), counts.rows)
        taken: deque[list[Example | DataError]] = deque()

        def examples() -> Iterator[list[Example]]:
            for chunk in chunks:
                taken.append(chunk)
                yield [row for row in chunk if isinstance(row, Example)]

        predicted = scored(student, examples(), explain=explained, workers=workers)
        for predictions in stack.enter_context(contextlib.closing(predicted)):
            answers = iter(predictions)
            records: list[Record] = [
                row if isinstance(row, DataError) else next(answers) for row in taken.popleft()
            ]
            sink.write(records)
            for one in records:
                counts.add(one)
            if on_progress is not None:
                on_progress(counts.rows)
        sink.finish()
    return counts


def _after(rows: Iterator[Example | DataError], done: int) -> Iterator[list[Example | DataError]]:
    """The chunks of the rows that are not in the output already; it holds whole chunks."""
    for chunk in in_chunks(rows, CHUNK):
        if done >= len(chunk):
            done -= len(chunk)
        else:
            yield chunk


def _changed(layout: LayoutSettings, changes: LayoutSettings | None) -> LayoutSettings:
    """The layout with what a user says of a new file: its other columns stay as they are."""
    if changes is None:
        return layout
    values = {name: getattr(changes, name) for name in changes.model_fields_set}
    if "columns" in values:
        values["columns"] = {**layout.columns, **values["columns"]}
    return layout.replace(**values)


def _content(spec: str) -> str | None:
    """A digest of the file that a spec names, so that the rest of another file is not appended to
    what was written of it; None where it is not a single file."""
    path = Path(parse_spec(spec).place)
    return file_sha256(path) if path.is_file() else None


def _rows(
    spec: str, task: Task, layout: LayoutSettings, ids: object = None
) -> Iterator[Example | DataError]:
    """Every row of a file, or the rows of a sample or of generated data.

    ids: the column of ids that the user names for this file; another file's may be missing here
    """
    parsed = parse_spec(spec)
    if parsed.scheme == "synthetic" or parsed.query:
        yield from load_examples(spec, task, layout)
        return
    parser = RowParser(task, layout, labelled=False)
    source = open_source(spec, layout)
    if ids and source.columns is not None and ids not in source.columns:
        raise DataError(
            f"no column {ids!r}, expected one of: {', '.join(source.columns)}; correct columns: "
            f"{{uid: {ids}}}",
            path=source.name,
        )
    for _, found in parser.each(source):
        if found is not None:
            yield found


@contextlib.contextmanager
def _spooled() -> Iterator[str]:
    """Standard input as a file, whose format is that of its first character."""
    with tempfile.TemporaryDirectory() as folder:
        first = sys.stdin.buffer.read(1)
        suffix = {b"{": ".jsonl", b"[": ".json"}.get(first, ".csv")
        path = Path(folder) / f"input{suffix}"
        with path.open("wb") as file:
            file.write(first)
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield str(path)
