"""`tutelage init`: draft a recipe for a data file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.terminal import command_of
from tutelage.config.teacher_settings import DEFAULT_TEACHER


def init(
    file: Annotated[Path, typer.Argument(help="Training rows: .jsonl, .csv or .parquet.")],
    output: Annotated[Path, typer.Option(help="The recipe file to write.")] = Path("recipe.yaml"),
    dev: Annotated[str | None, typer.Option(help="Dev file (default: a tenth of train).")] = None,
    test: Annotated[str | None, typer.Option(help="Test file (default: a fifth of train).")] = None,
    teacher: Annotated[
        str, typer.Option(help="The teacher: openai:MODEL, gguf:PATH, package:PACKAGE/FILE.")
    ] = DEFAULT_TEACHER,
    student: Annotated[
        str, typer.Option(help="The student: a hub name or folder, package:…, scratch:t5-tiny.")
    ] = "google-t5/t5-small",
) -> None:
    """Write a recipe for a data file, to be read and changed before it is run.

    Example: `tutelage init reviews.csv --output reviews.yaml`
    """
    from tutelage import api
    from tutelage.cli.terminal import out_console
    from tutelage.core.errors import UsageError

    if output.exists():
        raise UsageError(f"{output}: exists already: name another file with --output, or remove it")
    text, found = api.draft(file, dev=dev, test=test, teacher=teacher, student=student)
    output.write_text(text, encoding="utf-8")
    say = out_console().print
    kind = "NLI" if found.is_nli else f"labels {', '.join(found.labels)}"
    say(
        f"{file}: {kind} in column {found.label_column!r}; text: {', '.join(found.fields)}",
        markup=False,
    )
    say(f"Wrote {output}. Check it, then run: tutelage run {output}", markup=False)


app = command_of(init)
