"""Predict with workers of a Ray cluster: each chunk of rows is one file in, and one file out.

    chunks of rows -> Parquet files -> Ray Data -> workers with the student -> files of predictions
    the files of predictions -> the output, chunk by chunk in order, while workers go on

Which rows share a chunk is decided as for the local engine, so that the output is the same. A file
of predictions appears when it is complete. What an interrupted job has left is used again where it
is of the same student, data and settings.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tutelage.config.scale_settings import ScaleSettings
from tutelage.core.errors import RunFolderError, StudentError, TutelageError
from tutelage.core.storage import write_atomic
from tutelage.core.types import Example, Prediction
from tutelage.deliver.trained import Student
from tutelage.scale.background import Background
from tutelage.scale.cluster import cluster, require_ray
from tutelage.scale.row_shards import rows_of_table, write_blocks

Rows = Sequence[Example]

_LOOK_S = 0.05
"""Seconds between two looks for the next file of predictions."""
_MOST_ATTEMPTS = 4
"""Attempts at a chunk, each ended by the end of its process."""


def scores_on_ray(settings: ScaleSettings, output: Path) -> Scores:
    """What predicts chunks on Ray, for an output file. Raises MissingExtraError without Ray."""
    require_ray("--engine ray")
    place = output.resolve()
    shared = place.parent if settings.shared_folder is None else Path(settings.shared_folder)
    return Scores(settings, shared.resolve() / f".{place.name}.chunks")


class Scores:
    """Predicts chunks with workers; files are in `folder`, which is removed when all are done."""

    def __init__(self, settings: ScaleSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder

    def __call__(
        self,
        student: Student,
        chunks: Iterable[Rows],
        again: Callable[[], Iterable[Rows]],
        *,
        explain: bool,
        first: int,
        origin: str,
        resume: bool,
    ) -> Generator[list[Prediction], None, None]:
        """Yield the predictions of each chunk, in order.

        chunks: those that are not in the output yet
        again:  reads the same chunks from the beginning
        first:  number of the first of them
        origin: digest of everything that decides the predictions
        resume: use what an interrupted call with this origin has left
        """
        folder = self._folder / origin[:16]
        if self._folder.exists():
            for other in self._folder.iterdir():
                if other != folder or not resume:
                    shutil.rmtree(other, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        blocks = self._write(again(), folder, first)
        with ExitStack() as stack:
            work = Background()
            if blocks:
                ray = stack.enter_context(cluster(self._settings))
                stack.callback(work.end)
                work.begin(lambda: self._results(ray, student.folder, blocks, folder, explain))
            for number, chunk in enumerate(chunks, first):
                yield _taken(folder / _name(number), work) if chunk else []
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, chunks: Iterable[Rows], folder: Path, first: int) -> list[str]:
        """Write the chunks that have no predictions yet, each as a file of its own."""
        shutil.rmtree(folder / "rows", ignore_errors=True)
        for tried in (*folder.glob("*.attempts"), *folder.glob("*.error")):
            tried.unlink()
        blocks = []
        for number, chunk in enumerate(chunks, first):
            if chunk and not (folder / _name(number)).exists():
                rows = ((number, row) for row in chunk)
                blocks += write_blocks(rows, folder / "rows", len(chunk))
        return blocks

    def _results(
        self, ray: Any, student: Path, blocks: list[str], folder: Path, explain: bool
    ) -> Iterator[Any]:
        data = ray.data.read_parquet(blocks, override_num_blocks=len(blocks)).map_batches(
            PredictionWorker,
            fn_constructor_args=(student.resolve(), folder, explain),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(self._settings.workers, len(blocks)), max_tasks_in_flight_per_actor=2
            ),
            num_cpus=1,
        )
        results: Iterator[Any] = data.iter_rows()
        return results


def _taken(path: Path, work: Background) -> list[Prediction]:
    """The predictions of a file as soon as it is there."""
    failed = path.with_suffix(".error")
    while not path.exists():
        if failed.exists():
            said = json.loads(failed.read_text(encoding="utf-8"))
            kind = StudentError if said["student"] else RunFolderError
            raise kind(f"{said['error']}: run the same command with --resume to continue")
        if not (work.is_alive or path.exists() or failed.exists()):
            raise work.error or RunFolderError(f"{path}: no worker has written it")
        time.sleep(_LOOK_S)
    return [Prediction(**values) for values in json.loads(path.read_text(encoding="utf-8"))]


def _name(number: int) -> str:
    return f"chunk-{number:012d}.json"


class PredictionWorker:
    """A worker: it loads the student for its first chunk."""

    def __init__(self, student: Path, folder: Path, explain: bool) -> None:
        self._path, self._folder, self._explain = student, folder, explain
        self._student: Student | None = None

    def __call__(self, table: Any) -> dict[str, list[int]]:
        """Predict the rows of a chunk and write them; returns its number."""
        number, rows = rows_of_table(table)
        path = self._folder / _name(number)
        if not path.exists():  # else an earlier process wrote it and ended before it said so
            found, error = self._predicted(path, rows)
            if error is None:
                write_atomic(path, json.dumps([dataclasses.asdict(one) for one in found]))
            else:
                write_atomic(path.with_suffix(".error"), json.dumps(error))
        return {"chunk": [number]}

    def _predicted(self, path: Path, rows: Rows) -> tuple[list[Prediction], dict[str, Any] | None]:
        """The predictions, or what went wrong."""
        attempts = path.with_suffix(".attempts")
        with attempts.open("ab") as file:
            file.write(b".")
            file.flush()
            os.fsync(file.fileno())
        if attempts.stat().st_size > _MOST_ATTEMPTS:
            return [], {
                "error": f"{_MOST_ATTEMPTS} processes ended while they predicted the same rows, as "
                "when memory is used up",
                "student": False,
            }
        try:
            if self._student is None:
                self._student = Student.load(self._path)
            return self._student.score(rows, explain=self._explain), None
        except Exception as error:  # noqa: BLE001  said where the output is written
            named = "" if isinstance(error, TutelageError) else f"{type(error).__name__}: "
            return [], {"error": f"{named}{' '.join(str(error).split())}", "student": True}
