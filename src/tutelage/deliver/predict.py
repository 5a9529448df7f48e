"""Predict the rows of a file with a trained student: streaming, in order, resumable."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tutelage.config.escalation_settings import EscalationSettings
from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.collector import fewer_collections
from tutelage.core.errors import DataError, UsageError
from tutelage.core.export_record import ExportRecord
from tutelage.core.storage import digest, digest_of_rows
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction
from tutelage.data.load import load_examples, open_source, parse_spec
from tutelage.data.row_ids import ExactIds, Ids, NotedIds
from tutelage.data.row_parser import RowParser
from tutelage.data.source import without_first
from tutelage.deliver.escalation import EscalatedPrediction, open_escalation
from tutelage.deliver.kept_promise import chosen_threshold
from tutelage.deliver.output import STANDARD, Output, Record
from tutelage.deliver.scoring_pool import scored
from tutelage.deliver.trained import Student, in_chunks
from tutelage.evaluation.statistics import wilson_interval

CHUNK = 4096
"""Rows that are predicted together. Memory holds one chunk. Rows are sorted by length within it, so
that it decides which rows share a batch: it is never changed by an option."""


_COPY = "tutelage-input-"
"""How the folder begins that holds a copy of what can be read only once."""


class Elsewhere(Protocol):
    """Predicts chunks of rows on other machines: see `scale.predict_on_ray`."""

    def __call__(
        self,
        student: Student,
        chunks: Iterable[Sequence[Example]],
        again: Callable[[], Iterable[Sequence[Example]]],
        *,
        explain: bool,
        first: int,
        origin: str,
        resume: bool,
    ) -> Generator[list[Prediction], None, None]:
        """Yield the predictions of each chunk, in order."""
        ...


@dataclass(slots=True)
class Counts:
    """What was predicted.

    model:      the checkpoint
    rows:       of the input
    unreadable: of them; their reason is in the output
    labelled:   rows with a label of their own
    right:      of them, predicted rightly
    first:      the first reason of an unreadable row
    below:      rows below the threshold, where a teacher was to be asked
    by_teacher: of them, answered by the teacher
    paid_usd:   US dollars that were charged to its budget meanwhile; None where no price is known
    """

    model: Path
    rows: int = 0
    unreadable: int = 0
    labelled: int = 0
    right: int = 0
    first: str = ""
    below: int = 0
    by_teacher: int = 0
    paid_usd: float | None = None

    @property
    def accuracy(self) -> float | None:
        """The share of labelled rows that were predicted rightly; None where there are none."""
        return self.right / self.labelled if self.labelled else None

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Wilson's 95% interval of the accuracy, over rows taken as independent."""
        return wilson_interval(self.right, self.labelled) if self.labelled else None

    def so_far(self) -> dict[str, Any]:
        """What a later call has to know that continues after these rows."""
        return {
            "rows": self.rows,
            "unreadable": self.unreadable,
            "labelled": self.labelled,
            "right": self.right,
            "first": self.first,
            "below": self.below,
            "by_teacher": self.by_teacher,
        }

    def add(self, record: Record) -> None:
        """Count one row of the output."""
        self.rows += 1
        if isinstance(record, DataError):
            self.unreadable += 1
            self.first = self.first or str(record)
        elif record.gold:
            self.labelled += 1
            self.right += record.label == record.gold
        if isinstance(record, EscalatedPrediction) and record.was_below:
            self.below += 1
            self.by_teacher += record.answered_by == "teacher"


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
    elsewhere: Elsewhere | None = None,
    escalation: EscalationSettings | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
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
    elsewhere:   predicts in place of this machine's processes; that changes nothing either
    escalation:  which rows the teacher answers; the output then says who answered each
    on_progress: called with the number of rows done
    on_note:     called with what the user should know of the teacher, once for each line

    Raises StudentError where `model` is not a checkpoint, UsageError for an output that is there
    already, TeacherError where the teacher cannot be asked: what was written can be resumed.
    """
    asked = escalation or EscalationSettings()
    if asked.escalate is None and (asked.threshold is not None or asked.promise is not None):
        raise UsageError("--threshold and --promise need a teacher: add --escalate RECIPE")
    asks = asked.escalate is not None
    written = Output(output, resume=resume, overwrite=overwrite, escalated=asks)
    if data != STANDARD and written.is_file(Path(parse_spec(data).place)):
        raise UsageError(f"{output}: is the input, which would be lost: name another file")
    student = Student.find(model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(fewer_collections())
        threshold = None
        if asks:
            threshold, _ = chosen_threshold(student.folder, student.record, asked)
        teacher = open_escalation(asked, student.record.task, threshold)
        if teacher is not None:
            stack.enter_context(teacher)
        charged = 0.0 if teacher is None else teacher.labels.charged_usd
        once = _Once(on_note)
        if asks and not isinstance(student.record, ExportRecord):
            once(
                "a checkpoint's probabilities are not calibrated: a threshold of `tutelage "
                "frontier` or of an export keeps other rows here; export the model to use one"
            )
        if workers == 1 and elsewhere is None:
            student.prepare()
        spec = stack.enter_context(_read_twice(data))
        settings = _changed(student.layout if layout is None else layout, changes)
        record = student.record
        ids = None if changes is None else changes.columns.get("uid")
        content, repeated = _looked_through(spec, record.task, settings, ids)
        origin = [
            [record.weights_sha256, data, settings.model_dump(mode="json"), explained],
            None if teacher is None else [teacher.model, threshold],
            content,
        ]
        sink = stack.enter_context(written.open(record.task, origin))
        counts = Counts(student.folder, **sink.so_far)
        done = counts.rows

        def read() -> Iterator[list[Example | DataError]]:
            # Without ids to compare, what is done need not be parsed.
            skipped = 0 if repeated else done
            rows = _rows(spec, record.task, settings, ids, ExactIds(repeated), skipped=skipped)
            return _after(rows, done - skipped)

        chunks = read()
        taken: deque[list[Example | DataError]] = deque()

        def examples() -> Iterator[list[Example]]:
            for chunk in chunks:
                taken.append(chunk)
                yield _readable(chunk)

        if elsewhere is None:
            predicted = scored(student, examples(), explain=explained, workers=workers)
        else:
            predicted = elsewhere(
                student,
                examples(),
                lambda: map(_readable, read()),
                explain=explained,
                first=-(-done // CHUNK),
                origin=digest(origin),
                resume=resume,
            )
        for predictions in stack.enter_context(contextlib.closing(predicted)):
            if teacher is not None:
                predictions = list[Prediction](
                    teacher.answer(_readable(taken[0]), predictions, once)
                )
            answers = iter(predictions)
            records: list[Record] = [
                row if isinstance(row, DataError) else next(answers) for row in taken.popleft()
            ]
            for one in records:
                counts.add(one)
            sink.write(records, counts.so_far())
            if on_progress is not None:
                on_progress(counts.rows)
        sink.finish()
        if teacher is not None and teacher.labels.budget.price is not None:
            counts.paid_usd = teacher.labels.charged_usd - charged
    return counts


class _Once:
    """Hands each line on once."""

    def __init__(self, on_note: Callable[[str], None] | None) -> None:
        self._on_note, self._said = on_note, set[str]()

    def __call__(self, line: str) -> None:
        """A line for the user."""
        if self._on_note is not None and line not in self._said:
            self._said.add(line)
            self._on_note(line)


def _readable(chunk: Sequence[Example | DataError]) -> list[Example]:
    return [row for row in chunk if isinstance(row, Example)]


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


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A row that is not an example, as part of a digest."""

    error: str


def _looked_through(
    spec: str, task: Task, layout: LayoutSettings, ids: object
) -> tuple[str, frozenset[int]]:
    """Read all rows before any of them is predicted, and hold none. `ids` is as for `_rows`.

    Returns a digest of the rows, so that the rest of other ones is not appended to what was written
    of these; and the hashes of the ids that come twice or more, the only ones that have to be held
    in memory later.
    """
    noted = NotedIds()
    rows = _rows(spec, task, layout, ids, noted)
    content = digest_of_rows(
        row if isinstance(row, Example) else _Unreadable(str(row)) for row in rows
    )
    given, computed = noted.repeated()
    return content, given | computed


def _rows(
    spec: str,
    task: Task,
    layout: LayoutSettings,
    ids: object,
    known: Ids,
    *,
    skipped: int = 0,
) -> Iterator[Example | DataError]:
    """Every row of a file, or the rows of a sample or of generated data.

    ids:     the column of ids that the user names for this file; another file's may be missing here
    known:   learns the ids, and says which came before
    skipped: the first rows, which are left out
    """
    parsed = parse_spec(spec)
    if parsed.scheme == "synthetic" or parsed.query:
        yield from load_examples(spec, task, layout)[skipped:]
        return
    parser = RowParser(task, layout, labelled=False)
    source = open_source(spec, layout)
    if ids and source.columns is not None and ids not in source.columns:
        raise DataError(
            f"no column {ids!r}, expected one of: {', '.join(source.columns)}; correct columns: "
            f"{{uid: {ids}}}",
            path=source.name,
        )
    rest = replace(source, rows=without_first(source.rows, skipped))
    for _, found in parser.each(rest, known):
        if isinstance(found, DataError) and _COPY in str(found):
            # The folder of a copy has another name in each call.
            yield DataError(str(found).replace(spec, Path(spec).name))
        elif found is not None:
            yield found


@contextlib.contextmanager
def _read_twice(data: str) -> Iterator[str]:
    """The data spec, of standard input or a pipe that of a copy: those can be read only once.

    Without a suffix, the format of a copy is that of its first character.
    """
    path = None if data == STANDARD else Path(parse_spec(data).place)
    if path is not None and (not path.exists() or path.is_file() or path.is_dir()):
        yield data
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=_COPY))
        stream = sys.stdin.buffer if path is None else stack.enter_context(path.open("rb"))
        first = stream.read(1)
        suffix = {b"{": ".jsonl", b"[": ".json"}.get(first, ".csv")
        named = "" if path is None else "".join(path.suffixes[-2:])
        copy = Path(folder) / f"input{named or suffix}"
        with copy.open("wb") as file:
            file.write(first)
            shutil.copyfileobj(stream, file)
        yield str(copy)
