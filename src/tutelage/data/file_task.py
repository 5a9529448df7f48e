"""Find the task of a data file: as the user states it, or guessed from the file and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.recipe import Recipe
from tutelage.config.sections import TaskSection, task_from
from tutelage.config.yaml_files import load_yaml_option
from tutelage.core.errors import UsageError
from tutelage.core.task import NLI, PRESETS, Task
from tutelage.data.describe import Description, describe_file
from tutelage.data.readers import FORMATS, format_of

_MOST_SHOWN = 8
"""Labels that a guess lists with their counts."""


@dataclass(frozen=True, slots=True)
class FileTask:
    """A task, and how a file is read as rows of it.

    guess: one sentence on what was guessed from the file; empty where the user stated the task
    """

    task: Task
    layout: LayoutSettings
    guess: str = ""


def parse_task(text: str) -> Task:
    """Parse `--task`: a value of the recipe's key `task`, as text.

    Raises UsageError for anything else.
    """
    for name, preset in PRESETS.items():
        if text == name:
            return preset
    values = load_yaml_option(text, "--task")
    if not isinstance(values, Mapping):
        raise UsageError(
            f"--task {text!r}: expected {', '.join(PRESETS)}, or fields and labels such as "
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
    layout: LayoutSettings | None = None,
) -> FileTask:
    """Find the task of the rows that the data spec `data` names.

    task:         as for `parse_task`
    recipe:       take the task, and how the file is read, from it
    label_column, text_columns: columns of the file; the text columns in the order of the task's
                  fields
    layout:      how the file is read, as far as the user says

    Where neither task nor recipe is given, a local file is described as `tutelage init` describes
    it, and `guess` says what was found; any other source is taken as NLI.

    Raises UsageError for a contradictory combination, DataError for a file without labels.
    """
    if recipe is not None:
        if task is not None or label_column or text_columns or layout is not None:
            raise UsageError(
                "got --recipe together with --task or options that say how a file is read: the "
                "recipe has the task and the section data, so change them there"
            )
        return FileTask(recipe.resolved_task(), recipe.data.layout())
    layout = layout or LayoutSettings()
    if task is not None:
        given = parse_task(task)
        return FileTask(given, _with_columns(layout, given, label_column, text_columns))
    path = Path(data.partition("?")[0].partition("#")[0])
    if format_of(path) not in FORMATS and not path.is_dir():
        return FileTask(NLI, _with_columns(layout, NLI, label_column, text_columns))
    found = describe_file(data, label=label_column, texts=text_columns, layout=layout)
    return FileTask(found.task, found.layout, describe_guess(data, found))


def describe_guess(data: str, found: Description) -> str:
    """One sentence on what was guessed from a file, for the user to check."""
    counts: dict[str, int] = {}
    for one in found.found:
        shown = one.label if one.value is None else f"{one.value} = {one.label}"
        counts[shown] = one.count
    listed = [f"{label} ({count:,})" for label, count in counts.items()]
    if len(listed) > _MOST_SHOWN:
        listed = [*listed[:_MOST_SHOWN], f"… {len(listed)} labels"]
    kind = "natural language inference" if found.preset == "nli" else "classification"
    rows = f"{'all' if found.complete else 'a sample of'} {found.rows:,} rows"
    return (
        f"{data}: taken as {kind}: text from {', '.join(map(repr, found.text_columns))}, labels "
        f"from {found.label_column!r}: {', '.join(listed)} in {rows}"
    )


def _with_columns(
    layout: LayoutSettings, task: Task, label_column: str | None, text_columns: Sequence[str]
) -> LayoutSettings:
    columns = dict(layout.columns)
    if text_columns:
        if len(text_columns) != len(task.fields):
            raise UsageError(
                f"--text-columns: got {len(text_columns)} ({', '.join(text_columns)}), expected "
                f"one for each field of the task: {', '.join(task.fields)}"
            )
        columns |= dict(zip(task.fields, text_columns, strict=True))
    if label_column is not None:
        columns["label"] = label_column
    return layout.replace(columns=columns)
