"""Find the task of a data file: as the user states it, or guessed from the file and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.config.recipe import Recipe, task_from
from tutelage.config.sections import TaskSection
from tutelage.config.yaml_files import load_yaml_option
from tutelage.core.errors import UsageError
from tutelage.core.task import NLI, PRESETS, Task
from tutelage.data.describe import Description, describe_file
from tutelage.data.readers import FORMATS


@dataclass(frozen=True, slots=True)
class FileTask:
    """A task, and the mapping of a file's columns to it.

    columns: our field -> the file's column, where they differ; None where none does
    guess:   one sentence on what was guessed from the file; empty where the user stated the task
    """

    task: Task
    columns: Mapping[str, str] | None = None
    guess: str = ""


def parse_task(text: str) -> Task:
    """Parse `--task`: a value of the recipe's key `task`, as text.

    Raises UsageError for anything else.
    """
    if text in PRESETS:
        return PRESETS[text]
    values = load_yaml_option(text, "--task")
    if not isinstance(values, Mapping):
        raise UsageError(
            f"--task {text!r}: expected {' or '.join(PRESETS)}, or fields and labels such as "
            "'{fields: [text], labels: [good, bad]}'"
        )
    return task_from(TaskSection(**values))


def task_of_file(
    data: str,
    *,
    task: str | None = None,
    recipe: Recipe | None = None,
    label_column: str | None = None,
    text_columns: Sequence[str] = (),
) -> FileTask:
    """Find the task of the rows that the data spec `data` names.

    task:         as for `parse_task`
    recipe:       take the task and columns from it
    label_column, text_columns: columns of the file; the text columns in the order of the task's
                  fields

    Where neither task nor recipe is given, a local file is described as `tutelage init` describes
    it, and `guess` says what was found; any other source is taken as NLI.

    Raises UsageError for a contradictory combination, DataError for a file without labels.
    """
    if recipe is not None:
        if task is not None or label_column or text_columns:
            raise UsageError(
                "got --recipe together with --task, --label-column or --text-columns: the recipe "
                "has the task and the columns, so change them there"
            )
        return FileTask(recipe.resolved_task(), recipe.data.columns or None)
    if task is not None:
        given = parse_task(task)
        return FileTask(given, _columns(given, label_column, text_columns))
    path = Path(data.partition("?")[0].partition("#")[0])
    if path.suffix.lower() not in FORMATS:
        return FileTask(NLI, _columns(NLI, label_column, text_columns))
    found = describe_file(path, label_column=label_column, text_columns=text_columns)
    return FileTask(
        NLI if found.is_nli else Task("task", found.fields, found.labels),
        dict(found.columns) or None,
        describe_guess(data, found),
    )


def describe_guess(data: str, found: Description) -> str:
    """One sentence on what was guessed from a file, for the user to check."""
    counts = ", ".join(f"{label} ({count:,})" for label, count in found.counts.items())
    fields = [found.columns.get(field, field) for field in found.fields]
    kind = "natural language inference" if found.is_nli else "classification"
    return (
        f"{data}: taken as {kind}: text from {', '.join(map(repr, fields))}, labels from "
        f"{found.label_column!r}: {counts} in the first {found.rows:,} rows"
    )


def _columns(
    task: Task, label_column: str | None, text_columns: Sequence[str]
) -> dict[str, str] | None:
    columns: dict[str, str] = {}
    if text_columns:
        if len(text_columns) != len(task.fields):
            raise UsageError(
                f"--text-columns: got {len(text_columns)} ({', '.join(text_columns)}), expected "
                f"one for each field of the task: {', '.join(task.fields)}"
            )
        columns |= dict(zip(task.fields, text_columns, strict=True))
    if label_column is not None:
        columns["label"] = label_column
    return {ours: theirs for ours, theirs in columns.items() if ours != theirs} or None
