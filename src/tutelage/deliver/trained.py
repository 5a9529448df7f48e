"""A trained student in use: loaded as it was evaluated, and asked for predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tutelage.config.layout_settings import LayoutSettings, layout_of
from tutelage.config.recipe_file import load_recipe
from tutelage.config.training_settings import Fast
from tutelage.core.checkpoint_record import RECORD, CheckpointRecord, read_record
from tutelage.core.errors import RunFolderError, StudentError, UsageError
from tutelage.core.export_record import ExportRecord, is_export, read_export_record
from tutelage.core.storage import read_json
from tutelage.core.types import Example, Prediction
from tutelage.data.row_parser import RowParser
from tutelage.data.source import Source
from tutelage.deliver.exported import CHECKPOINT, ExportedModel
from tutelage.deliver.predictions import Predictions


@dataclass(repr=False)
class Student:
    """A trained student with what its checkpoint says of it.

        student = Student.load("runs/reviews")
        student.predict(["A joy.", "A bore."])

    folder:  of the checkpoint, or of an export
    record:  its task, limits, precision and so on
    layout: how the files of its run were read; the defaults outside of a run
    """

    folder: Path
    record: CheckpointRecord | ExportRecord
    layout: LayoutSettings
    loaded: Any = None

    @classmethod
    def load(cls, path: Path | str, *, fast: Fast | None = None) -> Self:
        """Load an export, a checkpoint, or the checkpoint that a run recommends.

        fast: None: as it was evaluated. No matter to an export.

        Raises StudentError for a folder that is none of them, or whose files have changed since
        they were saved.
        """
        student = cls.find(path)
        if fast is not None and not isinstance(student.record, ExportRecord):
            student.record = dataclasses.replace(student.record, fast=fast)
        student.prepare()
        return student

    @classmethod
    def find(cls, path: Path | str) -> Self:
        """What `load` loads, checked in the same way, without its weights."""
        if is_export(Path(path)):
            said = read_export_record(Path(path))
            return cls(Path(path), said, LayoutSettings(**said.layout))
        folder = checkpoint_in(Path(path))
        return cls(folder, read_record(folder), layout_near(folder))

    def prepare(self) -> None:
        """Load the weights, in the precision and with the parts that they were evaluated with."""
        if isinstance(self.record, ExportRecord):
            self.loaded = ExportedModel.load(self.folder)
            if self.loaded.needs_student:
                self.loaded.student = Student.load(self.folder / CHECKPOINT)
            return
        import torch

        from tutelage.student.model.loading import load_student
        from tutelage.student.model.precision import choose_device, prepare

        torch.set_num_threads(self.record.threads)
        loaded = load_student(str(self.folder), fast=self.record.fast).to(choose_device())
        loaded.objective = self.record.objective
        prepare(loaded, self.record.precision)
        self.loaded = loaded

    def __repr__(self) -> str:
        task = self.record.task
        return (
            f"<Student {str(self.folder)!r}: {', '.join(task.fields)} → "
            f"{', '.join(task.labels[:5])}{', …' if len(task.labels) > 5 else ''}>"
        )

    def predict(self, rows: Any, *, explain: bool = False) -> Predictions:
        """Predict rows: texts (of a task with one field), mappings, `Example`s, a DataFrame, or a
        split of the `datasets` package. Labels are not needed.

        explain: also let the student write its rationales

        Raises UsageError for rows of another kind, DataError for a row that cannot be read.
        """
        if isinstance(rows, (str, Mapping)):
            rows = [rows]
        if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a DataFrame
            rows = rows.to_dict("records")
        rows = list(rows)
        if all(isinstance(row, Example) for row in rows):
            return Predictions(tuple(self.score(rows, explain=explain)))
        fields = self.record.task.fields
        if any(isinstance(row, str) for row in rows):
            if len(fields) != 1:
                raise UsageError(
                    f"got texts, expected mappings with the fields {', '.join(fields)}"
                )
            rows = [{fields[0]: row} if isinstance(row, str) else row for row in rows]
        if wrong := [row for row in rows if not isinstance(row, Mapping)]:
            raise UsageError(
                f"got a row of type {type(wrong[0]).__name__}, expected texts, mappings or examples"
            )
        named = all(field in row for row in rows for field in fields)
        layout = layout_of(None) if named else self.layout
        parser = RowParser(self.record.task, layout, labelled=False)
        source = Source("rows", None, enumerate(rows, 1), lines=False)
        examples = [example for example in parser.read(source) if example is not None]
        return Predictions(tuple(self.score(examples, explain=explain)))

    def score(
        self,
        examples: Sequence[Example],
        *,
        explain: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """One prediction per example, as the run's own test predictions were made."""
        if isinstance(self.loaded, ExportedModel):
            return self.loaded.score(examples, explain=explain, on_progress=on_progress)
        from tutelage.student.inference.score import score_labels

        task, limits = self.record.task, self.record.limits
        found = score_labels(self.loaded, examples, task, on_progress=on_progress, **limits)
        if explain:
            texts = self.write_rationales(examples, found)
            found = [
                dataclasses.replace(p, rationale=text) for p, text in zip(found, texts, strict=True)
            ]
        return found

    def write_rationales(
        self, examples: Sequence[Example], found: Sequence[Prediction]
    ) -> list[str]:
        """The rationales that the student of a checkpoint writes for its predictions."""
        from tutelage.student.inference.explain import explain

        return explain(
            self.loaded,
            examples,
            found,
            self.record.task,
            max_source_tokens=self.record.max_source_tokens,
            max_rationale_tokens=self.record.max_rationale_tokens,
        )


def checkpoint_in(path: Path) -> Path:
    """The checkpoint that a path means: a folder of one, of a training, or of a run.

    Raises StudentError where there is none, RunFolderError for a run that recommends none.
    """
    if (path / RECORD).exists() or (path / "config.json").exists():
        return path
    if (path / "model" / RECORD).exists():
        return path / "model"
    results = path / "results.json"
    if not results.exists():
        raise StudentError(
            f"{path}: holds no model: expected a checkpoint, …/seed-N/model, or the folder of a run"
        )
    recommended = read_json(results).get("recommended")
    folder = None if not recommended else _folder_of(path, recommended)
    if folder is None or not folder.is_dir():
        raise RunFolderError(
            f"{path}: the run has no model that it recommends: name one, "
            f"{path}/arms/ARM/CONFIG/seed-N/model"
        )
    return folder


def _folder_of(run: Path, recommended: Mapping[str, Any]) -> Path | None:
    """The folder of the recommended model, as results.json names it."""
    named = recommended.get("folder") or recommended.get("model")
    if not isinstance(named, str):
        return None
    folder = run / named
    return folder / "model" if (folder / "model" / RECORD).exists() else folder


def layout_near(checkpoint: Path) -> LayoutSettings:
    """How the run that a checkpoint belongs to reads its files; the defaults where it belongs to
    none."""
    for parent in list(checkpoint.resolve().parents)[:6]:
        recipe = parent / "recipe.yaml"
        if recipe.is_file() and (parent / "arms").is_dir():
            return load_recipe(str(recipe)).data.layout()
    return LayoutSettings()


def in_chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` rows; the last may be shorter."""
    chunk: list[Any] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
