"""`tutelage init`: draft a recipe for a data file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.data_options import (
    PANEL,
    LabelColumnOption,
    TextColumnsOption,
    split_names,
)
from tutelage.cli.options import Given, takes
from tutelage.cli.terminal import command_of
from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.teacher_settings import DEFAULT_TEACHER

if TYPE_CHECKING:
    from tutelage.api import Description, PoolDescription


_LONGEST = 60
"""Characters of an unlabelled row that are shown."""

_SHOWN = 6
"""Labels that the heading of their list names."""


@takes(LayoutSettings, PANEL)
def init(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Training rows: a file, a folder#split or hf:NAME#SPLIT."
        ),
    ],
    given: Given,
    output: Annotated[Path, typer.Option(help="The recipe file to write.")] = Path("recipe.yaml"),
    dev: Annotated[str | None, typer.Option(help="Dev file (default: a tenth of train).")] = None,
    test: Annotated[str | None, typer.Option(help="Test file (default: a fifth of train).")] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(help="Rows without a label, which the teacher may label (default: none)."),
    ] = None,
    teacher: Annotated[
        str, typer.Option(help="The teacher: openai:MODEL, gguf:PATH, package:PACKAGE/FILE.")
    ] = DEFAULT_TEACHER,
    student: Annotated[
        str, typer.Option(help="The student: a hub name or folder, package:…, scratch:t5-tiny.")
    ] = "google-t5/t5-small",
    label_column: LabelColumnOption = None,
    text_columns: TextColumnsOption = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            metavar="A,B",
            help="The labels, where the file spells one in several ways.",
            rich_help_panel=PANEL,
        ),
    ] = None,
) -> None:
    """Write a recipe for a data file, to be read and changed before it is run.

    Looks at a sample of the file and prints what it understood.

    With --unlabelled the recipe compares what can be bought for the same spend: rationales of the
    labelled rows, and labels of unlabelled ones.

    Example: `tutelage init reviews.csv --output reviews.yaml`
    """
    from tutelage import api
    from tutelage.core.errors import UsageError

    if output.is_dir():
        raise UsageError(f"{output}: is a directory, expected the name of a file for the recipe")
    if output.exists():
        raise UsageError(f"{output}: exists already: name another file with --output, or remove it")
    text, found = api.draft(
        file,
        dev=dev,
        test=test,
        unlabelled=unlabelled,
        teacher=teacher,
        student=student,
        label_column=label_column,
        text_columns=split_names(text_columns),
        labels=split_names(labels),
        layout=given.build(LayoutSettings),
    )
    output.write_text(text, encoding="utf-8")
    for line in understood(file, found):
        print(line)
    print(f"Wrote {output}. Check it, then run: tutelage run {output}")


def understood(file: str, found: Description) -> list[str]:
    """What a file was taken for, in lines for the user to check."""
    rows = f"{found.rows:,} rows" if found.complete else f"a sample of {found.rows:,} rows"
    kind = {"nli": "NLI", "yes_no": "yes or no", "sentiment": "sentiment", None: "classification"}
    lines = [
        f"{file}: {rows}, taken for {kind[found.preset]}",
        "  text: "
        + ", ".join(
            field if field == column else f"{field} (column {column!r})"
            for field, column in zip(found.task.fields, _in_order(found), strict=True)
        )
        + (f"; several rows share a {found.task.context}" if found.task.context else ""),
        f"  labels {_some(found.task.labels)}, from column {found.label_column!r}:",
    ]
    lines += [
        f"    {one.label}{_written(one.value)}: {one.count:,} rows, such as {one.example!r}"
        for one in found.found
    ]
    if reason := found.layout.columns.get("reason"):
        listed = reason if isinstance(reason, str) else ", ".join(reason)
        lines.append(f"  reasons, not seen by the student: {listed}")
    if ids := found.layout.columns.get("uid"):
        lines.append(f"  ids of the rows: {ids}, of which none comes twice")
    if found.unlabelled:
        lines.append(f"  without a label, and left out: {found.unlabelled:,} rows")
    if found.left_aside:
        lines.append(f"  left aside: {', '.join(found.left_aside)}")
    lines += [f"  {note}" for note in found.notes]
    lines += pool_lines(found.pool) if found.pool is not None else []
    lines += [
        f"  to decide: {one.value!r} in {one.count:,} rows, such as {one.example!r}: a label, or "
        "none? The recipe has the line"
        for one in found.undecided
    ]
    return lines


def pool_lines(pool: PoolDescription) -> list[str]:
    """What a file of unlabelled rows was taken for, in lines for the user to check."""
    rows = f"{pool.rows:,} rows" if pool.complete else f"a sample of {pool.rows:,} rows"
    lines = [f"{pool.source}: {rows} for the teacher to label, such as {_short(pool.example)!r}"]
    lines += [
        f"  {number:,} of them {what}"
        for number, what in (
            (pool.labelled, "have a label, which is ignored"),
            (pool.known, "have the text of a labelled row: left out"),
            (pool.repeated, "repeat an earlier one: left out"),
            (pool.unreadable, f"cannot be read: left out; the first: {pool.first_fault}"),
        )
        if number
    ]
    return lines


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_SHOWN])
    return shown if len(labels) <= _SHOWN else f"{shown}, … ({len(labels)})"


def _in_order(found: Description) -> list[str]:
    columns = found.layout.columns
    return [str(columns.get(field, field)) for field in found.task.fields]


def _written(value: str | None) -> str:
    return "" if value is None else f" (in the file {value!r})"


app = command_of(init)
