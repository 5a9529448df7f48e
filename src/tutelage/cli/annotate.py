"""`tutelage annotate`: get rationales for a file of examples, or for a recipe's arms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.data_options import (
    PANEL,
    LabelColumnOption,
    RecipeOption,
    TaskOption,
    TextColumnsOption,
    file_task,
)
from tutelage.cli.options import Given, takes
from tutelage.cli.terminal import command_of
from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.scale_settings import ScaleSettings
from tutelage.config.teacher_settings import TeacherSettings

if TYPE_CHECKING:
    from tutelage.api import Summary


@takes(TeacherSettings, "Teacher", names={"model": "teacher"})
@takes(LayoutSettings, PANEL)
@takes(ScaleSettings, "Where the work is done")
def annotate(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A data file, hf:NAME#SPLIT, or a recipe (.yaml).")],
    given: Given,
    output: Annotated[
        Path, typer.Option(help="Where the rationales of a file go, one per line.")
    ] = Path("rationales.jsonl"),
    strategy: Annotated[
        str,
        typer.Option(
            help="informed_reasoning, information_extraction, template, human, or a plugin's; "
            "label and chain_of_thought label rows, whether they have a label or not."
        ),
    ] = "informed_reasoning",
    template: Annotated[
        Path | None, typer.Option(help="A file with a Jinja prompt, for --strategy template.")
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(
            help="Labelled rows to show in every prompt of label and chain_of_thought: a few of "
            "the training rows, such as train.csv?n=6."
        ),
    ] = None,
    task: TaskOption = None,
    recipe: RecipeOption = None,
    label_column: LabelColumnOption = None,
    text_columns: TextColumnsOption = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Pay for answers although the task was guessed from the file."),
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Do not wait for open batches: a later call collects them."),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Repeat requests that have failed permanently.")
    ] = False,
    ledger: Annotated[
        Path | None, typer.Option(help="The file that keeps paid answers ($TUTELAGE_LEDGER).")
    ] = None,
    runs: Annotated[Path, typer.Option(help="For a recipe: the folder of its runs.")] = Path(
        "runs"
    ),
) -> None:
    """Ask the teacher for a rationale for each row of a file, or for a recipe's arms.

    Answers are kept as they arrive, so the same command makes only the missing requests. Ctrl-C
    waits for requests in flight; a second Ctrl-C stops at once. Exit code 1 where rows are left
    without an answer, 130 after Ctrl-C.

    The strategies label and chain_of_thought label the rows: they need no label, and a label that
    a row has is not shown to the teacher, but compared with its answer.

    Example: `tutelage annotate train.jsonl --task nli --teacher openai:gpt-6-luna`
    """
    from tutelage import api
    from tutelage.cli.terminal import Bars, complain
    from tutelage.config.recipe_file import is_recipe, load_recipe
    from tutelage.core.errors import DataError, UsageError

    with Bars() as bars:
        if is_recipe(data):
            # Ignored in silence, they would be paid for in another way than was meant.
            if wrong := [*given.names(), *_file_options(context)]:
                raise UsageError(
                    f"{wrong[0]} is for a data file; a recipe has it as a key: change it in {data}"
                )
            done = api.annotate_recipe(
                load_recipe(data), runs, ledger, bars, retry_failed=retry_failed, wait=not no_wait
            )
        else:
            if _was_given(context, "runs"):
                raise UsageError("--runs is for a recipe: a data file's rationales go to --output")
            prompt = None if template is None else template.read_text(encoding="utf-8")
            settings = given.build(TeacherSettings) if given.values[TeacherSettings] else None
            asks_teacher, labels_rows = api.strategy_traits(strategy, prompt)
            if settings is None and asks_teacher:
                raise UsageError(
                    "no teacher is named: add --teacher, such as openai:MODEL for a server or "
                    "gguf:PATH for a model file"
                )
            try:
                found = file_task(data, task, recipe, label_column, text_columns, given)
            except DataError as error:
                if not labels_rows or task is not None or recipe is not None:
                    raise
                raise UsageError(
                    f"--strategy {strategy} needs the labels to choose from, and the file does not "
                    "say them: give them with --recipe, or with --task, such as '{fields: [text], "
                    f"labels: [good, bad]}}' ({error})"
                ) from error
            if found.guess:
                bars.note(found.guess)
                if settings is not None and settings.remote and not yes:
                    raise UsageError(
                        f"nothing was sent, because the task is a guess: {found.guess}. If it is "
                        "right, add --yes; if not, give the task with --task or --recipe"
                    )
            done = api.annotate_file(
                data,
                strategy,
                prompt,
                settings,
                output,
                ledger,
                bars,
                task=found.task,
                layout=found.layout,
                shots=shots,
                retry_failed=retry_failed,
                wait=not no_wait,
                scale=given.build(ScaleSettings),
            )
    unanswered = sum(_show(path, summary) for path, summary in done.items())
    if unanswered:
        complain(
            f"{_rows(unanswered)} no answer: the same command repeats requests that may succeed, "
            "--retry-failed all of them; the file has the reason for each row"
        )
        raise typer.Exit(1)


_WITH_A_RECIPE = {"data", "runs", "ledger", "no_wait", "retry_failed", "yes"}


def _file_options(context: typer.Context) -> list[str]:
    return [
        "--" + name.replace("_", "-")
        for name in context.params
        if _was_given(context, name)
        and name not in _WITH_A_RECIPE
        and not name.startswith("setting_")
    ]


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _show(path: Path, summary: Summary) -> int:
    """Print the summary of one file of rationales; return how many of its rows have no answer."""
    from tutelage.cli.terminal import complain

    counts = ", ".join(f"{count} {status}" for status, count in summary.counts.items() if count)
    cost = "" if not summary.cost_usd else f"; ${summary.cost_usd:.4f}"
    print(
        f"{path}: {counts or 'no rows'}; {summary.requests} requests, {summary.cached} answers "
        f"from the ledger{cost}"
    )
    if (found := summary.agreement) is not None:
        from tutelage.core.wording import percent, percent_interval, several

        print(
            f"  the same label as {several(found.rows, 'row')} that had one: {found.agreed:,} "
            f"({percent(found.agreed / found.rows)}, 95% interval {percent_interval(found.ci95)})"
        )
    for reason, count in summary.failures.items():
        print(f"  {count} failed: {reason}: {summary.examples[reason]}")
    for reason, count in summary.unparsable.items():
        print(f"  {count} failed: the answer could not be parsed: {reason}")
    if cut := summary.counts["truncated"]:
        complain(
            f"{_rows(cut)} an answer that was cut at the token limit and is not trained on. A "
            "larger max_tokens means a new request for every row",
            label="note",
        )
    return sum(summary.failures.values())


def _rows(count: int) -> str:
    return "1 row has" if count == 1 else f"{count} rows have"


app = command_of(annotate)
